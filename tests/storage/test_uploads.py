"""Uploads: nothing half-stored is ever seen, a retry gets the first answer, a deletion is complete and on record."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage import claims, images
from storage.database import create_engine
from storage.errors import Conflict, NotFound, Unavailable
from storage.keys import authenticate, create_key
from storage.objects import ObjectStore
from storage.uploads import NewImage, object_key, remove, sweep, upload


def new(queue: str, data: bytes = b"bytes", name: str = "a.jpg") -> NewImage:
    return NewImage(name, queue, data, "image/jpeg", 4, 4)


@pytest.fixture
def queue() -> str:
    return f"uploads-{uuid.uuid4().hex}"


@pytest.fixture
async def caller(engine: AsyncEngine) -> int:
    key = await create_key(engine, uuid.uuid4().hex, ["image:write"], actor="test")
    return (await authenticate(engine, key)).key_id


NAMES = (
    "фото кота.jpg",
    "图片.png",
    "صورة.gif",
    "../../etc/passwd",
    "a/b\\c.jpg",
    "x" * 255,
    "я" * 250 + ".jpeg",
    "\x01\n",
    "…",
)


@pytest.mark.parametrize("name", NAMES)
def test_keys_are_safe_and_short(name: str) -> None:
    key = object_key(name)
    folder, _, rest = key.partition("/")
    assert folder == "images" and "/" not in rest and "\\" not in rest and ".." not in rest
    assert len(rest.encode()) <= 240 and rest.isprintable()
    if name.endswith(".jpeg"):
        assert rest.endswith(".jpeg")


async def test_an_upload_is_durable_and_claimable(engine: AsyncEngine, objects: ObjectStore, queue: str) -> None:
    image = await upload(engine, objects, new(queue, b"the bytes", "фото.jpg"), caller=0)
    assert image.id and image.uploaded_at and image.status == "UPLOADED" and image.name == "фото.jpg"
    assert await objects.get(image.s3_path) == b"the bytes"
    (held,) = await claims.claim(engine, [queue], 5, lease_s=60, max_attempts=2)
    assert held.image_id == image.id


async def test_without_the_object_store_nothing_is_seen(engine: AsyncEngine, servers: Settings, queue: str) -> None:
    down = servers.model_copy(
        update={"s3_endpoint": "http://127.0.0.1:9", "s3_attempts": 1, "s3_connect_timeout_s": 0.5}
    )
    store = ObjectStore(down)
    with pytest.raises(Unavailable):
        await upload(engine, store, new(queue), caller=0)
    store.close()
    assert await claims.claim(engine, [queue], 5, lease_s=60, max_attempts=2) == []
    async with engine.begin() as connection:
        row = (await connection.execute(text("SELECT id FROM image WHERE model_name = :q"), {"q": queue})).one()
        long_ago = datetime.now(UTC) - timedelta(days=9)
        await connection.execute(
            text("UPDATE image SET created_at = :at WHERE id = :id"), {"at": long_ago, "id": row.id}
        )
    with pytest.raises(NotFound):
        await images.get(engine, row.id)
    working = ObjectStore(servers)
    assert await sweep(engine, working, older_than_s=86400 * 5) >= 1
    working.close()
    async with engine.connect() as connection:
        left = (
            await connection.execute(text("SELECT count(*) FROM image WHERE id = :id"), {"id": row.id})
        ).scalar_one()
    assert left == 0


class SweptMeanwhile(ObjectStore):
    """Before the picture arrives, its row is swept away as one that was left long ago."""

    def __init__(self, settings: Settings, engine: AsyncEngine) -> None:
        super().__init__(settings)
        self._engine = engine

    async def put(self, key: str, data: bytes, media_type: str) -> None:
        aged = text("UPDATE image SET created_at = now() - interval '9 days' WHERE s3_path = :key")
        async with self._engine.begin() as connection:
            await connection.execute(aged, {"key": key})
        assert await sweep(self._engine, self, older_than_s=86400 * 8) >= 1
        await super().put(key, data, media_type)


async def test_an_upload_that_is_swept_away_leaves_no_object(
    engine: AsyncEngine, servers: Settings, objects: ObjectStore, queue: str
) -> None:
    store = SweptMeanwhile(servers, engine)
    before = {one.key async for one in objects.list("images/")}
    with pytest.raises(Conflict, match="deleted while it was being stored"):
        await upload(engine, store, new(queue), caller=0)
    store.close()
    assert {one.key async for one in objects.list("images/")} <= before


async def test_a_retry_gets_the_first_answer(
    engine: AsyncEngine, objects: ObjectStore, queue: str, caller: int
) -> None:
    first = await upload(engine, objects, new(queue), caller=caller, idempotency_key="k")
    again = await upload(engine, objects, new(queue), caller=caller, idempotency_key="k")
    assert (again.id, again.s3_path) == (first.id, first.s3_path)
    with pytest.raises(Conflict):
        await upload(engine, objects, new(queue, b"other"), caller=caller, idempotency_key="k")
    other = await upload(engine, objects, new(queue), caller=caller, idempotency_key="k", remember_s=0.0)
    assert other.id != first.id, "forgotten after its time"


async def test_two_retries_at_once_make_one_image(
    engine: AsyncEngine, objects: ObjectStore, queue: str, caller: int
) -> None:
    made = await asyncio.gather(
        *(upload(engine, objects, new(queue), caller=caller, idempotency_key="both") for _ in range(4))
    )
    assert len({image.id for image in made}) == 1


class Broken(ObjectStore):
    """Takes nothing."""

    async def put(self, key: str, data: bytes, media_type: str) -> None:
        raise Unavailable("the object store does not answer")


class Hanging(ObjectStore):
    """Takes nothing before four uploads are under way."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._four = asyncio.Barrier(4)

    async def put(self, key: str, data: bytes, media_type: str) -> None:
        await self._four.wait()
        await super().put(key, data, media_type)


async def test_retries_wait_for_the_object_store_without_a_connection(
    servers: Settings, queue: str, caller: int
) -> None:
    broken, hanging = Broken(servers), Hanging(servers)
    few = create_engine(servers, pool_size=1)
    with pytest.raises(Unavailable):
        await upload(few, broken, new(queue), caller=caller, idempotency_key="hangs")
    async with asyncio.timeout(30):
        made = await asyncio.gather(
            *(upload(few, hanging, new(queue), caller=caller, idempotency_key="hangs") for _ in range(4))
        )
    assert len({image.id for image in made}) == 1 and all(image.uploaded_at for image in made)
    with pytest.raises(Conflict):
        await upload(few, broken, new(queue, b"other"), caller=caller, idempotency_key="hangs")
    broken.close()
    hanging.close()
    await few.dispose()


async def test_a_deletion_is_complete_and_on_record(engine: AsyncEngine, objects: ObjectStore, queue: str) -> None:
    image = await upload(engine, objects, new(queue), caller=0)
    assert image.id
    await remove(engine, objects, image.id, actor="tester")
    with pytest.raises(NotFound):
        await images.get(engine, image.id)
    with pytest.raises(NotFound):
        await objects.get(image.s3_path)
    with pytest.raises(NotFound):
        await remove(engine, objects, image.id, actor="tester")
    async with engine.connect() as connection:
        statement = text("SELECT actor, action FROM audit WHERE subject = :subject")
        row = (await connection.execute(statement, {"subject": f"image/{image.id}"})).one()
    assert tuple(row) == ("tester", "image.delete")
