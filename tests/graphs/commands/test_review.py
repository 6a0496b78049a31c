"""`safeguard review` and `safeguard moderate`, against a database of their own."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner

from configs.settings import Settings
from graphs.opening import opened
from safeguard import app
from storage.errors import Conflict, InvalidInput, NotFound, StaleClaim
from storage.objects import ObjectStore
from tests.filtering import DOUBTFUL, SAFE, linked, processed
from tests.installation import apart


@pytest.fixture(scope="module")
def settings(servers: Settings) -> Iterator[Settings]:
    with apart(servers) as made:
        yield made


@pytest.fixture
def place(settings: Settings, tmp_path: Path) -> Path:
    """A folder that leads to the database, which has two doubtful pictures and a safe copy of the first."""
    assert settings.database_url is not None
    (tmp_path / "settings.env").write_text(f"SAFEGUARD_DATABASE_URL='{settings.database_url.get_secret_value()}'\n")

    async def fill(engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            await connection.execute(text("TRUNCATE image, decision RESTART IDENTITY CASCADE"))
        objects = ObjectStore(settings)
        assert await processed(engine, objects, [DOUBTFUL, DOUBTFUL, SAFE]) == [1, 2, 3]
        objects.close()
        await linked(engine, 1, 3)
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE image SET name = :name WHERE id = 1"), {"name": "\x1b[31m[red]x"})

    on(tmp_path, fill)
    return tmp_path


def on(home: Path, act: Callable[[AsyncEngine], Any]) -> Any:
    async def within() -> Any:
        async with opened(home) as (_, engine):
            return await act(engine)

    return asyncio.run(within())


def run(home: Path, *arguments: str, answer: str | None = None) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*arguments, "--home", str(home)], input=answer, env={"COLUMNS": "200"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def decided(home: Path, image: int) -> list[tuple[Any, ...]]:
    async def read(engine: AsyncEngine) -> list[tuple[Any, ...]]:
        statement = "SELECT verdict, actor, cause, reason FROM decision WHERE image_id = :id ORDER BY id"
        async with engine.connect() as connection:
            return [tuple(row) for row in await connection.execute(text(statement), {"id": image})]

    made: list[tuple[Any, ...]] = on(home, read)
    return made


def test_a_review_from_the_queue_to_the_reversal(place: Path) -> None:
    code, said = run(place, "review", "list")
    assert code == 0 and "possibly-unsafe-content" in said and "[red]x" in said and "\x1b" not in said
    code, said = run(place, "review", "next", "--as", "anna")
    assert code == 0 and "image 1: review (severity 5, rule possibly-unsafe-content)" in said
    assert "preview: /api/v1/image/1/file?preview=blurred" in said
    assert "image 2: review" in run(place, "review", "next", "--as", "boris")[1]
    code, said = run(place, "review", "next", "--as", "vera")
    assert (code, said) == (3, "no image waits for a review\n")
    with pytest.raises(StaleClaim):
        run(place, "review", "decide", "1", "block", "--reason", "x", "--as", "boris")
    code, said = run(place, "review", "decide", "1", "block", "--reason", "учебник 'взрывника'", "--as", "anna")
    assert code == 0 and "image 1: block (severity 5, command line: anna): учебник 'взрывника'" in said
    assert run(place, "review", "release", "2", "--as", "boris") == (0, "image 2 waits for others\n")
    assert "image 2" in run(place, "review", "next", "--as", "anna")[1]
    code, said = run(place, "moderate", "1", "reverse", "--reason", "a mistake", "--as", "anna")
    assert code == 0 and "image 1: review (severity 5, rule possibly-unsafe-content)" in said
    assert [one[:3] for one in decided(place, 1)] == [
        ("review", "policy", "processed"), ("block", "command line: anna", "review"), ("review", "policy", "reversal"),
    ]  # fmt: skip


def test_a_cluster_is_shown_before_it_is_decided(place: Path) -> None:
    call = ("moderate", "1", "block", "--reason", "seen", "--cluster")
    code, said = run(place, *call, answer="n\n")
    assert code == 1 and "1 review, 1 allow" in said and "decide on these 2 images?" in said
    assert len(decided(place, 1)) == 1
    code, said = run(place, *call, answer="y\n")
    assert code == 0 and "2 images were decided on" in said
    assert [decided(place, one)[-1][0] for one in (1, 3)] == ["block", "block"]
    code, said = run(place, "moderate", "3", "reverse", "--reason", "oh", "--cluster", "--yes")
    assert code == 0 and "2 images were decided on" in said and "image 3: allow" in said


def test_an_image_is_sent_to_review(place: Path) -> None:
    assert run(place, "moderate", "3", "review", "--reason", "odd", "--severity", "9")[0] == 0
    code, said = run(place, "review", "next", "--as", "anna")
    assert code == 0 and "image 3: review (severity 9, command line: " in said


def test_bad_input_changes_nothing(place: Path) -> None:
    for call in (
        ("moderate", "1", "destroy", "--reason", "x"), ("moderate", "1", "block"), ("moderate", "0", "block", "--reason", "x"),
        ("moderate", str(2**63), "block", "--reason", "x"), ("moderate", "1", "block", "--reason", "x", "--severity", "11"),
        ("moderate", "1", "reverse", "--reason", "x", "--severity", "3"), ("review", "decide", "1", "review", "--reason", "x"),
        ("review", "list", "--limit", "0"),
    ):  # fmt: skip
        assert run(place, *call)[0] == 2, call
    for reason in ("", " ", "x" * 1001, "\udc80"):
        with pytest.raises(InvalidInput, match="reason"):
            run(place, "moderate", "1", "block", "--reason", reason)
    for name in ("", "x" * 121, "\udc80"):
        with pytest.raises(InvalidInput, match="name"):
            run(place, "review", "next", "--as", name)
    with pytest.raises(NotFound, match=f"no image {10**18}"):
        run(place, "moderate", str(10**18), "block", "--reason", "x")
    with pytest.raises(Conflict, match="no person has decided"):
        run(place, "moderate", "1", "reverse", "--reason", "x")
    for command in ("decide", "release"):
        more = ("allow", "--reason", "x") if command == "decide" else ()
        with pytest.raises(StaleClaim, match="is review by policy"):
            run(place, "review", command, "1", *more)
        with pytest.raises(NotFound):
            run(place, "review", command, str(10**18), *more)
    assert len(decided(place, 1)) == 1
