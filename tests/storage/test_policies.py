"""Policies as versions: applied, taken back, refused; whatever is wrong, the one before stays active."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.policy_references import Known
from configs.policy_source import parse_policy
from configs.settings import Settings
from storage.bank_changes import change_banks
from storage.database import create_engine
from storage.errors import ConfigurationError, Conflict, InvalidInput, NotFound, Unavailable
from storage.policies import InvalidPolicy, active, banks_named, get, listing
from storage.policy_changes import SHIPPED, apply, ensure_active, rollback
from tests.storage.policy_rows import add_bank

STRICT = "rules:\n  - {name: strict, action: block, reason: why, when: {unsafe: {min_score: 0.1}}}\n"
LAX = "rules: []\n"


@pytest_asyncio.fixture
async def engine(alone: Settings) -> AsyncIterator[AsyncEngine]:
    """An engine on a database of this module's own, with the shipped policy active and no bank."""
    made = create_engine(alone, pool_size=4)
    async with made.begin() as connection:
        await connection.execute(text("TRUNCATE policy_version, look_back, bank CASCADE"))
    await ensure_active(made, actor="tests")
    yield made
    await made.dispose()


def naming(bank: str) -> str:
    return f"rules:\n  - {{name: banned, action: block, reason: why, when: {{match: {{banks: ['{bank}']}}}}}}\n"


async def now_active(engine: AsyncEngine) -> int:
    async with engine.connect() as connection:
        return (await active(connection)).id


async def rows(engine: AsyncEngine, statement: str) -> list[Any]:
    async with engine.connect() as connection:
        return list((await connection.execute(text(statement))).all())


async def test_the_first_start_applies_what_is_shipped_once(engine: AsyncEngine) -> None:
    assert await ensure_active(engine, actor="again") is None
    (only,) = await listing(engine)
    assert (only.active, only.created_by, only.note) == (True, "tests", "the policy that SafeGuard ships")
    assert (await get(engine, None)).source == SHIPPED.read_text()
    (entry,) = await rows(engine, f"SELECT * FROM audit WHERE subject = 'policy/{only.id}'")
    assert (entry.action, entry.actor) == ("policy.apply", "tests")


async def test_a_broken_file_matters_at_the_first_start_only(engine: AsyncEngine, tmp_path: Path) -> None:
    broken = tmp_path / "policies.yaml"
    broken.write_text("rules:\n  - {nam: a}\n")
    assert await ensure_active(engine, actor="up", file=broken) is None
    async with engine.begin() as connection:
        await connection.execute(text("TRUNCATE policy_version"))
    with pytest.raises(ConfigurationError, match=r"policies\.yaml:2:6: rules\.0\.nam: unknown key 'nam'; did you mean"):
        await ensure_active(engine, actor="up", file=broken)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        await ensure_active(engine, actor="up", file=tmp_path / "nothing.yaml")
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        await ensure_active(engine, actor="up", file=broken)
    async with engine.connect() as connection:
        with pytest.raises(Unavailable, match="no policy is active yet"):
            await active(connection)


async def test_apply_makes_a_version_and_judges_past_images(engine: AsyncEngine) -> None:
    first = await now_active(engine)
    done = await apply(engine, STRICT, Known(), actor="anna", note="«строже»")
    assert done.changed and done.version > first
    async with engine.connect() as connection:
        chosen = await active(connection)
    assert (chosen.id, chosen.policy) == (done.version, parse_policy(STRICT))
    kept = await get(engine, done.version)
    assert (kept.source, kept.note, kept.created_by) == (STRICT, "«строже»", "anna")
    (look_back,) = await rows(engine, "SELECT * FROM look_back")
    assert (look_back.id, look_back.kind, look_back.created_by) == (done.look_back, "judge", "anna")
    assert look_back.cause == f"policy {done.version} was applied"
    (entry,) = await rows(engine, f"SELECT * FROM audit WHERE subject = 'policy/{done.version}'")
    assert (entry.action, entry.actor) == ("policy.apply", "anna")
    assert entry.detail == {
        "before": first, "digest": kept.digest, "note": "«строже»", "look_back": done.look_back,
    }  # fmt: skip


async def test_the_same_text_again_changes_nothing(engine: AsyncEngine) -> None:
    first = await apply(engine, STRICT, Known(), actor="anna", rejudge=False)
    again = await apply(engine, STRICT, Known(), actor="boris")
    assert (again.version, again.changed, again.look_back) == (first.version, False, None)
    assert len(await listing(engine)) == 2 and await rows(engine, "SELECT * FROM look_back") == []


