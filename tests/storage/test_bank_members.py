"""Members: added once, noted, removed in two steps; a member's image is not deleted; everything is on record."""

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage import bank_members, banks, uploads
from storage.bank_changes import hashes_version
from storage.bank_members import HashEntry
from storage.errors import Conflict, InvalidInput, NotFound
from storage.objects import ObjectStore
from tests.moderation import ACTOR, audited, bank, look_backs, processed, told
from tests.storage.test_claims import stored

PDQ, SHA = bytes(range(32)), bytes(range(32, 64))


async def test_an_image_becomes_a_member_once(engine: AsyncEngine, objects: ObjectStore) -> None:
    made = await bank(engine)
    (image,) = await processed(engine, objects)
    before = await hashes_version(engine)
    tries = await asyncio.gather(
        *(bank_members.add_image(engine, made.id, image, note="из чата", actor=ACTOR) for _ in range(4))
    )
    member = tries[0][0]
    assert {one.id for one, _ in tries} == {member.id} and (member.image_id, member.note) == (image, "из чата")
    (look_back,) = [one for _, one in tries if one is not None]
    assert await look_backs(engine, made.id) == [(look_back, "members", member.id, member.id)]
    assert await hashes_version(engine) > before, "whoever holds members in memory reads anew"
    ((kind, about, data),) = await told(engine, made.id)
    assert (kind, about, data["first_member"], data["bank"]) == ("bank.member_added", image, member.id, made.bank.name)
    assert [action for action, *_ in await audited(engine, f"bank/{made.id}")] == ["bank.create", "bank.member_add"]
    assert (await banks.get(engine, made.id)).images == 1


async def test_only_processed_images(engine: AsyncEngine, objects: ObjectStore) -> None:
    made = await bank(engine)
    (waiting,) = await stored(engine, objects, "bank-members-nobody")
    with pytest.raises(Conflict, match=f"image {waiting} is UPLOADED"):
        await bank_members.add_image(engine, made.id, waiting, note=None, actor=ACTOR)
    with pytest.raises(NotFound, match=f"no image {10**18}"):
        await bank_members.add_image(engine, made.id, 10**18, note=None, actor=ACTOR)
    with pytest.raises(NotFound, match=f"no bank {10**18}"):
        await bank_members.add_image(engine, 10**18, waiting, note=None, actor=ACTOR)
    assert await look_backs(engine, made.id) == [] and await told(engine, made.id) == []


async def test_notes(engine: AsyncEngine, objects: ObjectStore) -> None:
    made = await bank(engine)
    (image,) = await processed(engine, objects)
    member, _ = await bank_members.add_image(engine, made.id, image, note="one", actor=ACTOR)
    assert member.id is not None
    kept, look_back = await bank_members.add_image(engine, made.id, image, note=None, actor=ACTOR)
    assert (kept.note, look_back) == ("one", None)
    changed, look_back = await bank_members.add_image(engine, made.id, image, note="two 👮", actor=ACTOR)
    assert (changed.id, changed.note, look_back) == (member.id, "two 👮", None)
    await bank_members.set_note(engine, made.id, member.id, "three", actor=ACTOR)
    await bank_members.set_note(engine, made.id, member.id, "three", actor=ACTOR)
    notes = [
        (d["before"], d["after"]) for a, _, d in await audited(engine, f"bank/{made.id}") if a == "bank.member_note"
    ]
    assert notes == [("one", "two 👮"), ("two 👮", "three")]
    for wrong in ("a\0b", "x" * 1001):
        with pytest.raises(InvalidInput):
            await bank_members.set_note(engine, made.id, member.id, wrong, actor=ACTOR)
        with pytest.raises(InvalidInput):
            await bank_members.add_image(engine, made.id, image, note=wrong, actor=ACTOR)
    with pytest.raises(NotFound):
        await bank_members.set_note(engine, made.id, member.id + 10**6, "x", actor=ACTOR)


