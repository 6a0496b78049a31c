"""Whoever tampers with the audit, with the trigger switched off, is found at the place."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from configs.settings import Settings
from storage.audit import record_many
from storage.audit_chain import FIRST_PREVIOUS, entry_hash, parsed
from storage.audit_check import Fault, verify
from storage.audit_log import EMPTY, Head, entries, head
from storage.database import create_engine
from tests.installation import apart, tampering

COUNT = 12


@pytest.fixture(scope="module")
def alone(servers: Settings) -> Iterator[Settings]:
    with apart(servers) as settings:
        yield settings


@pytest_asyncio.fixture
async def engine(alone: Settings) -> Any:
    """An engine on a database of this module's own, with twelve entries in its audit."""
    made = create_engine(alone, pool_size=2)
    async with made.begin() as connection, tampering(connection):
        await connection.execute(text("TRUNCATE audit"))
    listed = [(f"thing.{'ab'[n % 2]}", f"image/{n % 3}", {"n": n, "score": n / 7}) for n in range(COUNT)]
    async with made.begin() as connection:
        await record_many(connection, "test", listed[:7])
    async with made.begin() as connection:
        await record_many(connection, "other", listed[7:])
    yield made
    await made.dispose()


async def tamper(engine: AsyncEngine, *statements: str) -> None:
    async with engine.begin() as connection, tampering(connection):
        for statement in statements:
            await connection.exec_driver_sql(statement)


async def rechain(connection: AsyncConnection, first: int) -> None:
    """Gives every entry from ``first`` on fitting hashes, as somebody with all rights can."""
    row = (await connection.execute(text("SELECT hash FROM audit WHERE sequence = :n"), {"n": first - 1})).one_or_none()
    previous = row.hash if row else FIRST_PREVIOUS
    statement = "SELECT *, detail::text AS written FROM audit WHERE sequence >= :first ORDER BY sequence"
    for one in (await connection.execute(text(statement), {"first": first})).all():
        digest = entry_hash(
            previous, one.sequence, one.at, one.actor, one.action, one.subject, parsed(one.written)
        )  # fmt: skip
        change = text("UPDATE audit SET previous_hash = :previous, hash = :hash WHERE sequence = :n")
        await connection.execute(change, {"previous": previous, "hash": digest, "n": one.sequence})
        previous = digest


async def found(engine: AsyncEngine, known: Head | None = None) -> tuple[int, Fault] | None:
    """The first broken place and what is wrong; the same with small pages."""
    checked = await verify(engine, known=known)
    assert await verify(engine, known=known, page=3) == checked
    return (checked.broken.sequence, checked.broken.fault) if checked.broken else None


async def test_an_untouched_chain_holds(engine: AsyncEngine) -> None:
    checked = await verify(engine, page=5)
    assert checked.broken is None and checked.head.sequence == COUNT
    assert checked.head == await head(engine) == Head.parse(str(checked.head))
    assert await found(engine, checked.head) is None
    assert await found(engine, EMPTY) is None


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("at = at + interval '1 microsecond'", Fault.ALTERED),
        ("at = 'infinity'", Fault.ALTERED),
        ("at = at - interval '4000 years'", Fault.ALTERED),
        ("at = at + interval '200000 years'", Fault.ALTERED),
        ("actor = 'somebody'", Fault.ALTERED),
        ("action = action || ' '", Fault.ALTERED),
        ("subject = 'image/77'", Fault.ALTERED),
        ("detail = detail || '{\"n\": -1}'", Fault.ALTERED),
        ("detail = jsonb_set(detail, '{score}', to_jsonb((detail->>'score')::numeric + 1e-30))", Fault.ALTERED),
        ("detail = detail - 'n'", Fault.ALTERED),
        ("detail = 'null'", Fault.ALTERED),
        ("detail = ('{\"n\": ' || repeat('[', 3000) || repeat(']', 3000) || '}')::jsonb", Fault.ALTERED),
        ("detail = ('{\"n\": ' || repeat('9', 100000) || '}')::jsonb", Fault.ALTERED),
        ("previous_hash = sha256('')", Fault.ALTERED),
        ("hash = sha256('')", Fault.ALTERED),
        ("previous_hash = sha256('a'), hash = sha256('b')", Fault.ALTERED),
        ("sequence = 1000", Fault.REORDERED),
    ],
)
@pytest.mark.parametrize("place", [1, 5, 11])
async def test_an_altered_column_is_found(engine: AsyncEngine, change: str, fault: Fault, place: int) -> None:
    await tamper(engine, f"UPDATE audit SET {change} WHERE sequence = {place}")
    assert await found(engine) == (place, fault)


async def test_a_value_that_is_the_same_in_another_spelling_is_the_same(engine: AsyncEngine) -> None:
    await tamper(engine, "UPDATE audit SET detail = detail || '{\"n\": 4.00}' WHERE sequence = 5")
    assert await found(engine) is None


@pytest.mark.parametrize(("first", "last"), [(1, 1), (1, 3), (5, 5), (5, 8), (10, 11)])
@pytest.mark.parametrize("renumbered", [False, True])
async def test_missing_entries_are_found(engine: AsyncEngine, first: int, last: int, renumbered: bool) -> None:
    await tamper(engine, f"DELETE FROM audit WHERE sequence BETWEEN {first} AND {last}")
    if renumbered:
        for place in range(last + 1, COUNT + 1):
            await tamper(engine, f"UPDATE audit SET sequence = {place - (last - first + 1)} WHERE sequence = {place}")
    assert await found(engine) == (first, Fault.MISSING)


