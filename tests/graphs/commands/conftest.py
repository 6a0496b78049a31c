"""A folder that leads the command line to a database of a module's own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from configs.settings import Settings
from safeguard import app

Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def folder(alone: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("home")
    assert alone.database_url is not None
    (made / "settings.env").write_text(f"SAFEGUARD_DATABASE_URL='{alone.database_url.get_secret_value()}'\n")
    return made


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output of one command; errors of ours are raised."""
    done = CliRunner().invoke(app, [*arguments, "--home", str(folder)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output