async def test_hashes_are_added_once_however_they_come(engine: AsyncEngine) -> None:
    made, other = await bank(engine), await bank(engine)
    given = [HashEntry(PDQ, None, "p"), HashEntry(PDQ, None, "again"), HashEntry(None, SHA, "s"), HashEntry(PDQ, SHA)]
    first = await bank_members.add_hashes(engine, made.id, given, actor=ACTOR, source="list 1")
    assert (first.added, first.already_there, len(first.look_backs)) == (3, 1, 1)
    again = await bank_members.add_hashes(engine, made.id, given, actor=ACTOR)
    assert (again.added, again.already_there, again.look_backs) == (0, 4, ())
    elsewhere = await bank_members.add_hashes(engine, other.id, given, actor=ACTOR)
    assert elsewhere.added == 3
    members = await bank_members.listing(engine, made.id)
    assert [(one.pdq, one.sha256, one.note, one.source) for one in members] == [
        (PDQ, None, "p", "list 1"), (None, SHA, "s", "list 1"), (PDQ, SHA, "", "list 1"),
    ]  # fmt: skip
    ids = [one.id for one in members]
    assert await look_backs(engine, made.id) == [(first.look_backs[0], "members", min(ids), max(ids))]
    assert [action for action, *_ in await audited(engine, f"bank/{made.id}")] == ["bank.create", "bank.import"]
    page = await bank_members.listing(engine, made.id, after=ids[0], limit=1)
    assert [one.id for one in page] == ids[1:2]
    assert (await banks.get(engine, made.id)).hashes == 3


async def test_removing_takes_two_steps_and_adding_again_keeps_the_row(
    engine: AsyncEngine, objects: ObjectStore
) -> None:
    made = await bank(engine)
    (image,) = await processed(engine, objects)
    member, _ = await bank_members.add_image(engine, made.id, image, note="", actor=ACTOR)
    assert member.id is not None
    look_back = await bank_members.remove_image(engine, made.id, image, actor=ACTOR)
    assert (await look_backs(engine, made.id))[-1] == (look_back, "members", member.id, member.id)
    assert await bank_members.listing(engine, made.id) == [] and (await banks.get(engine, made.id)).images == 0
    for call in (
        bank_members.remove_image(engine, made.id, image, actor=ACTOR),
        bank_members.remove(engine, made.id, member.id, actor=ACTOR),
    ):
        with pytest.raises(NotFound):
            await call
    with pytest.raises(Conflict, match="look-back"):
        await uploads.remove(engine, objects, image, actor=ACTOR)
    back, look_back = await bank_members.add_image(engine, made.id, image, note="back", actor=ACTOR)
    assert (back.id, back.note) == (member.id, "back") and look_back is not None
    added = await bank_members.add_hashes(engine, made.id, [HashEntry(PDQ, None)], actor=ACTOR)
    (hashed,) = [one for one in await bank_members.listing(engine, made.id) if one.pdq]
    assert hashed.id is not None and added.added == 1
    await bank_members.remove(engine, made.id, hashed.id, actor=ACTOR)
    added = await bank_members.add_hashes(engine, made.id, [HashEntry(PDQ, None), HashEntry(None, SHA)], actor=ACTOR)
    assert (added.added, len(added.look_backs)) == (2, 2), "one for the new ones, one for those that came back"
    assert hashed.id in [one.id for one in await bank_members.listing(engine, made.id)]
    kinds = [kind for kind, *_ in await told(engine, made.id)]
    assert kinds == [f"bank.member_{one}" for one in ("added", "removed", "added", "added", "removed", "added")]


async def test_a_member_s_image_is_not_deleted(engine: AsyncEngine, objects: ObjectStore) -> None:
    first, second = await bank(engine), await bank(engine)
    (image,) = await processed(engine, objects)
    for one in (first, second):
        await bank_members.add_image(engine, one.id, image, note=None, actor=ACTOR)
    with pytest.raises(Conflict) as caught:
        await uploads.remove(engine, objects, image, actor=ACTOR)
    assert first.bank.name in str(caught.value) and second.bank.name in str(caught.value)
    await bank_members.remove_image(engine, first.id, image, actor=ACTOR)
    await banks.remove(engine, second.id, actor=ACTOR)
    with pytest.raises(Conflict, match="when the look-back has ended"):
        await uploads.remove(engine, objects, image, actor=ACTOR)
    async with engine.begin() as connection:  # what the look-back does at its end
        await connection.execute(text("DELETE FROM bank_member WHERE image_id = :id"), {"id": image})
    await uploads.remove(engine, objects, image, actor=ACTOR)


async def test_a_deletion_and_an_addition_at_once(engine: AsyncEngine, objects: ObjectStore) -> None:
    made = await bank(engine)
    images = await processed(engine, objects, 6)
    calls = []
    for image in images:
        calls += [
            bank_members.add_image(engine, made.id, image, note=None, actor=ACTOR),
            uploads.remove(engine, objects, image, actor=ACTOR),
        ]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for added, removed in zip(answers[::2], answers[1::2], strict=True):
        assert isinstance(added, NotFound) == (removed is None) and isinstance(removed, Conflict | None)
