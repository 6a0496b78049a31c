"""Whoever waits for an image is told when it is FAILED or deleted, by the transaction that makes it so."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage import claims
from storage.errors import NotFound
from storage.objects import ObjectStore
from storage.uploads import NewImage, remove, upload
from tests.events import forget_events


@pytest.fixture(autouse=True)
async def no_events(engine: AsyncEngine) -> AsyncIterator[None]:
    await forget_events(engine)
    yield
    await forget_events(engine)


async def stored(engine: AsyncEngine, objects: ObjectStore, queue: str) -> int:
    image = await upload(engine, objects, NewImage("a.png", queue, b"x", "image/png", 1, 1), caller=0)
    assert image.id is not None
    return image.id


async def events(engine: AsyncEngine) -> list[tuple[Any, ...]]:
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT type, image_id, data FROM event ORDER BY id"))
        return [tuple(row) for row in rows]


async def test_a_failure_is_told_once_it_is_final(engine: AsyncEngine, objects: ObjectStore) -> None:
    queue = f"failures-{uuid4().hex}"
    image = await stored(engine, objects, queue)
    for attempt in (1, 2):
        assert await events(engine) == []
        (held,) = await claims.claim(engine, [queue], 1, lease_s=60, max_attempts=2)
        assert held.attempt == attempt
        await claims.release(engine, held, "it is broken", retry_delay_s=0, max_attempts=2)
        assert await claims.release(engine, held, "it is broken", retry_delay_s=0, max_attempts=2) is None
    assert await events(engine) == [("image.failed", image, {"reason": "it is broken", "attempts": 2})]


async def test_an_expired_last_claim_is_told(engine: AsyncEngine, objects: ObjectStore) -> None:
    queue = f"failures-{uuid4().hex}"
    images = sorted([await stored(engine, objects, queue) for _ in range(3)])
    await claims.claim(engine, [queue], 3, lease_s=-1, max_attempts=1)
    assert await claims.expire(engine, max_attempts=1) >= 3
    reason = {"reason": "no worker finished it within its lease, 1 times", "attempts": 1}
    assert await events(engine) == [("image.failed", image, reason) for image in images]


async def test_a_deletion_is_told(engine: AsyncEngine, objects: ObjectStore) -> None:
    image = await stored(engine, objects, f"failures-{uuid4().hex}")
    await remove(engine, objects, image, actor="test")
    with pytest.raises(NotFound):
        await remove(engine, objects, image, actor="test")
    sha256 = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert await events(engine) == [("image.deleted", image, {"sha256": sha256})]
