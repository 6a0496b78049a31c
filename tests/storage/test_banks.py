"""Banks: made, changed and removed on record; names are unique; what changes matches begins a look-back."""

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage import bank_members, banks
from storage.bank_members import HashEntry
from storage.banks import NewBank
from storage.errors import Conflict, InvalidInput, NotFound
from tests.installation import own_engine
from tests.moderation import ACTOR, audited, bank, look_backs, told


async def test_a_bank_is_made_with_what_holds_unless_said_otherwise(engine: AsyncEngine) -> None:
    made = await bank(engine, description="Из чата «дети»\nвторая строка")
    found = await banks.by_name(engine, made.bank.name)
    assert found == await banks.get(engine, made.id) == made
    assert (found.bank.relations, found.bank.pdq_distance, found.bank.enabled) == (["exact", "copy"], 31, True)
    assert (found.images, found.hashes, found.quarantined) == (0, 0, 0)
    ((action, actor, detail),) = await audited(engine, f"bank/{made.id}")
    assert (action, actor, detail["name"]) == ("bank.create", ACTOR, made.bank.name)
    assert made.id in [one.id for one in await banks.listing(engine, after=made.id - 1)]
    assert [one.id for one in await banks.listing(engine, after=made.id - 1, limit=1)] == [made.id]
    for missing in (made.id + 10**6, 10**18):
        with pytest.raises(NotFound, match=f"no bank {missing}"):
            await banks.get(engine, missing)
    with pytest.raises(NotFound, match="named 'nobody'"):
        await banks.by_name(engine, "nobody")


async def test_names_are_unique_and_case_counts(engine: AsyncEngine) -> None:
    made = await bank(engine)
    answers = await asyncio.gather(
        *(banks.create(engine, NewBank(made.bank.name, "allowed"), actor=ACTOR) for _ in range(2)),
        *(banks.create(engine, NewBank(made.bank.name.upper(), "allowed"), actor=ACTOR) for _ in range(3)),
        return_exceptions=True,
    )
    assert sum(isinstance(one, Conflict) for one in answers) == 4
    assert sum(isinstance(one, banks.BankState) for one in answers) == 1
    other = await bank(engine)
    with pytest.raises(Conflict, match=f"bank {made.id} is named"):
        await banks.change(engine, other.id, {"name": made.bank.name}, actor=ACTOR)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "a\0"}, "name"), ({"kind": "bad"}, "kind"), ({"relations": ["near"]}, "relations"),
        ({"pdq_distance": 65}, "pdq_distance"), ({"copy_score": 1.5}, "copy_score"),
        ({"semantic_score": -1.0}, "semantic_score"), ({"description": "x" * 2001}, "description"),
    ],
)  # fmt: skip
async def test_a_bank_that_cannot_be(engine: AsyncEngine, changes: dict[str, object], field: str) -> None:
    before = await banks.listing(engine)
    with pytest.raises(InvalidInput) as caught:
        await banks.create(engine, NewBank(**{"name": "n", "kind": "allowed", **changes}), actor=ACTOR)
    assert caught.value.field == field and await banks.listing(engine) == before


async def test_changes_that_change_matches_look_back(engine: AsyncEngine) -> None:
    made = await bank(engine)
    _, look_back = await banks.change(engine, made.id, {"pdq_distance": 20}, actor=ACTOR)
    assert look_back is None, "there is no member yet"
    await bank_members.add_hashes(engine, made.id, [HashEntry(b"p" * 32, None)], actor=ACTOR)
    changes = {"pdq_distance": 20, "relations": ["semantic", "copy"], "copy_score": 0.9}
    state, look_back = await banks.change(engine, made.id, changes, actor=ACTOR)
    assert (state.bank.relations, state.bank.copy_score, state.hashes) == (["copy", "semantic"], 0.9, 1)
    assert (await look_backs(engine, made.id))[-1] == (look_back, "bank", None, None)
    *_, (action, _, detail) = await audited(engine, f"bank/{made.id}")
    assert (action, detail["look_back"], set(detail["before"])) == (
        "bank.change",
        look_back,
        {"relations", "copy_score"},
    )
    entries = len(await audited(engine, f"bank/{made.id}"))
    assert await banks.change(engine, made.id, changes, actor=ACTOR) == (state, None)
    assert len(await audited(engine, f"bank/{made.id}")) == entries, "nothing changed, nothing on record"
    _, look_back = await banks.change(engine, made.id, {"description": "other"}, actor=ACTOR)
    assert look_back is None