async def test_what_is_no_policy_leaves_the_active_one(engine: AsyncEngine) -> None:
    before = await now_active(engine)
    with pytest.raises(InvalidPolicy) as caught:
        await apply(engine, naming("nothing") + "defalt: allow\n", Known(), actor="anna")
    assert caught.value.errors == [
        ("rules.0.when.match.banks.0", "line 2, column 71: there is no bank 'nothing'; there are none"),
        ("defalt", "line 3, column 1: unknown key 'defalt'; did you mean 'default'?"),
    ]
    for note in ("x" * 1001, "a\0"):
        with pytest.raises(InvalidInput, match="note"):
            await apply(engine, STRICT, Known(), actor="anna", note=note)
    assert await now_active(engine) == before and len(await listing(engine)) == 1
    assert await rows(engine, "SELECT * FROM look_back") == []


async def test_rollback_makes_a_version_active_again_under_its_number(engine: AsyncEngine) -> None:
    first = await now_active(engine)
    second = (await apply(engine, STRICT, Known(), actor="anna")).version
    back = await rollback(engine, first, Known(), actor="boris", note="too strict")
    assert (back.version, back.changed) == (first, True) and await now_active(engine) == first
    assert [(one.id, one.active) for one in await listing(engine)] == [(second, False), (first, True)]
    (entry,) = await rows(engine, "SELECT * FROM audit WHERE action = 'policy.rollback'")
    assert (entry.subject, entry.detail["before"], entry.detail["note"]) == (f"policy/{first}", second, "too strict")
    causes = await rows(engine, "SELECT cause FROM look_back ORDER BY id DESC LIMIT 1")
    assert causes[0].cause == f"policy {first} is active again"
    assert not (await rollback(engine, first, Known(), actor="boris")).changed
    with pytest.raises(NotFound, match="there is no policy 1000000"):
        await rollback(engine, 1_000_000, Known(), actor="boris")


async def test_a_version_whose_bank_is_gone_cannot_come_back(engine: AsyncEngine) -> None:
    await add_bank(engine, 'Наши "логотипы"')
    named = (await apply(engine, naming('Наши "логотипы"'), Known(), actor="anna")).version
    lax = (await apply(engine, LAX, Known(), actor="anna")).version
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        await connection.execute(text("UPDATE bank SET removed_at = now()"))
    with pytest.raises(Conflict, match=f"policy {named} cannot be active as things are now: .*there is no bank 'Наши"):
        await rollback(engine, named, Known(), actor="anna")
    assert await now_active(engine) == lax


async def test_a_bank_that_goes_while_a_policy_is_checked(engine: AsyncEngine) -> None:
    """The removal holds the lock while the policy, checked before, waits for it."""
    await add_bank(engine, "scams")
    before = await now_active(engine)
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        applying = asyncio.create_task(apply(engine, naming("scams"), Known(), actor="anna"))
        for _ in range(200):
            waiting = await rows(engine, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            if waiting:
                break
            await asyncio.sleep(0.02)
        assert waiting
        await connection.execute(text("UPDATE bank SET removed_at = now()"))
    with pytest.raises(InvalidPolicy, match="no bank 'scams'"):
        await applying
    assert await now_active(engine) == before


async def test_eight_at_once_leave_one_active(engine: AsyncEngine) -> None:
    texts = [STRICT.replace("why", f"why {number}") for number in range(8)]
    done = await asyncio.gather(*(apply(engine, one, Known(), actor="anna") for one in texts))
    assert len({one.version for one in done}) == 8
    assert [one.id for one in await listing(engine) if one.active] == [max(one.version for one in done)]
    assert await ensure_active(engine, actor="late") is None


async def test_listing_in_pages(engine: AsyncEngine) -> None:
    for number in range(4):
        await apply(engine, STRICT.replace("why", str(number) * 3 + "x"), Known(), actor="anna", rejudge=False)
    pages, after = [], None
    while page := await listing(engine, after=after, limit=2):
        pages += page
        after = page[-1].id
    assert [one.id for one in pages] == sorted((one.id for one in await listing(engine)), reverse=True)
    assert len(pages) == 5


def test_the_banks_that_are_named() -> None:
    policy = parse_policy(
        "conditions:\n  c: {not: {match: {banks: [a, b]}}}\n"
        "rules:\n"
        "  - {name: one, action: block, reason: why, when: {any: [{use: c}, {match: {banks: [a]}}]}}\n"
        "  - {name: two, action: block, reason: why, when: {match: {}}}\n"
    )
    assert banks_named(policy) == {"a", "b"}


async def test_a_stored_text_that_cannot_be_read_any_more_is_an_outage_not_a_verdict(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE policy_version SET source = 'rulez: []', digest = 'unread'"))
    async with engine.connect() as connection:
        with pytest.raises(Unavailable, match=r"cannot be read: line 1, column 1: .*rulez"):
            await active(connection)
