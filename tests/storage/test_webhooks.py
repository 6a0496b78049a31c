"""Webhooks are made with a secret of their own, changed, rotated, disabled and removed."""

import asyncio
import base64
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage import deliveries, delivery_log, webhooks
from storage.errors import Conflict, InvalidInput, NotFound
from storage.event_tables import Webhook
from storage.outbox import EventType, emit
from tests.events import forget_events
from tests.moderation import audited


@pytest.fixture(autouse=True)
async def no_events(engine: AsyncEngine) -> AsyncIterator[None]:
    yield
    await forget_events(engine)


async def make(engine: AsyncEngine, *types: str) -> Webhook:
    return await webhooks.create(engine, "https://x.example/", types=types, description="Ы'\"", created_by="test")


async def test_each_has_a_secret_of_its_own(engine: AsyncEngine) -> None:
    one, other = await make(engine), await make(engine, "image.deleted", "image.decided", "image.deleted")
    assert len(base64.b64decode(one.secret.removeprefix("whsec_"))) == 32 and one.secret != other.secret
    assert other.types == ["image.decided", "image.deleted"]
    assert [held.id for held in await webhooks.listing(engine)] == [one.id, other.id]
    assert one.secret not in repr(one)
    with pytest.raises(InvalidInput, match=r"no such events: image\.eaten; there are image\.processed"):
        await make(engine, "image.eaten")


