"""Claims on deliveries: nobody shares one, a lost claim can record nothing, images keep their order and hold up no other."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage import deliveries, delivery_log, webhooks
from storage.deliveries import PATIENCE, Outgoing
from storage.outbox import EventType, emit_many
from tests.events import forget_events

BAD: dict[str, Any] = {"status": 500, "delay_s": 60.0, "rest_s": 1.0, "attempts": 9, "max_age_s": 1e6}


@pytest.fixture
async def webhook(engine: AsyncEngine) -> AsyncIterator[int]:
    yield await added(engine)
    await forget_events(engine)


async def added(engine: AsyncEngine) -> int:
    return (await webhooks.create(engine, "https://x.example/", created_by="test")).id or 0


async def happen(engine: AsyncEngine, *images: int | None) -> None:
    async with engine.begin() as connection:
        await emit_many(connection, [(EventType.IMAGE_DECIDED, image, {}) for image in images])


async def claim(
    engine: AsyncEngine, *, busy: dict[int, int] | None = None, at_once: int = 100, lease_s: float = 60.0
) -> list[Outgoing]:
    return await deliveries.claim(engine, busy or {}, per_webhook=at_once, lease_s=lease_s)


async def run(engine: AsyncEngine, statement: str) -> None:
    async with engine.begin() as connection:
        await connection.execute(text(statement))


async def states(engine: AsyncEngine, webhook: int) -> list[str]:
    return [str(one.state) for one in reversed(await delivery_log.listing(engine, webhook))]


async def test_concurrent_senders_share_nothing(engine: AsyncEngine, webhook: int) -> None:
    await happen(engine, *range(1, 41))
    taken = await asyncio.gather(*(claim(engine, at_once=5) for _ in range(12)))
    got = [held.event_id for batch in taken for held in batch]
    while rest := await claim(engine, at_once=5):
        got += [held.event_id for held in rest]
    assert len(got) == len(set(got)) == 40


async def test_images_keep_their_order_and_hold_up_no_other(engine: AsyncEngine, webhook: int) -> None:
    await happen(engine, 1, 1, 2, None, None, 2, 1)
    first = await claim(engine)
    assert [held.image_id for held in first] == [1, 2, None, None]
    assert await claim(engine) == []
    one, two, *_ = first
    assert await deliveries.finish(engine, [(one, 200)])
    (second,) = await claim(engine)
    assert second.image_id == 1 and second.event_id > one.event_id
    assert await deliveries.fail(engine, second, "no", **BAD) == "waiting"
    assert await deliveries.finish(engine, [(two, 200)])
    assert [held.image_id for held in await claim(engine)] == [2], "the last of image 1 waits for the failed one"
    await run(engine, "UPDATE delivery SET due_at = now() WHERE state = 'waiting' AND lease_token IS NULL")
    (again,) = await claim(engine)
    assert (again.event_id, again.attempt, again.message_id) == (second.event_id, 2, second.message_id)
    assert await deliveries.fail(engine, again, "no", **{**BAD, "attempts": 2}) == "dead"
    (last,) = await claim(engine)
    assert last.image_id == 1, "what follows a dead letter goes on at once"


async def test_an_expired_claim_records_nothing(engine: AsyncEngine, webhook: int) -> None:
    await happen(engine, 1)
    (lost,) = await claim(engine, lease_s=0.0)
    (held,) = await claim(engine)
    assert held.token != lost.token and held.attempt == 2
    assert not await deliveries.finish(engine, [(lost, 200)])
    assert await deliveries.fail(engine, lost, "no", **BAD) is None
    assert (await webhooks.get(engine, webhook)).failures == 0
    assert await deliveries.finish(engine, [(held, 200)])
    assert not await deliveries.finish(engine, [(held, 200)])


async def test_a_webhook_has_so_many_at_a_time_whatever_others_have(engine: AsyncEngine, webhook: int) -> None:
    other = await added(engine)
    await happen(engine, *range(1, 11))
    found = await claim(engine, busy={webhook: 3, other: 9}, at_once=4)
    assert [held.webhook_id for held in found] == [webhook]


async def test_one_that_fails_in_a_row_rests_and_is_then_asked_once(engine: AsyncEngine, webhook: int) -> None:
    other = await added(engine)
    await happen(engine, *range(1, 21))
    found = [held for held in await claim(engine, at_once=8) if held.webhook_id == webhook]
    for held in found:
        await deliveries.fail(engine, held, "no connection", **BAD)
    shown = await webhooks.get(engine, webhook)
    assert shown.failures == PATIENCE, "what was under way when the rest began does not make it longer"
    assert shown.paused_until and shown.failing_since and shown.last_error == "no connection"
    assert {held.webhook_id for held in await claim(engine)} == {other}
    await run(engine, "UPDATE webhook SET paused_until = now()")
    (probe,) = [held for held in await claim(engine) if held.webhook_id == webhook]
    assert await claim(engine, busy={webhook: 1}) == []
    assert await deliveries.finish(engine, [(probe, 200)])
    well = await webhooks.get(engine, webhook)
    assert (well.failures, well.paused_until, well.failing_since) == (0, None, None)
    assert len(await claim(engine)) == 20 - 8 - 1


async def test_what_is_too_old_is_given_up_also_of_a_disabled_webhook(engine: AsyncEngine, webhook: int) -> None:
    await happen(engine, 1, 2)
    await webhooks.change(engine, webhook, enabled=False, actor="test")
    assert await claim(engine) == []
    await happen(engine, 3)
    assert await deliveries.expire(engine, max_age_s=3600) == 0
    await run(engine, "UPDATE delivery SET begun_at = now() - interval '2 hours'")
    assert await deliveries.expire(engine, max_age_s=3600) == 2
    assert await states(engine, webhook) == ["dead", "dead"]
    (one, _) = await delivery_log.listing(engine, webhook)
    assert "disabled" in (one.last_error or "")


async def test_an_old_one_is_dead_after_its_next_failure(engine: AsyncEngine, webhook: int) -> None:
    await happen(engine, 1)
    await run(engine, "UPDATE delivery SET begun_at = now() - interval '2 hours'")
    (held,) = await claim(engine)
    assert await deliveries.expire(engine, max_age_s=3600) == 0, "it is being sent"
    assert await deliveries.fail(engine, held, "no", **{**BAD, "max_age_s": 3600}) == "dead"


async def test_old_events_go_but_none_that_waits(engine: AsyncEngine, webhook: int) -> None:
    await happen(engine, 1, 2, 3)
    first, second, _ = await claim(engine)
    await deliveries.finish(engine, [(first, 200)])
    await deliveries.fail(engine, second, "no", **{**BAD, "attempts": 1})
    assert await deliveries.prune(engine, keep_s=3600) == 0
    await run(engine, "UPDATE event SET created_at = now() - interval '2 hours'")
    assert await deliveries.prune(engine, keep_s=3600) == 2
    assert await states(engine, webhook) == ["waiting"]


async def test_a_deleted_webhook_takes_its_deliveries_along(engine: AsyncEngine, webhook: int) -> None:
    await happen(engine, 1)
    (held,) = await claim(engine)
    await webhooks.remove(engine, webhook, actor="test")
    assert not await deliveries.finish(engine, [(held, 200)])
    assert await deliveries.fail(engine, held, "no", **BAD) is None


async def test_with_much_that_waits_claims_use_the_indexes(engine: AsyncEngine, webhook: int) -> None:
    await run(
        engine,
        "INSERT INTO event (type, image_id, data) SELECT 'image.decided', n / 4, '{}' FROM generate_series(4, 20000) AS n",
    )
    await run(
        engine, f"INSERT INTO delivery (event_id, webhook_id, image_id) SELECT id, {webhook}, image_id FROM event"
    )
    values = {"ids": [], "counts": [], "patience": PATIENCE, "per_webhook": 8}
    async with engine.connect() as connection:
        await connection.execute(deliveries.PLANNING)
        plan = (await connection.execute(text("EXPLAIN " + deliveries.DUE.text), values)).scalars().all()
        taken = {"events": [1], "webhooks": [1], "lease_s": 1.0}
        plan = [*plan, *(await connection.execute(text("EXPLAIN " + deliveries.TAKE.text), taken)).scalars()]
    lines = "\n".join(plan)
    assert (
        "delivery_due" in lines and "delivery_order" in lines and "delivery_pkey" in lines and "event_pkey" in lines
    ), lines
    assert "Seq Scan on" not in lines.replace("Seq Scan on webhook", ""), lines
    assert len(await claim(engine, at_once=8)) == 8


def test_the_id_is_made_of_the_event_and_its_time() -> None:
    moment = datetime.fromisoformat("2024-11-01T10:00:00.000001+00:00")
    assert deliveries.message_id(17, moment) == "evt_17_625d6ff7ee801"
