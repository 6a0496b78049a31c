"""The dashboards are what the script makes, and show every metric of the catalogue or an alert asks for it."""

from itertools import pairwise
from typing import Any

import pytest

from deployments.metrics.catalogue import METRICS
from tests.configs.monitoring.test_alerts import rules
from tools import dashboards
from tools.panels import BOARDS, RAYS_OWN

EXPORTED = {metric.exported for metric in METRICS}


def asked() -> set[str]:
    """The metrics that panels ask for."""
    queries = [query for _, panels in BOARDS.values() for panel in panels for query, _ in panel.queries]
    return set().union(*(dashboards.names_in(query) for query in queries))


@pytest.mark.parametrize("uid", BOARDS)
def test_the_files_are_not_stale(uid: str) -> None:
    path = dashboards.FOLDER / f"{uid}.json"
    assert path.read_text() == dashboards.text(uid), "run python -m tools.dashboards"


def test_no_other_file_lies_there() -> None:
    assert {path.stem for path in dashboards.FOLDER.glob("*.json")} == set(BOARDS)


def test_panels_ask_for_what_there_is() -> None:
    assert asked() <= EXPORTED | {f"{name}_bucket" for name in EXPORTED} | RAYS_OWN.keys()


def test_every_metric_is_used() -> None:
    used = asked().union(*(dashboards.names_in(rule["expr"]) for rule in rules()))
    assert {name for name in EXPORTED if name not in used and f"{name}_bucket" not in used} == set()
    assert set(RAYS_OWN) <= used


@pytest.mark.parametrize("uid", BOARDS)
def test_panels_do_not_overlap_and_have_titles_of_their_own(uid: str) -> None:
    panels: list[dict[str, Any]] = dashboards.board(uid)["panels"]
    assert len({panel["title"] for panel in panels}) == len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24 and not own & taken, panel["title"]
        taken |= own
    for panel in panels:
        references = [target["refId"] for target in panel["targets"]]
        assert references == sorted(set(references)) and all(a < b for a, b in pairwise(references))