async def test_a_cut_off_end_is_seen_with_a_known_head_only(engine: AsyncEngine) -> None:
    known = await head(engine)
    await tamper(engine, f"DELETE FROM audit WHERE sequence = {COUNT}")
    assert await found(engine) is None
    assert await found(engine, known) == (COUNT, Fault.CUT_OFF)
    await tamper(engine, "DELETE FROM audit")
    assert await found(engine) is None and await head(engine) == EMPTY
    assert await found(engine, known) == (1, Fault.CUT_OFF)


@pytest.mark.parametrize(("one", "other"), [(1, 2), (4, 5), (3, 9), (1, COUNT), (11, COUNT)])
async def test_swapped_entries_are_found(engine: AsyncEngine, one: int, other: int) -> None:
    await tamper(
        engine,
        f"UPDATE audit SET sequence = -1 WHERE sequence = {one}",
        f"UPDATE audit SET sequence = {one} WHERE sequence = {other}",
        f"UPDATE audit SET sequence = {other} WHERE sequence = -1",
    )
    assert await found(engine) == (one, Fault.REORDERED)


async def make_room(engine: AsyncEngine, place: int, count: int = 1) -> None:
    moves = (f"UPDATE audit SET sequence = {one + count} WHERE sequence = {one}" for one in range(COUNT, place - 1, -1))
    await tamper(engine, *moves)


INSERT = "INSERT INTO audit (sequence, at, actor, action, subject, detail, previous_hash, hash)"


@pytest.mark.parametrize("place", [1, 5, COUNT])
@pytest.mark.parametrize("fitting", [False, True])
async def test_an_inserted_entry_is_found(engine: AsyncEngine, place: int, fitting: bool) -> None:
    await make_room(engine, place)
    await tamper(engine, f"{INSERT} SELECT {place}, now(), 'x', 'x.y', 's', '{{}}', sha256(''), sha256('')")
    if fitting:  # with hashes that fit behind the entry before it
        async with engine.begin() as connection, tampering(connection):
            rest = (
                await connection.execute(text("DELETE FROM audit WHERE sequence > :n RETURNING *"), {"n": place})
            ).all()
            await rechain(connection, place)
            columns = "sequence, at, actor, action, subject, detail, previous_hash, hash"
            values = ":sequence, :at, :actor, :action, :subject, CAST(:detail AS jsonb), :previous_hash, :hash"
            again = [dict(one._mapping) | {"detail": json.dumps(one.detail)} for one in rest]
            await connection.execute(text(f"INSERT INTO audit ({columns}) VALUES ({values})"), again)
    assert await found(engine) == (place, Fault.INSERTED)


async def test_an_entry_before_the_first_or_behind_the_last_is_found(engine: AsyncEngine) -> None:
    await tamper(engine, f"{INSERT} VALUES (0, now(), 'x', 'x.y', 's', '{{}}', sha256(''), sha256(''))")
    assert await found(engine) == (0, Fault.INSERTED)
    await tamper(engine, f"UPDATE audit SET sequence = {COUNT + 1} WHERE sequence = 0")
    assert await found(engine) == (COUNT + 1, Fault.ALTERED)


async def test_an_entry_altered_with_its_hash_is_found_by_the_next(engine: AsyncEngine) -> None:
    async with engine.begin() as connection, tampering(connection):
        await connection.execute(text("UPDATE audit SET actor = 'x' WHERE sequence = 5"))
        later = (
            await connection.execute(text("SELECT sequence, previous_hash, hash FROM audit WHERE sequence > 5"))
        ).all()
        await rechain(connection, 5)
        for one in later:
            restore = text("UPDATE audit SET previous_hash = :previous_hash, hash = :hash WHERE sequence = :sequence")
            await connection.execute(restore, dict(one._mapping))
    assert await found(engine) == (5, Fault.ALTERED)


async def test_a_chain_made_anew_is_seen_with_a_known_head_only(engine: AsyncEngine) -> None:
    at = [Head(one.sequence, one.hash) for one in await entries(engine, limit=COUNT)]
    async with engine.begin() as connection, tampering(connection):
        await connection.execute(text("UPDATE audit SET actor = 'somebody' WHERE sequence = 5"))
        await rechain(connection, 5)
    assert await found(engine) is None
    for known in at:
        assert await found(engine, known) == (None if known.sequence < 5 else (known.sequence, Fault.REWRITTEN))


async def test_the_first_of_two_breaks_is_told(engine: AsyncEngine) -> None:
    await tamper(
        engine, "UPDATE audit SET actor = 'x' WHERE sequence = 9", "UPDATE audit SET actor = 'x' WHERE sequence = 4"
    )
    assert await found(engine, await head(engine)) == (4, Fault.ALTERED)
    checked = await verify(engine)
    assert checked.head.sequence == 3 and checked.broken and "entry 4 was altered" in checked.broken.detail


async def test_a_false_head_of_an_empty_audit_is_refused(engine: AsyncEngine) -> None:
    assert await found(engine, Head(0, bytes(31) + b"\1")) == (0, Fault.REWRITTEN)
