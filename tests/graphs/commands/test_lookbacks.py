"""`safeguard lookbacks` on an installation of its own."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from configs.settings import Settings
from graphs.opening import opened
from safeguard import app
from storage.errors import Conflict, NotFound
from tests.installation import apart


@pytest.fixture(scope="module")
def folder(servers: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with apart(servers) as settings:
        made = tmp_path_factory.mktemp("home")
        assert settings.database_url is not None
        (made / "settings.env").write_text(f"SAFEGUARD_DATABASE_URL='{settings.database_url.get_secret_value()}'\n")
        yield made


def run(folder: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["lookbacks", *arguments, "--home", str(folder)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def change(folder: Path, assignment: str) -> None:
    async def execute() -> None:
        async with opened(folder) as (_, engine), engine.begin() as connection:
            await connection.execute(text(f"UPDATE look_back SET {assignment}"))

    asyncio.run(execute())


def test_one_is_started_shown_cancelled_tried_again_and_followed(folder: Path) -> None:
    assert "look-back 1;" in run(folder, "start", "--reason", "a [red] repair")[1]
    assert "look-back 1;" in run(folder, "start")[1]  # it has not been begun
    assert "[red]" in run(folder, "list")[1]
    assert "judge: a [red] repair, by command line" in run(folder, "show", "1")[1]
    assert run(folder, "cancel", "1") == (0, "look-back 1 is cancelled\n")
    code, said = run(folder, "follow", "1")
    assert code == 1 and "look-back 1 cancelled: 0%" in said and "safeguard lookbacks retry 1" in said
    assert run(folder, "retry", "1") == (0, "look-back 1 is waiting\n")
    change(folder, "state = 'dead', failure = 'it fell', skipped = 21, skips = '[\"image 9: [red]\"]'")
    code, said = run(folder, "follow", "1")
    assert code == 1 and "it fell" in said and "skipped image 9: [red]\n… and 20 more" in said
    change(folder, "state = 'done', images_done = 30, worked_s = 2, failure = NULL")
    code, said = run(folder, "follow", "1")
    assert code == 0 and "look-back 1 done: 100%, 21 skipped, 30 images judged" in said and "15.0 images/s" in said
    with pytest.raises(Conflict, match="is done"):
        run(folder, "retry", "1")
    with pytest.raises(NotFound, match="no bank 7"):
        run(folder, "start", "--bank", "7")
    with pytest.raises(NotFound, match="no look-back 99"):
        run(folder, "show", "99")
