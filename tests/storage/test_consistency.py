"""The streams that a check compares: whole, in small pages, and sure of what they call unknown."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage.consistency import (
    IdSet,
    Listing,
    newest_id,
    pages,
    presence,
    rows_of,
    unknown_images,
)
from storage.database import create_engine
from storage.errors import NotFound, Unavailable
from storage.features import features_key, picture_of
from storage.fence import Fence, borrow
from storage.objects import ObjectStore
from storage.tables import Image
from storage.uploads import NewImage, remove, upload
from storage.vector_rows import VectorRows, VectorSpace
from storage.vectors import VectorTable, connect, read_regions, table_names
from tests.installation import apart, clear, tampering


@pytest.fixture(scope="module")
def settings(servers: Settings) -> Iterator[Settings]:
    with apart(servers) as made:
        yield made


@pytest_asyncio.fixture
async def engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    made = create_engine(settings)
    yield made
    await made.dispose()


@pytest_asyncio.fixture
async def objects(settings: Settings, engine: AsyncEngine) -> AsyncIterator[ObjectStore]:
    store = ObjectStore(settings)
    await clear(settings, engine, store)
    yield store
    store.close()


async def stored(engine: AsyncEngine, objects: ObjectStore, count: int) -> list[Image]:
    return [
        await upload(engine, objects, NewImage(f"{turn}.png", "queue", b"x", "image/png", 1, 1), caller=0)
        for turn in range(count)
    ]


def calls_of(objects: ObjectStore, operation: str) -> list[dict[str, Any]]:
    """The arguments of each call of the store that is made from now on."""
    made: list[dict[str, Any]] = []
    objects._client.meta.events.register(
        f"provide-client-params.s3.{operation}", lambda params, **_: made.append(dict(params))
    )
    return made


async def test_a_listing_comes_in_pages(objects: ObjectStore) -> None:
    for number in range(7):
        await objects.put(f"pages/{number}", bytes(number), "text/plain")
    await objects.put("other/1", b"", "text/plain")
    calls = calls_of(objects, "ListObjectsV2")
    found = [one async for one in objects.list("pages/", page=3)]
    assert [(one.key, one.size) for one in found] == [(f"pages/{number}", number) for number in range(7)]
    assert [call["MaxKeys"] for call in calls] == [3, 3, 3]
    assert all(one.etag and one.last_modified.tzinfo for one in found)
    assert [one async for one in objects.list("nothing/")] == []


async def test_objects_of_other_buckets_are_read_and_never_deleted(objects: ObjectStore, settings: Settings) -> None:
    theirs = f"{settings.s3_bucket}-corpus"
    objects._client.put_object(Bucket=theirs, Key="a/b.jpg", Body=b"theirs")
    address = f"s3://{theirs}/a/b.jpg"
    assert await objects.get(address) == b"theirs" and (await objects.head(address)).size == 6
    await objects.delete(address)
    assert await objects.get(address) == b"theirs"
    with pytest.raises(NotFound):
        await objects.head(f"s3://{theirs}/a/c.jpg")
    with pytest.raises(NotFound):
        await objects.head("images/none")
    with pytest.raises(Unavailable, match="bucket no-such-bucket is missing"):
        await objects.head("s3://no-such-bucket/a/b.jpg")


@pytest.mark.parametrize("path", ["images/0d9-_a.png", "images/1_b.sift", "s3://corpus/a.jpg", "s3://corpus/x/y/z"])
def test_the_key_of_the_details_can_be_reversed(path: str) -> None:
    key = features_key(path)
    assert key.startswith("features/") and key.endswith(".sift") and "//" not in key
    assert picture_of(key) == path


def test_the_key_of_stored_details_has_not_moved() -> None:
    assert features_key("images/0d9_a.png") == "features/0d9_a.png.sift"


def test_a_set_of_ids() -> None:
    ids, wanted = IdSet(), {0, 1, 63, 65_535, 65_536, 10**12, -3}
    assert not ids
    for number in wanted:
        ids.add(number)
    assert ids and all(number in ids for number in wanted)
    assert not any(number in ids for number in (2, 62, 64, 65_534, 65_537, 10**12 + 1, -2))
    for number in range(200_000):
        ids.add(number)
    assert sum(len(block) for block in ids._blocks.values()) <= 6 * 8192, "a bit for each id"


async def test_rows_come_in_pages_by_id(engine: AsyncEngine, objects: ObjectStore) -> None:
    made = [image.id for image in await stored(engine, objects, 7)]
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM image WHERE id = :id"), {"id": made[3]})
    kept = made[:3] + made[4:]
    last = await newest_id(engine)
    assert last == made[-1]
    found = [[row.id for row in page] async for page in pages(engine, through=last, page=2)]
    assert found == [kept[:2], kept[2:4], kept[4:]]
    assert [row.id async for page in pages(engine, through=kept[1] or 0, page=5) for row in page] == kept[:2]
    assert set(await rows_of(engine, [number or 0 for number in made])) == set(kept)


async def test_objects_that_no_row_knows(engine: AsyncEngine, objects: ObjectStore) -> None:
    first, second, third = await stored(engine, objects, 3)
    await objects.put("images/stray", b"stray", "image/png")
    async with engine.begin() as connection:  # a picture of our own bucket, referred to as if it were another's
        await connection.execute(
            text("UPDATE image SET s3_path = :path WHERE id = :id"),
            {"path": objects.address(third.s3_path), "id": third.id},
        )
    listing = Listing(engine, objects, "images/", details=False, page=2)
    found = [(count, [one.key for one in unknown]) async for count, unknown in listing.strangers()]
    assert [count for count, _ in found] == [2, 2]
    assert [key for _, keys in found for key in keys] == ["images/stray"]
    assert all((image.id or 0) in listing.known for image in (first, second, third))
    (stray,) = [one async for one in objects.list("images/stray")]
    assert await listing.still_unknown(stray)
    await objects.put("images/stray", b"another", "image/png")
    assert not await listing.still_unknown(stray), "it has been written since"
    await objects.delete("images/stray")
    assert not await listing.still_unknown(stray), "it is gone"
    (known,) = [one async for one in objects.list(first.s3_path)]
    assert not await listing.still_unknown(known)


async def test_a_row_being_deleted_is_waited_for(engine: AsyncEngine, objects: ObjectStore) -> None:
    (image,) = await stored(engine, objects, 1)
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM image WHERE id = :id"), {"id": image.id})
        looking = asyncio.create_task(rows_of(engine, [image.id or 0]))
        await asyncio.sleep(0.3)
        assert not looking.done()
    assert await looking == {}


async def test_an_image_just_deleted_is_not_unknown_yet(engine: AsyncEngine, objects: ObjectStore) -> None:
    first, second = await stored(engine, objects, 2)
    assert first.id and second.id
    ids = [first.id, second.id, 10**12]
    assert await unknown_images(engine, ids) == [10**12]
    await remove(engine, objects, first.id, actor="test")
    assert await unknown_images(engine, ids) == [10**12]
    async with engine.begin() as connection, tampering(connection):
        await connection.execute(text("UPDATE audit SET at = now() - interval '2 minutes'"))
    assert await unknown_images(engine, ids) == [first.id, 10**12]


def rows(pairs: list[tuple[int, int]]) -> VectorRows:
    """Rows of (image, region)."""
    ids, regions = np.asarray(pairs, np.int64).T
    return VectorRows(ids, regions.astype(np.int16), np.zeros((len(ids), 4), np.float32), np.ones((len(ids), 8)))


async def test_what_a_table_holds_of_a_range(settings: Settings) -> None:
    space = VectorSpace(f"presence-{uuid4().hex[:8]}@1", 8)
    connection = await connect(settings)
    before, read = await presence(connection, space, known=np.asarray([1]), after=0, through=None, batch=4)
    assert (before.images.tolist(), before.repeated.tolist(), read) == ([], [], 0), "there is no table yet"
    table = await VectorTable.open(connection, space, create=True)
    assert table is not None
    whole = [(number, region) for number in range(1, 41) for region in range(3)]
    await table.append(rows(whole), 0)
    await table.append(rows([(7, 2), (9, 3), (12, 0), (500, 0), (500, 1), (-4, 0)]), 1000)
    batches = [len(ids) async for ids, _ in read_regions(table.handle, after=0, through=None, batch=4)]
    assert max(batches) <= 4 and sum(batches) == len(whole) + 5

    told: list[int] = []

    async def strangers(ids: np.ndarray) -> None:
        told.extend(ids.tolist())

    known = np.arange(1, 21)
    for batch in (1, 4, 1000):
        told.clear()
        found, read = await presence(
            connection, space, known=known, after=2, through=30, batch=batch, strangers=strangers
        )
        assert found.images.tolist() == list(range(3, 21)) and read == 28 * 3 + 3
        assert found.repeated.tolist() == [7, 12], "9 has another region, no second row"
        assert sorted(set(told)) == list(range(21, 31))
    told.clear()
    await presence(connection, space, known=known, after=-(2**62), through=0, batch=4, strangers=strangers)
    await presence(connection, space, known=known, after=40, through=None, batch=4, strangers=strangers)
    assert sorted(set(told)) == [-4, 500]


async def test_all_tables_are_named_over_pages(settings: Settings, engine: AsyncEngine, objects: ObjectStore) -> None:
    connection = await connect(settings)
    spaces = [VectorSpace(f"names-{number}@1", 8) for number in range(5)]
    for space in spaces:
        await VectorTable.open(connection, space, create=True)
    names = await table_names(connection, page=2)
    assert {space.table_name for space in spaces} <= set(names) and len(names) == len(set(names))


async def test_a_borrowed_fence_makes_the_writer_wait_and_stay(engine: AsyncEngine) -> None:
    name = uuid4().hex
    async with borrow(engine, name):
        pass  # before any writer
    fence = Fence(engine, name, "writer")
    await fence.take()
    held = asyncio.Event()

    async def write() -> None:
        async with fence.guard():
            held.set()

    async with borrow(engine, name):
        writing = asyncio.create_task(write())
        await asyncio.sleep(0.2)
        assert not held.is_set()
    await writing
    assert held.is_set()
    with pytest.raises(RuntimeError, match="failed"):
        async with borrow(engine, name):
            raise RuntimeError("the write failed")
    async with fence.guard():
        pass


async def test_a_long_write_of_the_writer_is_waited_for(engine: AsyncEngine, settings: Settings) -> None:
    name = uuid4().hex
    fence = Fence(engine, name, "writer")
    await fence.take()
    hasty = create_engine(settings.model_copy(update={"database_timeout_s": 2.0}), pool_size=1)
    order: list[str] = []

    async def delete() -> None:
        async with borrow(hasty, name):
            order.append("borrower")

    async with fence.guard():
        with pytest.raises(Unavailable, match="busy"):
            async with borrow(hasty, name, wait_s=0.1):
                pass
        deleting = asyncio.create_task(delete())
        await asyncio.sleep(3.0)  # longer than a statement may take
        order.append("writer")
    await deleting
    assert order == ["writer", "borrower"]
    await hasty.dispose()
