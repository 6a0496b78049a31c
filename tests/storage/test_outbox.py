"""The outbox: an event is there if and only if its transaction was committed, with a delivery for each webhook that wants it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.outbox import EventType, emit, emit_many
from tests.events import forget_events

_WEBHOOK = text(
    "INSERT INTO webhook (url, types, enabled, secret, created_by) VALUES ('x', :types, :enabled, 's', 't') RETURNING id"
)


@pytest.fixture
async def webhooks(engine: AsyncEngine) -> AsyncIterator[tuple[int, int, int]]:
    """One that wants all, one that wants deletions only, one that is disabled."""
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM event"))
        made = [
            (await connection.execute(_WEBHOOK, {"types": types, "enabled": enabled})).scalar_one()
            for types, enabled in (([], True), (["image.deleted"], True), ([], False))
        ]
    yield made[0], made[1], made[2]
    await forget_events(engine)


async def rows(engine: AsyncEngine, statement: str) -> list[tuple[Any, ...]]:
    async with engine.connect() as connection:
        return [tuple(row) for row in (await connection.execute(text(statement))).all()]


async def test_each_webhook_gets_what_it_wants(engine: AsyncEngine, webhooks: tuple[int, int, int]) -> None:
    every, deletions, _ = webhooks
    async with engine.begin() as connection:
        await emit(connection, EventType.IMAGE_DECIDED, 5, {"verdict": "block"})
        await emit_many(
            connection, [(EventType.IMAGE_DELETED, 6, {}), (EventType.LOOKBACK_FINISHED, None, {"bank": "Ы'\""})]
        )
        await emit_many(connection, [])
    events = await rows(engine, "SELECT type, image_id, data, id FROM event ORDER BY id")
    assert [event[:3] for event in events] == [
        ("image.decided", 5, {"verdict": "block"}),
        ("image.deleted", 6, {}),
        ("lookback.finished", None, {"bank": "Ы'\""}),
    ]
    decided, deleted, finished = (event[3] for event in events)
    assert await rows(engine, "SELECT webhook_id, event_id, image_id, state FROM delivery ORDER BY 1, 2") == [
        (every, decided, 5, "waiting"),
        (every, deleted, 6, "waiting"),
        (every, finished, None, "waiting"),
        (deletions, deleted, 6, "waiting"),
    ]


async def test_a_rollback_emits_nothing(engine: AsyncEngine, webhooks: tuple[int, int, int]) -> None:
    with pytest.raises(ZeroDivisionError):
        async with engine.begin() as connection:
            await emit(connection, EventType.IMAGE_DECIDED, 5, {})
            raise ZeroDivisionError
    assert await rows(engine, "SELECT id FROM event") == []
    assert await rows(engine, "SELECT event_id FROM delivery") == []


async def test_events_of_one_image_are_numbered_in_the_order_of_the_commits(
    engine: AsyncEngine, webhooks: tuple[int, int, int]
) -> None:
    async with engine.begin() as connection:
        image = (
            await connection.execute(
                text(
                    "INSERT INTO image (name, status, model_name, s3_path, sha256, size_bytes, media_type, width, height)"
                    " VALUES ('a', 'PROCESSED', 'm', 'images/outbox', sha256('outbox'), 1, 'image/png', 1, 1) RETURNING id"
                )
            )
        ).scalar_one()
    first_is_in, go_on = asyncio.Event(), asyncio.Event()

    async def one(name: str, wait: bool) -> None:
        async with engine.begin() as connection:
            await emit(connection, EventType.IMAGE_DECIDED, image, {"name": name})
            first_is_in.set()
            if wait:
                await go_on.wait()

    first = asyncio.create_task(one("first", True))
    await first_is_in.wait()
    second = asyncio.create_task(one("second", False))
    done, _ = await asyncio.wait([second], timeout=0.3)
    assert not done, "the second has its number before the first is committed"
    go_on.set()
    await asyncio.gather(first, second)
    assert [row[0]["name"] for row in await rows(engine, "SELECT data FROM event ORDER BY id")] == ["first", "second"]
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM image WHERE id = :id"), {"id": image})


async def test_a_webhook_that_is_deleted_meanwhile_fails_nobody(
    engine: AsyncEngine, webhooks: tuple[int, int, int]
) -> None:
    every, *_ = webhooks
    async with engine.begin() as deleting:
        await deleting.execute(text("DELETE FROM webhook WHERE id = :id"), {"id": every})

        async def send() -> None:
            async with engine.begin() as connection:
                await emit(connection, EventType.IMAGE_DELETED, 5, {})

        sending = asyncio.create_task(send())
        await asyncio.wait([sending], timeout=0.3)
    await sending
    assert [row[0] for row in await rows(engine, "SELECT webhook_id FROM delivery")] == [webhooks[1]]