async def test_members_are_not_counted_while_uploads_wait(engine: AsyncEngine) -> None:
    made = await bank(engine)
    await bank_members.add_hashes(engine, made.id, [HashEntry(b"p" * 32, None)], actor=ACTOR)
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    def end(_connection: object) -> None:
        sent.append("COMMIT")

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    event.listen(engine.sync_engine, "commit", end)
    try:
        await banks.change(engine, made.id, {"pdq_distance": 20}, actor=ACTOR)
        await banks.remove(engine, made.id, actor=ACTOR)
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", note)
        event.remove(engine.sync_engine, "commit", end)
    held = [n for n, statement in enumerate(sent) if "pg_advisory_xact_lock(" in statement]
    assert len(held) >= 2
    for first in held:
        under_lock = sent[first : sent.index("COMMIT", first)]
        assert [one for one in under_lock if "count(" in one and "bank_member" in one] == []
    assert (await told(engine, made.id))[-1][2]["members"] == 1


async def test_disabling_until(engine: AsyncEngine) -> None:
    made = await bank(engine)
    until = datetime.now(UTC) + timedelta(hours=1)
    state, _ = await banks.change(engine, made.id, {"disabled_until": until}, actor=ACTOR)
    assert (state.bank.enabled, state.bank.disabled_until) == (False, until)
    state, _ = await banks.change(engine, made.id, {"enabled": True}, actor=ACTOR)
    assert (state.bank.enabled, state.bank.disabled_until) == (True, None)
    for wrong in ({"disabled_until": until, "enabled": True}, {"disabled_until": until - timedelta(days=1)}):
        with pytest.raises(InvalidInput):
            await banks.change(engine, made.id, wrong, actor=ACTOR)
    with pytest.raises(InvalidInput, match="kind of a bank cannot be changed"):
        await banks.change(engine, made.id, {"kind": "allowed"}, actor=ACTOR)
    assert (await banks.get(engine, made.id)).bank.enabled


async def test_a_removed_bank_is_gone_at_once_and_its_name_is_free(engine: AsyncEngine) -> None:
    made = await bank(engine)
    await bank_members.add_hashes(engine, made.id, [HashEntry(b"p" * 32, b"s" * 32)], actor=ACTOR)
    look_back = await banks.remove(engine, made.id, actor=ACTOR)
    assert (await look_backs(engine, made.id))[-1] == (look_back, "bank", None, None)
    assert (await told(engine, made.id))[-1][0] == "bank.member_removed"
    for call in (banks.get(engine, made.id), banks.remove(engine, made.id, actor=ACTOR)):
        with pytest.raises(NotFound):
            await call
    again = await banks.create(engine, NewBank(made.bank.name, "allowed"), actor=ACTOR)
    assert again.id != made.id
    async with engine.connect() as connection:
        statement = text("SELECT removed_at IS NOT NULL FROM bank WHERE id = :id")
        assert await connection.scalar(statement, {"id": made.id}), "the row stays for the look-back"


async def test_a_bank_that_the_active_policy_names_stays(servers: Settings) -> None:
    source = """
rules:
  - {name: the rule, action: block, reason: r, when: {match: {banks: ["«наш» банк"]}}}
"""
    statement = text(
        "INSERT INTO policy_version (source, digest, active, created_by) VALUES (:source, :digest, true, 't')"
    )
    async with own_engine(servers) as engine:
        made = await banks.create(engine, NewBank("«наш» банк", "unacceptable"), actor=ACTOR)
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE policy_version SET active = false"))
            values = {"source": source, "digest": hashlib.sha256(source.encode()).hexdigest()}
            await connection.execute(statement, values)
        with pytest.raises(Conflict, match="cannot be removed: the active policy names it in the rules the rule"):
            await banks.remove(engine, made.id, actor=ACTOR)
        with pytest.raises(Conflict, match="cannot be renamed"):
            await banks.change(engine, made.id, {"name": "other"}, actor=ACTOR)
        assert (await banks.get(engine, made.id)).bank.name == "«наш» банк"
