"""The audit: one gapless chain however many write, nothing without its transaction, no way to change what is written."""

import asyncio
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage.audit import record, record_many
from storage.audit_chain import FIRST_PREVIOUS, entry_hash, parsed
from storage.database import create_engine
from storage.errors import InvalidInput
from tests.installation import tampering


@pytest_asyncio.fixture
async def engine(alone: Settings) -> Any:
    """An engine on a database of this module's own, with an empty audit."""
    made = create_engine(alone, pool_size=8)
    async with made.begin() as connection, tampering(connection):
        await connection.execute(text("TRUNCATE audit"))
    yield made
    await made.dispose()


async def rows(engine: AsyncEngine) -> list[Any]:
    statement = "SELECT sequence, at, actor, action, subject, detail::text AS detail, previous_hash, hash FROM audit"
    async with engine.connect() as connection:
        return list((await connection.execute(text(f"{statement} ORDER BY sequence"))).all())


def assert_unbroken(found: list[Any]) -> None:
    previous = FIRST_PREVIOUS
    for number, row in enumerate(found, 1):
        assert (row.sequence, row.previous_hash) == (number, previous)
        detail = parsed(row.detail)
        previous = entry_hash(previous, number, row.at, row.actor, row.action, row.subject, detail)
        assert row.hash == previous
    assert [row.at for row in found] == sorted(row.at for row in found)


async def test_eight_writers_give_one_gapless_chain(engine: AsyncEngine) -> None:
    async def write(writer: int) -> None:
        for number in range(25):
            async with engine.begin() as connection:
                await record(connection, f"writer {writer}", "test.write", f"image/{number}", {"number": number})

    await asyncio.gather(*(write(writer) for writer in range(8)))
    found = await rows(engine)
    assert len(found) == 200
    assert_unbroken(found)
    for writer in range(8):
        mine = [row.subject for row in found if row.actor == f"writer {writer}"]
        assert mine == [f"image/{number}" for number in range(25)]


async def test_a_rollback_leaves_no_gap_and_one_call_keeps_its_order(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await record(connection, "a", "x.first", "s", {})
    async with engine.connect() as connection:
        await record(connection, "a", "x.lost", "s", {})
        await connection.rollback()
    async with engine.begin() as connection:
        await record_many(connection, "a", [("x.second", "s", {"n": 1}), ("x.third", "t", {"n": 2})])
        await record(connection, "b", "x.fourth", "s", {})
        await record_many(connection, "b", [])
    found = await rows(engine)
    assert [row.action for row in found] == ["x.first", "x.second", "x.third", "x.fourth"]
    assert_unbroken(found)


NUMBERS: list[int | float] = [
    0, -0.0, 1, 1.0, -1.5, 0.1, 1e-7, 5e-324, 1.7976931348623157e308, 1e16, 1e22, 2**53 + 1, -(2**63) - 1, 10**400 + 7,
    0.1 + 0.2, 123456789.123456789, 1e-300, True, False,
]  # fmt: skip


async def test_any_number_and_text_keeps_its_hash_through_jsonb(engine: AsyncEngine) -> None:
    details: list[dict[str, Any]] = [{"number": number} for number in NUMBERS]
    details += [
        {}, {"б": "кот", "a": None, "B": [], "ab": {}, "": [[1, {"z": 1, "é": 2}]]}, {"😀": 1, "\uffff": 2, "\x7f": 3},
        {"text": '"\\/\b\f\n\r\t\x01\x1f\x7f\u2028é😀'}, {"tuple": (1, 2)}, {"deep": _nested(98)},
    ]  # fmt: skip
    async with engine.begin() as connection:
        await record_many(connection, "Ж", [("x.y", 'q"uo\\te', detail) for detail in details])
    found = await rows(engine)
    assert len(found) == len(details)
    assert_unbroken(found)
    assert [parsed(row.detail)["number"] for row in found[: len(NUMBERS)]] == [
        parsed(repr(number)) if not isinstance(number, bool) else number for number in NUMBERS
    ]


def _nested(levels: int) -> list[Any]:
    return [_nested(levels - 1)] if levels > 1 else []


@pytest.mark.parametrize(
    "detail",
    [
        {"n": float("nan")}, {"n": float("inf")}, {"n": 1e400}, {"n": -(10**1000)}, {"t": "a\0b"}, {"a\0b": 1},
        {"t": "\ud800"}, {1: "one"}, {"t": b"bytes"}, {"t": {1, 2}}, {"deep": _nested(100)},
    ],
)  # fmt: skip
async def test_what_cannot_be_kept_is_refused_and_nothing_is_written(
    engine: AsyncEngine, detail: dict[str, Any]
) -> None:
    async with engine.begin() as connection:
        with pytest.raises(InvalidInput):
            await record_many(connection, "a", [("x.y", "s", {}), ("x.y", "s", detail)])
        await record(connection, "a", "x.z", "s", {})  # the transaction goes on
    assert [row.action for row in await rows(engine)] == ["x.z"]


@pytest.mark.parametrize("words", [("a\0", "x.y", "s"), ("a", "x\0", "s"), ("a", "x.y", "s\0"), ("\udc00", "x.y", "s")])
async def test_texts_that_postgresql_cannot_hold_are_refused(engine: AsyncEngine, words: tuple[str, str, str]) -> None:
    async with engine.begin() as connection:
        with pytest.raises(InvalidInput):
            await record(connection, *words, {})
    assert await rows(engine) == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'x'", "UPDATE audit SET actor = 'x' WHERE false", "DELETE FROM audit", "TRUNCATE audit",
        "TRUNCATE image, audit CASCADE",
        "INSERT INTO audit SELECT * FROM audit ON CONFLICT (sequence) DO UPDATE SET actor = 'x'",
        "SET LOCAL session_replication_role = replica; DELETE FROM audit",
    ],
)  # fmt: skip
async def test_the_database_refuses_to_change_the_audit(engine: AsyncEngine, statement: str) -> None:
    async with engine.begin() as connection:
        await record(connection, "a", "x.y", "s", {})
    before = await rows(engine)
    async with engine.connect() as connection:
        with pytest.raises(DBAPIError, match="append-only"):
            for one in statement.split("; "):
                await connection.execute(text(one))
    assert await rows(engine) == before


async def test_an_entry_that_does_not_follow_the_last_is_refused_by_the_key(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await record(connection, "a", "x.y", "s", {})
    for values in ("1, now(), 'a', 'a', 's', '{}', sha256(''), sha256('')", "2, now(), 'a', 'a', 's', '{}', '', ''"):
        columns = "sequence, at, actor, action, subject, detail, previous_hash, hash"
        async with engine.connect() as connection:
            with pytest.raises(DBAPIError, match=r"audit_pkey|audit_hashes_whole"):
                await connection.exec_driver_sql(f"INSERT INTO audit ({columns}) VALUES ({values})")
