"""A release is named among the application's options: kept when the same file is deployed again, replaced by an update."""

import re
from typing import Any

from graphs.releases import name_release, new_release, release_of
from graphs.serving import ServingOptions


def content() -> dict[str, Any]:
    return {"applications": [{"name": "safeguard", "args": {"pipeline": {"batch_size": 8}}}, {"name": "bare"}]}


def running(release: str | None) -> dict[str, Any]:
    args = {"pipeline": {}} | ({"release": release} if release else {})
    return {
        "safeguard": {"status": "RUNNING", "deployed_app_config": {"args": args}},
        "bare": {"deployed_app_config": None},
    }


def test_a_new_release_is_named_beside_the_other_options() -> None:
    made = content()
    name_release(made, running("old"), "new")
    assert made["applications"][0]["args"] == {"pipeline": {"batch_size": 8}, "release": "new"}
    assert made["applications"][1]["args"] == {"release": "new"}
    ServingOptions.model_validate(made["applications"][0]["args"])


def test_the_running_release_is_kept() -> None:
    made = content()
    name_release(made, running("old"), None)
    assert made["applications"][0]["args"]["release"] == "old" and "args" not in made["applications"][1]


def test_where_nothing_was_named_nothing_changes() -> None:
    for held in ({}, running(None)):
        made = content()
        name_release(made, held, None)
        assert made == content()


def test_a_name_is_a_time_that_the_options_take() -> None:
    made = new_release()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made)
    assert ServingOptions(release=made).release == made
    assert release_of({"deployed_app_config": {"args": {"release": made}}}) == made and release_of({}) is None