async def test_there_is_a_most(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(
            text(
                "INSERT INTO webhook (url, types, secret, created_by)"
                f" SELECT 'x', '{{}}', 's', 't' FROM generate_series(1, {webhooks.MOST})"
            )
        )
    with pytest.raises(Conflict, match="100 webhooks already"):
        await make(engine)


async def test_changes(engine: AsyncEngine) -> None:
    held = (await make(engine)).id or 0
    await webhooks.change(engine, held, types=["image.failed"], description="new", actor="me")
    await webhooks.change(engine, held, enabled=False, actor="me")
    shown = await webhooks.get(engine, held)
    assert (shown.types, shown.description, shown.enabled) == (["image.failed"], "new", False)
    assert shown.disabled_reason == "disabled by me"
    assert (await webhooks.change(engine, held, actor="me")).url == "https://x.example/"
    with pytest.raises(InvalidInput):
        await webhooks.change(engine, held, types=["nope"], actor="me")
    shown = await webhooks.change(engine, held, enabled=True, url="https://y.example/", actor="me")
    assert (shown.enabled, shown.disabled_reason, shown.url) == (True, None, "https://y.example/")


async def test_another_address_is_tried_at_once(engine: AsyncEngine) -> None:
    held = (await make(engine)).id or 0
    async with engine.begin() as connection:
        await emit(connection, EventType.IMAGE_DECIDED, 1, {})
    (one,) = await deliveries.claim(engine, {}, per_webhook=1, lease_s=60)
    await deliveries.fail(engine, one, "no", status=500, delay_s=3600, rest_s=1, attempts=9, max_age_s=1e6)
    assert await deliveries.claim(engine, {}, per_webhook=1, lease_s=60) == []
    await webhooks.change(engine, held, url="https://y.example/", actor="me")
    (again,) = await deliveries.claim(engine, {}, per_webhook=1, lease_s=60)
    assert again.url == "https://y.example/" and again.message_id == one.message_id


async def test_rotation(engine: AsyncEngine) -> None:
    made = await make(engine)
    rotated = await webhooks.rotate(engine, made.id or 0, keep_s=60, actor="me")
    assert rotated.secret != made.secret and rotated.old_secret == made.secret
    assert rotated.old_secret_until and rotated.old_secret_until > datetime.now(UTC)
    at_once = await webhooks.rotate(engine, made.id or 0, keep_s=0, actor="me")
    assert (at_once.old_secret, at_once.old_secret_until) == (None, None)


async def test_a_test_goes_to_one_webhook_whatever_it_wants(engine: AsyncEngine) -> None:
    one, other = await make(engine, "image.failed"), await make(engine)
    event = await webhooks.test(engine, one.id or 0, actor="test")
    assert (await audited(engine, f"webhook/{one.id}"))[1:] == [("webhook.test", "test", {"event": event})]
    assert [record.event_id for record in await delivery_log.listing(engine, one.id or 0)] == [event]
    assert await delivery_log.listing(engine, other.id or 0) == []
    await webhooks.change(engine, one.id or 0, enabled=False, actor="me")
    with pytest.raises(Conflict, match="enable it first"):
        await webhooks.test(engine, one.id or 0, actor="test")


async def test_backlogs(engine: AsyncEngine) -> None:
    busy, idle = (await make(engine)).id or 0, (await make(engine, "image.failed")).id or 0
    async with engine.begin() as connection:
        for _ in range(3):
            await emit(connection, EventType.IMAGE_DECIDED, None, {})
    held, *_ = await deliveries.claim(engine, {}, per_webhook=1, lease_s=60)
    await deliveries.fail(engine, held, "no", status=500, delay_s=1, rest_s=1, attempts=1, max_age_s=1e6)
    found = await webhooks.backlogs(engine, [busy, idle])
    assert (found[busy].waiting, found[busy].dead) == (2, 1) and found[busy].oldest_waiting
    assert found[idle] == webhooks.Backlog()


async def test_none_of_that_id(engine: AsyncEngine) -> None:
    nobody = 10**12
    for call in (
        webhooks.get(engine, nobody),
        webhooks.change(engine, nobody, enabled=True, actor="me"),
        webhooks.remove(engine, nobody, actor="me"),
        webhooks.rotate(engine, nobody, keep_s=1, actor="me"),
        webhooks.test(engine, nobody, actor="test"),
    ):
        with pytest.raises(NotFound, match="no webhook 1000000000000"):
            await call


async def test_removing_while_deliveries_are_recorded(engine: AsyncEngine) -> None:
    """Nobody waits in a circle, and nothing is left."""
    for _ in range(5):
        held = (await make(engine)).id or 0
        async with engine.begin() as connection:
            for image in range(40):
                await emit(connection, EventType.IMAGE_DECIDED, image, {})
        found = await deliveries.claim(engine, {}, per_webhook=40, lease_s=60)
        bad = {"status": 500, "delay_s": 1, "rest_s": 1, "attempts": 9, "max_age_s": 1e6}
        async with asyncio.timeout(60):
            await asyncio.gather(
                *(deliveries.fail(engine, one, "no", **bad) for one in found[:20]),  # type: ignore[arg-type]
                webhooks.remove(engine, held, actor="me"),
                deliveries.finish(engine, [(one, 200) for one in found[20:]]),
            )
        assert await webhooks.listing(engine) == []


async def test_what_is_done_is_in_the_audit_without_secrets(engine: AsyncEngine) -> None:
    made = await make(engine, "image.failed")
    number = made.id or 0
    await webhooks.change(engine, number, types=[], enabled=False, url="https://y.example:8/token?a=b", actor="me")
    await webhooks.rotate(engine, number, keep_s=60, actor="me")
    await webhooks.remove(engine, number, actor="me")
    statement = "SELECT actor, action, detail FROM audit WHERE subject = :subject ORDER BY sequence"
    async with engine.connect() as connection:
        rows = (await connection.execute(text(statement), {"subject": f"webhook/{number}"})).all()
    assert [(row.actor, row.action) for row in rows] == [
        ("test", "webhook.create"), ("me", "webhook.change"), ("me", "webhook.rotate"), ("me", "webhook.remove")
    ]  # fmt: skip
    assert rows[0].detail == {"to": "https://x.example", "types": ["image.failed"]}
    assert rows[1].detail == {"to": "https://y.example:8", "types": [], "enabled": False}
    assert "whsec_" not in str(rows) and "token" not in str(rows)
