"""`safeguard update` goes only where old and new replicas can work side by side; it says what else is to be done."""

from pathlib import Path
from typing import Any

import pytest

from configs.settings import Settings
from graphs.cluster import why_not
from graphs.updating import same_ray, same_schema, update
from storage.database import create_engine
from storage.errors import ConfigurationError
from storage.migrate import newest_revision, revision


def test_without_an_installation_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no installation"):
        update(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_does_not_run_is_to_be_started(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not run: `safeguard up`"):
        update(tmp_path)


def test_another_ray_takes_a_restart() -> None:
    same_ray("2.60.0", "2.60.0")
    with pytest.raises(ConfigurationError, match=r"Ray 2\.60\.0 runs and 2\.61\.0 is installed.*safeguard down"):
        same_ray("2.60.0", "2.61.0")


def test_another_schema_takes_a_restart() -> None:
    same_schema("0012", "0012")
    for held in ("0011", None):
        with pytest.raises(ConfigurationError, match="needs schema 0012 and the database has"):
            same_schema(held, "0012")


async def test_the_revision_is_that_of_the_database(servers: Settings) -> None:
    engine = create_engine(servers, pool_size=1)
    assert await revision(engine) == newest_revision()
    await engine.dispose()


TRACEBACK = """The deployment failed to start 3 times in a row. Error:
\x1b[36mray::ServeReplica:safeguard:Detector.initialize\x1b[39m (pid=7, ip=127.0.0.1)
  File "replica.py", line 3521, in initialize
RuntimeError: Traceback (most recent call last):
  File "detector.py", line 60, in __init__
storage.errors.ConfigurationError: the weights of lite0 are missing: models/lite0.onnx
"""


@pytest.mark.parametrize(
    ("application", "said"),
    [
        (
            {"message": "some failed", "deployments": {
                "Detector": {"status": "DEPLOY_FAILED", "message": TRACEBACK},
                "Embedder": {"status": "UPDATING", "message": "one of two is new"},
            }},
            "Detector: storage.errors.ConfigurationError: the weights of lite0 are missing: models/lite0.onnx",
        ),
        (
            {"deployments": {"A": {"status": "UNHEALTHY", "message": "OSError: a\n  x\nstorage.errors.Unavailable: no\n"}}},
            "A: storage.errors.Unavailable: no",
        ),
        ({"message": "Traceback:\n  File\nValueError: no such option\n", "deployments": {}}, "ValueError: no such option"),
        ({"message": "it takes too long", "deployments": {"A": {"status": "DEPLOY_FAILED", "message": ""}}}, "it takes too long"),
        ({}, "Ray gives no reason"),
    ],
)  # fmt: skip
def test_the_reason_of_a_release_that_does_not_start_is_one_error(application: dict[str, Any], said: str) -> None:
    assert why_not(application) == said
