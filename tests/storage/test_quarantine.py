"""Quarantine: a member that suddenly matches much counts no more, is reported once, and can be released."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage import bank_members, banks
from storage.bank_members import HashEntry
from storage.errors import Conflict, NotFound
from storage.facts import facts_of
from storage.objects import ObjectStore
from storage.quarantine import Rule, release, watch
from tests.installation import own_engine
from tests.moderation import ACTOR, audited, bank, look_backs, processed, told

RULE = Rule(floor=6, share=0.5, factor=4.0, window_s=3600.0, history_s=86_400.0)


@pytest.mark.parametrize(
    ("matched", "seen", "before", "age_s", "sudden"),
    [
        (6, 12, 0, 0, True), (5, 5, 0, 0, False), (6, 13, 0, 0, False),  # floor and share
        (6, 6, 1, 7200, True), (6, 6, 2, 7200, False), (8, 8, 2, 7200, True),  # four times what was there before
        (6, 6, 2, 3 * 3600, True), (100, 100, 600, 86_400, False), (105, 100, 600, 86_400, True),
    ],
)  # fmt: skip
def test_the_rule_by_hand(matched: int, seen: int, before: int, age_s: float, sudden: bool) -> None:
    assert RULE.is_sudden(matched, seen, before, age_s) == sudden


@pytest.fixture
async def alone(servers: Settings) -> AsyncIterator[AsyncEngine]:
    async with own_engine(servers) as engine:
        yield engine


async def _hashed(engine: AsyncEngine, **hashes: bytes | None) -> tuple[int, int]:
    made = await bank(engine)
    entry = HashEntry(hashes.get("pdq"), hashes.get("sha256"))
    await bank_members.add_hashes(engine, made.id, [entry], actor=ACTOR)
    (member,) = await bank_members.listing(engine, made.id)
    assert member.id is not None
    return made.id, member.id


async def _long_ago(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE decision SET at = at - interval '2 hours'"))
        await connection.execute(text("UPDATE bank_member SET added_at = added_at - interval '3 hours'"))


async def test_a_sudden_member_is_put_into_quarantine_once(alone: AsyncEngine, objects: ObjectStore) -> None:
    in_bank, member = await _hashed(alone, pdq=b"p" * 32)
    images = await processed(alone, objects, 5, hashes={member: 10})
    assert await watch(alone, RULE) == [], "below the floor"
    images += await processed(alone, objects, 1, hashes={member: 10})
    both = await asyncio.gather(*(watch(alone, RULE) for _ in range(3)))
    assert sorted(both) == [[], [], [member]]
    assert await watch(alone, RULE) == []

    (held,) = await bank_members.listing(alone, in_bank, quarantined=True)
    assert held.id == member and "6 of 6 images" in (held.quarantine_reason or "")
    async with alone.connect() as connection:
        assert all(not one.matches for one in (await facts_of(connection, images)).values()), "it counts no more"
    look_back, kind, first, last = (await look_backs(alone, in_bank))[-1]
    assert (kind, first, last) == ("members", member, member)
    (_, (event, _, data)) = await told(alone, in_bank)
    assert (event, data["first_member"], data["look_back"]) == ("bank.member_quarantined", member, look_back)
    action, actor, detail = (await audited(alone, f"bank/{in_bank}"))[-1]
    assert (action, actor, detail["look_back"]) == ("bank.member_quarantine", "quarantine", look_back)

    released, look_back = await release(alone, in_bank, member, actor=ACTOR)
    assert released.quarantined_at is None and released.quarantine_reason is None
    assert (await look_backs(alone, in_bank))[-1][0] == look_back
    assert (await audited(alone, f"bank/{in_bank}"))[-1][:2] == ("bank.member_release", ACTOR)
    assert await watch(alone, RULE) == [], "what it matched before was looked at by a person"
    with pytest.raises(Conflict, match="not in quarantine"):
        await release(alone, in_bank, member, actor=ACTOR)
    with pytest.raises(NotFound):
        await release(alone, in_bank, 10**18, actor=ACTOR)
    await processed(alone, objects, 6, hashes={member: 10})
    assert await watch(alone, RULE) == [member], "but what it matches from now on counts"


async def test_what_is_usual_or_a_small_share_is_left_alone(alone: AsyncEngine, objects: ObjectStore) -> None:
    _, member = await _hashed(alone, pdq=b"p" * 32)
    await processed(alone, objects, 4, hashes={member: 10})
    await _long_ago(alone)
    await processed(alone, objects, 7, hashes={member: 10})
    assert await watch(alone, RULE) == [], "7 after 4 in the two hours before: 4 times 2 are usual"
    await processed(alone, objects, 1, hashes={member: 10})
    await processed(alone, objects, 9)
    assert await watch(alone, RULE) == [], "8 of 17 are no half"
    await processed(alone, objects, 1, hashes={member: 10})
    assert await watch(alone, Rule(0, 0.5, 4.0, 3600.0, 86_400.0)) == [], "turned off"
    assert await watch(alone, RULE) == [member]


async def test_of_a_removed_bank_nothing_is_watched(alone: AsyncEngine, objects: ObjectStore) -> None:
    in_bank, member = await _hashed(alone, pdq=b"p" * 32)
    _, other = await _hashed(alone, pdq=b"q" * 32)
    await processed(alone, objects, 6, hashes={member: 10, other: 10})
    await banks.remove(alone, in_bank, actor=ACTOR)
    assert await watch(alone, RULE) == [other]


async def test_the_same_bytes_are_no_mistake(alone: AsyncEngine, objects: ObjectStore) -> None:
    _, member = await _hashed(alone, pdq=b"p" * 32)
    images = await processed(alone, objects, 8, hashes={member: 10})
    async with alone.begin() as connection:  # one file, uploaded eight times
        await connection.execute(
            text("UPDATE image SET sha256 = (SELECT sha256 FROM image WHERE id = :id)"), {"id": images[0]}
        )
    assert await watch(alone, RULE) == []
    async with alone.connect() as connection:
        digest = await connection.scalar(text("SELECT sha256 FROM image LIMIT 1"))
    _, exact = await _hashed(alone, sha256=digest)
    async with alone.begin() as connection:
        await connection.execute(
            text("UPDATE decision SET facts = jsonb_set(facts, '{matches}', :matches)"),
            {"matches": f'[{{"member": {exact}, "relation": "exact"}}]'},
        )
        await connection.execute(text("UPDATE image SET sha256 = sha256(int8send(id))"))
    assert await watch(alone, RULE) == []


async def test_one_that_is_taken_out_and_added_again_is_a_new_member(alone: AsyncEngine, objects: ObjectStore) -> None:
    in_bank, member = await _hashed(alone, pdq=b"p" * 32)
    await processed(alone, objects, 6, hashes={member: 10})
    assert await watch(alone, RULE) == [member]
    await bank_members.remove(alone, in_bank, member, actor=ACTOR)
    await bank_members.add_hashes(alone, in_bank, [HashEntry(b"p" * 32, None)], actor=ACTOR)
    (held,) = await bank_members.listing(alone, in_bank)
    assert (held.id, held.quarantined_at, held.quarantine_reason) == (member, None, None), "the row is kept"
    assert await watch(alone, RULE) == [], "what it matched before its removal is no reason"
    await processed(alone, objects, 6, hashes={member: 10})
    assert await watch(alone, RULE) == [member]
    await release(alone, in_bank, member, actor=ACTOR)
    await bank_members.remove(alone, in_bank, member, actor=ACTOR)
    await bank_members.add_hashes(alone, in_bank, [HashEntry(b"p" * 32, None)], actor=ACTOR)
    (held,) = await bank_members.listing(alone, in_bank)
    assert held.released_at is None
