"""Members that are images: the newest, those since, those that copies are linked to."""

from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from storage import image_members
from storage.bank_changes import change_banks
from storage.links import Link, store_links
from storage.objects import ObjectStore
from tests.banks import bank, bank_of, member
from tests.storage.test_claims import stored


async def test_newest_since_and_linked(engine: AsyncEngine, objects: ObjectStore) -> None:
    before = await image_members.newest(engine)
    ids = await stored(engine, objects, f"queue-{uuid4()}", 5)
    async with engine.begin() as connection:
        await change_banks(connection, hashes=False)
        made = await bank(connection)
        members = [await member(connection, made, image_id=one) for one in ids[:2]]
        pair = Link(ids[0], "copy", "geometry", 0.9, 0.8, {})
        await store_links(connection, [(ids[3], pair), (ids[1], pair), (ids[4], Link(ids[3], "copy", "pdq", 1, 1, {}))])
    _, (hashed,) = await bank_of(engine, [uuid4().bytes * 2])
    assert await image_members.newest(engine) == hashed > members[1]
    assert await image_members.since(engine, before) == list(zip(members, ids, strict=False))
    assert await image_members.since(engine, members[0]) == [(members[1], ids[1])]
    for asked, found in ((ids[3:4], {ids[0]}), (ids[4:], set()), (ids[:1], {ids[1]}), (ids, set(ids[:2])), ([], set())):
        assert await image_members.linked_to(engine, asked) == found
