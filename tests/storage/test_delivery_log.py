"""What became of deliveries is shown page by page, and can be replayed with the same webhook-id."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage import deliveries, delivery_log, webhooks
from storage.errors import Conflict, InvalidInput, NotFound
from storage.event_tables import DeliveryState
from storage.outbox import EventType, emit_many
from tests.events import forget_events
from tests.moderation import audited


@pytest.fixture
async def webhook(engine: AsyncEngine) -> AsyncIterator[int]:
    """Wants decisions; of five one is delivered, two are dead, two wait."""
    made = await webhooks.create(engine, "https://x.example/", types=["image.decided"], created_by="test")
    assert made.id is not None
    async with engine.begin() as connection:
        kinds = [EventType.IMAGE_DECIDED] * 5 + [EventType.IMAGE_DELETED]
        await emit_many(connection, [(kind, n, {}) for n, kind in enumerate(kinds)])
    first, second, third = await deliveries.claim(engine, {}, per_webhook=3, lease_s=60)
    await deliveries.finish(engine, [(first, 204)])
    for held in (second, third):
        await deliveries.fail(
            engine, held, "answered 500", status=500, delay_s=1, rest_s=1, attempts=1, max_age_s=60
        )  # fmt: skip
    yield made.id
    await forget_events(engine)


async def test_pages_and_states(engine: AsyncEngine, webhook: int) -> None:
    every = await delivery_log.listing(engine, webhook)
    assert [str(one.state) for one in every] == ["waiting", "waiting", "dead", "dead", "delivered"]
    assert [one.event_id for one in every] == sorted((one.event_id for one in every), reverse=True)
    pages: list[Any] = []
    while page := await delivery_log.listing(engine, webhook, before=pages[-1].event_id if pages else None, limit=2):
        pages += page
    assert pages == every
    (first, second) = await delivery_log.listing(engine, webhook, states=[DeliveryState.DEAD])
    assert [first, second] == every[2:4] and (first.last_status, first.last_error) == (500, "answered 500")
    assert first.next_try_at is None and every[0].next_try_at and every[4].delivered_at
    with pytest.raises(NotFound):
        await delivery_log.listing(engine, 10**9)


async def test_the_dead_are_replayed(engine: AsyncEngine, webhook: int) -> None:
    before = {one.event_id: one.message_id for one in await delivery_log.listing(engine, webhook)}
    assert await delivery_log.replay(engine, webhook, actor="test", dead=True) == 2
    assert await delivery_log.replay(engine, webhook, actor="test", dead=True) == 0
    found = await deliveries.claim(engine, {}, per_webhook=9, lease_s=60)
    assert [held.image_id for held in found] == [1, 2, 3, 4], "in their old order"
    assert all(held.message_id == before[held.event_id] and held.attempt == 1 for held in found)


async def test_many_are_replayed_page_by_page_and_with_one_entry_in_the_audit(
    engine: AsyncEngine, webhook: int
) -> None:
    async with engine.begin() as connection:
        await emit_many(connection, [(EventType.IMAGE_DECIDED, n, {}) for n in range(5, 9)])
    while await deliveries.expire(engine, max_age_s=0):
        pass
    assert await delivery_log.replay(engine, webhook, actor="one key", dead=True, page=3) == 8
    found = await deliveries.claim(engine, {}, per_webhook=99, lease_s=60)
    assert [held.image_id for held in found] == [1, 2, 3, 4, 5, 6, 7, 8]
    hour = datetime.now(UTC) - timedelta(hours=1)
    assert await delivery_log.replay(engine, webhook, actor="one key", since=hour, page=2) == 1, "others are being sent"
    event = found[0].event_id - 1
    assert await delivery_log.replay(engine, webhook, actor="one key", event_id=event) == 1
    detail = [{"dead": True}, {"since": hour.isoformat()}, {"event": event}]
    assert (await audited(engine, f"webhook/{webhook}"))[1:] == [("webhook.replay", "one key", one) for one in detail]


async def test_what_happened_before_is_not_replayed(engine: AsyncEngine, webhook: int) -> None:
    now = datetime.now(UTC)
    async with engine.begin() as connection:
        await connection.execute(
            text("UPDATE event SET created_at = created_at - interval '3 hours' WHERE image_id < 2")
        )
        await connection.execute(
            text("UPDATE event SET created_at = created_at - interval '1 hour' WHERE image_id = 2")
        )
    assert await delivery_log.replay(engine, webhook, actor="test", since=now - timedelta(minutes=30)) == 2
    assert await delivery_log.replay(engine, webhook, actor="test", since=now - timedelta(hours=2), page=1) == 3
    assert await delivery_log.replay(engine, webhook, actor="test", since=now - timedelta(hours=9), page=1) == 5


async def test_all_since_a_time_also_what_happened_while_it_was_disabled(engine: AsyncEngine, webhook: int) -> None:
    await webhooks.change(engine, webhook, enabled=False, actor="test")
    async with engine.begin() as connection:
        await emit_many(connection, [(EventType.IMAGE_DECIDED, 9, {}), (EventType.IMAGE_DELETED, 9, {})])
    await webhooks.change(engine, webhook, enabled=True, actor="test")
    hour = timedelta(hours=1)
    assert await delivery_log.replay(engine, webhook, actor="test", since=datetime.now(UTC) + hour) == 0
    assert await delivery_log.replay(engine, webhook, actor="test", since=datetime.now(UTC) - hour) == 6
    found = await deliveries.claim(engine, {}, per_webhook=99, lease_s=60)
    assert [held.image_id for held in found] == [0, 1, 2, 3, 4, 9], "only what it wants"
    assert await delivery_log.replay(engine, webhook, actor="test", since=datetime.now(UTC) - hour) == 0, (
        "all are being sent"
    )


async def test_one_event(engine: AsyncEngine, webhook: int) -> None:
    delivered = (await delivery_log.listing(engine, webhook))[-1].event_id
    assert await delivery_log.replay(engine, webhook, actor="test", event_id=delivered) == 1
    unwanted = delivered + 5
    assert await delivery_log.replay(engine, webhook, actor="test", event_id=unwanted) == 1
    await deliveries.claim(engine, {}, per_webhook=99, lease_s=60)
    with pytest.raises(Conflict, match="just now"):
        await delivery_log.replay(engine, webhook, actor="test", event_id=delivered)
    with pytest.raises(NotFound, match="no event"):
        await delivery_log.replay(engine, webhook, actor="test", event_id=10**12)


async def test_bad_input(engine: AsyncEngine, webhook: int) -> None:
    for wanted in ({}, {"dead": True, "event_id": 1}, {"since": datetime(2024, 1, 1)}):
        with pytest.raises(InvalidInput):
            await delivery_log.replay(engine, webhook, actor="test", **wanted)
    for wanted in ({"dead": True}, {"since": datetime.now(UTC)}, {"event_id": 1}):
        with pytest.raises(NotFound, match="no webhook"):
            await delivery_log.replay(engine, 10**9, actor="test", **wanted)
