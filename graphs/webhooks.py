"""Webhooks of one installation, for the command line. May import all below."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from deployments.webhooks.addresses import Guard, SystemResolver
from graphs.opening import opened
from storage import delivery_log, webhooks
from storage.delivery_log import DeliveryRecord
from storage.event_tables import DeliveryState, Webhook
from storage.webhooks import Backlog

ACTOR = "command line"


async def add(home: Path | None, url: str, types: Sequence[str], description: str) -> Webhook:
    """Checks the address and adds a webhook; the row has the secret.

    Raises:
        InvalidInput: a bad address, one that does not resolve or leads where it must not, or an unknown type.
        Conflict: there are too many.
    """
    async with opened(home) as (settings, engine):
        with contextlib.closing(SystemResolver()) as names:
            checked = await Guard(settings, names).check(url)
        return await webhooks.create(engine, checked, types=types, description=description, created_by=ACTOR)


async def every(home: Path | None) -> list[tuple[Webhook, Backlog]]:
    """All webhooks with what is not delivered."""
    async with opened(home) as (_, engine):
        found = await webhooks.listing(engine)
        backlogs = await webhooks.backlogs(engine, [one.id for one in found if one.id is not None])
    return [(one, backlogs[one.id]) for one in found if one.id is not None]


async def show(home: Path | None, webhook_id: int) -> tuple[Webhook, Backlog]:
    """One webhook with what is not delivered."""
    async with opened(home) as (_, engine):
        return await webhooks.get(engine, webhook_id), (await webhooks.backlogs(engine, [webhook_id]))[webhook_id]


async def remove(home: Path | None, webhook_id: int) -> None:
    """See ``storage.webhooks.remove``."""
    async with opened(home) as (_, engine):
        await webhooks.remove(engine, webhook_id, actor=ACTOR)


async def switch(home: Path | None, webhook_id: int, *, enabled: bool) -> None:
    """Enables or disables; see ``storage.webhooks.change``."""
    async with opened(home) as (_, engine):
        await webhooks.change(engine, webhook_id, enabled=enabled, actor=ACTOR)


async def rotate(home: Path | None, webhook_id: int) -> Webhook:
    """See ``storage.webhooks.rotate``; the old secret signs too for as long as the settings say."""
    async with opened(home) as (settings, engine):
        return await webhooks.rotate(engine, webhook_id, keep_s=settings.webhook_rotation_s, actor=ACTOR)


async def test(home: Path | None, webhook_id: int, *, wait_s: float = 15.0) -> DeliveryRecord:
    """Sends a test event and waits for its first try.

    Returns:
        The delivery as it is after the try, or after ``wait_s`` seconds.
    """
    async with opened(home) as (_, engine):
        event_id = await webhooks.test(engine, webhook_id, actor=ACTOR)
        begun = time.monotonic()
        while True:
            (record,) = await delivery_log.listing(engine, webhook_id, before=event_id + 1, limit=1)
            tried = record.state != DeliveryState.WAITING or record.last_error is not None
            if tried or time.monotonic() - begun > wait_s:
                return record
            await asyncio.sleep(0.1)


async def deliveries(
    home: Path | None, webhook_id: int, state: DeliveryState | None, *, limit: int
) -> list[DeliveryRecord]:
    """The newest deliveries; see ``storage.delivery_log.listing``."""
    async with opened(home) as (_, engine):
        states = [state] if state else list(DeliveryState)
        return await delivery_log.listing(engine, webhook_id, states=states, limit=limit)


async def replay(
    home: Path | None, webhook_id: int, *, dead: bool, since: datetime | None, event_id: int | None
) -> int:
    """See ``storage.delivery_log.replay``."""
    async with opened(home) as (_, engine):
        return await delivery_log.replay(engine, webhook_id, actor=ACTOR, dead=dead, since=since, event_id=event_id)
