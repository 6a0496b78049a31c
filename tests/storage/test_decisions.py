"""Decisions: finishing an image decides on it; bank matches by link, hash and bytes; nothing is decided twice."""

from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.facts import Facts
from configs.policy_references import Known
from storage import claims, decisions
from storage.bank_changes import BanksChanged, change_banks, hashes_version, hold_banks
from storage.claims import Outcome
from storage.decisions import decide
from storage.finishing import tell_and_decide
from storage.links import Link, store_links
from storage.objects import ObjectStore
from storage.policy_changes import SHIPPED, apply
from tests.banks import bank, member
from tests.filtering import finish
from tests.moderation import look_backs
from tests.storage.test_claims import stored


async def _rows(engine: AsyncEngine, image_id: int) -> list[tuple[str, str | None, str | None]]:
    async with engine.connect() as connection:
        rows = await connection.execute(
            text("SELECT verdict, previous, rule FROM decision WHERE image_id = :id ORDER BY id"), {"id": image_id}
        )
        return [tuple(row) for row in rows]


@pytest.fixture
def queue() -> str:
    return f"queue-{uuid4()}"


async def test_finishing_decides_once_with_facts_that_can_be_judged_again(
    engine: AsyncEngine, objects: ObjectStore, queue: str
) -> None:
    await stored(engine, objects, queue)
    image = await finish(engine, queue, content_scores={"opennsfw@1": 0.95})
    assert await _rows(engine, image) == [("block", None, "unsafe-content")]
    async with engine.begin() as connection:
        assert await decide(connection, [image], cause="again") == []
    assert len(await _rows(engine, image)) == 1
    async with engine.connect() as connection:
        state = (await connection.execute(text("SELECT * FROM moderation WHERE image_id = :id"), {"id": image})).one()
        kept = (
            await connection.execute(text("SELECT * FROM decision WHERE id = :id"), {"id": state.decision_id})
        ).one()
        logged = await connection.scalar(
            text("SELECT count(*) FROM audit WHERE subject = :subject AND action = 'image.decide'"),
            {"subject": f"image/{image}"},
        )
        events = (
            await connection.execute(text("SELECT type FROM event WHERE image_id = :id ORDER BY id"), {"id": image})
        ).scalars()
    assert (state.verdict, state.severity, kept.facts_digest) == ("block", 8, Facts.from_dict(kept.facts).digest())
    assert logged == 1 and list(events) == ["image.processed", "image.decided"]


async def test_a_link_to_a_member_decides_in_either_order(
    engine: AsyncEngine, objects: ObjectStore, queue: str
) -> None:
    first, second, third = await stored(engine, objects, queue, 3)
    assert await finish(engine, queue) == first
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        await member(connection, await bank(connection), image_id=first)
        await decide(connection, [first], cause="member")
    assert await _rows(engine, first) == [("allow", None, None), ("block", "allow", "known-unacceptable")]
    link = Link(first, "copy", "geometry", 0.99, 0.98, {})
    assert await finish(engine, queue, links=[link]) == second
    assert await _rows(engine, second) == [("block", None, "known-unacceptable")]
    weak = Link(first, "copy", "geometry", 0.5, 0.98, {})  # below its own threshold: such a link is never made
    assert await finish(engine, queue, links=[weak]) == third
    assert await _rows(engine, third) == [("allow", None, None)]
    async with engine.begin() as connection:  # an allowed bank beats the match
        await change_banks(connection, hashes=False)
        await member(connection, await bank(connection, "allowed"), image_id=second)
        (made,) = await decide(connection, [second], cause="member")
    assert (made.verdict, made.previous) == ("allow", "block")


@pytest.mark.parametrize("most", [3, 2])
async def test_what_is_linked_to_a_member_that_is_processed_again_is_decided_now_or_by_a_look_back(
    engine: AsyncEngine, objects: ObjectStore, queue: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decisions, "MOST_LINKED", most)
    first, *others = await stored(engine, objects, queue, 4)
    assert await finish(engine, queue) == first
    for name in ("a@1", "b@1"):  # twice each: pairs are counted, not rows
        async with engine.begin() as connection:
            links = [(one, Link(first, "copy", "geometry", 0.99, 0.98, {}, name)) for one in others]
            await store_links(connection, links)
    for one in others:
        assert await finish(engine, queue) == one
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        in_bank = await bank(connection)
        of_bank = await member(connection, in_bank, image_id=first)
    async with engine.begin() as connection:  # as when it is processed again
        await hold_banks(connection, None)
        await tell_and_decide(connection, [first], cause="processed")
    assert (await _rows(engine, first))[-1][0] == "block"
    verdicts = [(await _rows(engine, one))[-1][0] for one in others]
    begun = [row[1:] for row in await look_backs(engine, in_bank)]
    assert (verdicts, begun) == ((["block"] * 3, []) if most == 3 else (["allow"] * 3, [("members", of_bank, of_bank)]))


async def test_hashes_count_and_a_change_of_them_is_noticed(
    engine: AsyncEngine, objects: ObjectStore, queue: str
) -> None:
    await stored(engine, objects, queue, 2)
    async with engine.begin() as connection:
        await change_banks(connection, hashes=True)
        of_bank = await member(connection, await bank(connection, pdq_distance=20), pdq=b"x" * 32)
    compared = await hashes_version(engine)
    image = await finish(engine, queue, hashes={of_bank: 20}, compared=compared)
    assert await _rows(engine, image) == [("block", None, "known-unacceptable")]
    (held,) = await claims.claim(engine, [queue], 1, lease_s=60, max_attempts=3)
    with pytest.raises(BanksChanged):
        await claims.finish(engine, [Outcome(held, compared=compared - 1)])
    far = Outcome(held, content_scores={"opennsfw@1": 0.0}, hashes={of_bank: 21}, compared=compared)
    assert await claims.finish(engine, [far]) == {held.image_id}
    assert await _rows(engine, held.image_id) == [("allow", None, None)]


async def test_the_same_bytes_as_a_hash_decide(engine: AsyncEngine, objects: ObjectStore, queue: str) -> None:
    (image,) = await stored(engine, objects, queue)
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        digest = await connection.scalar(text("SELECT sha256 FROM image WHERE id = :id"), {"id": image})
        await member(connection, await bank(connection), sha256=digest)
    assert await finish(engine, queue) == image
    assert await _rows(engine, image) == [("block", None, "known-unacceptable")]


async def test_another_policy_that_says_the_same_writes_nothing(own: tuple[AsyncEngine, ObjectStore]) -> None:
    engine, objects = own
    await stored(engine, objects, "same", 2)
    first, second = await finish(engine, "same"), await finish(engine, "same", content_scores={"opennsfw@1": 0.95})

    async def changed(source: str) -> list[tuple[int, str]]:
        await apply(engine, source, Known(), actor="test", note="", rejudge=False)
        async with engine.begin() as connection:
            await hold_banks(connection, None)
            return [(one.image_id, one.reason) for one in await decide(connection, [first, second], cause="again")]

    source = SHIPPED.read_text()
    assert await changed(f"# a comment\n{source}") == []
    said = "The content filter holds it to be unsafe"
    assert await changed(source.replace(said, "It is not for this site")) == [(second, "It is not for this site")]
    assert [row[0] for row in await _rows(engine, second)] == ["block", "block"]
