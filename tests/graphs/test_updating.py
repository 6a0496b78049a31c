"""`safeguard update` goes only where old and new replicas can work side by side; it says what else is to be done."""

from pathlib import Path

import pytest

from configs.settings import Settings
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
