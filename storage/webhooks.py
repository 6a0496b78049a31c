"""Webhooks: who wants to be told of events, with which secret, and how it goes. Below the ingress and the sender."""

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col

from storage.audit import record
from storage.database import reading
from storage.errors import Conflict, InvalidInput, NotFound
from storage.event_tables import Webhook
from storage.outbox import EVENT_CHANNEL, EventType
from storage.tables import columns_of

MOST = 100
"""Webhooks of one installation: each adds a row to every event that it wants."""
_MAKING = 0x5AFE0E6B
_SECRET_BYTES = 32
_REMOVED_AT_ONCE = 5000
_HEALTHY = {"failures": 0, "failing_since": None, "last_error": None, "paused_until": None}


@dataclass(frozen=True)
class Backlog:
    """What is not delivered to a webhook: counts, and when the oldest waiting event was first wanted."""

    waiting: int = 0
    dead: int = 0
    oldest_waiting: datetime | None = None


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def _known(types: Sequence[str]) -> list[str]:
    unknown = sorted(set(types) - set(EventType))
    if unknown:
        raise InvalidInput(f"no such events: {', '.join(unknown)}; there are {', '.join(EventType)}", "types")
    return sorted(set(types))


def _origin(url: str) -> str:
    """For the audit, which keeps everything for ever: path and query may hold what only the receiver should know."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _missing(webhook_id: int) -> NotFound:
    return NotFound(f"there is no webhook {webhook_id}")


async def create(
    engine: AsyncEngine, url: str, *, types: Sequence[str] = (), description: str = "", created_by: str
) -> Webhook:
    """Adds a webhook; it is told of what happens from now on.

    Args:
        url: checked by ``deployments.webhooks.addresses``.
        types: wanted events; none for all.
    Returns:
        The row with its secret: the one time that it may be shown.
    Raises:
        InvalidInput: an unknown type.
        Conflict: there are too many.
    """
    values = {"url": url, "types": _known(types), "description": description, "created_by": created_by}
    async with engine.begin() as connection:
        await connection.execute(select(func.pg_advisory_xact_lock(_MAKING)))
        if ((await connection.scalar(select(func.count()).select_from(Webhook))) or 0) >= MOST:
            raise Conflict(f"there are {MOST} webhooks already; delete one first")
        statement = insert(Webhook).values(secret=_new_secret(), **values).returning(*columns_of(Webhook))
        made = Webhook(**(await connection.execute(statement)).one()._mapping)
        await record(
            connection, created_by, "webhook.create", f"webhook/{made.id}", {"to": _origin(url), "types": made.types}
        )
    return made


async def listing(engine: AsyncEngine) -> list[Webhook]:
    """All, by id."""
    async with reading(engine) as connection:
        rows = (await connection.execute(select(*columns_of(Webhook)).order_by(col(Webhook.id)))).all()
    return [Webhook(**row._mapping) for row in rows]


async def get(engine: AsyncEngine, webhook_id: int) -> Webhook:
    """One webhook.

    Raises:
        NotFound: there is none of that id.
    """
    async with reading(engine) as connection:
        statement = select(*columns_of(Webhook)).where(col(Webhook.id) == webhook_id)
        row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise _missing(webhook_id)
    return Webhook(**row._mapping)


_BACKLOG = text("""
SELECT webhook_id, count(*) FILTER (WHERE state = 'waiting') AS waiting, count(*) FILTER (WHERE state = 'dead') AS dead,
       min(begun_at) FILTER (WHERE state = 'waiting') AS oldest
FROM delivery WHERE webhook_id = ANY(:ids) AND state IN ('waiting', 'dead') GROUP BY webhook_id
""")


async def backlogs(engine: AsyncEngine, webhook_ids: Sequence[int]) -> dict[int, Backlog]:
    """What is not delivered to some webhooks, by id."""
    async with reading(engine) as connection:
        rows = (await connection.execute(_BACKLOG, {"ids": list(webhook_ids)})).all()
    found = {row.webhook_id: Backlog(row.waiting, row.dead, row.oldest) for row in rows}
    return {webhook_id: found.get(webhook_id, Backlog()) for webhook_id in webhook_ids}


async def _update(connection: AsyncConnection, webhook_id: int, values: dict[str, Any]) -> Webhook:
    statement = update(Webhook).where(col(Webhook.id) == webhook_id).values(**values).returning(*columns_of(Webhook))
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise _missing(webhook_id)
    return Webhook(**row._mapping)


_DUE_NOW = text("""
WITH later AS (
    SELECT event_id FROM delivery
    WHERE webhook_id = :id AND state = 'waiting' AND lease_token IS NULL AND due_at > now()
    FOR UPDATE SKIP LOCKED),
     moved AS (
    UPDATE delivery AS d SET due_at = now() FROM later WHERE d.event_id = later.event_id AND d.webhook_id = :id)
SELECT pg_notify(:channel, '')
""")


async def change(
    engine: AsyncEngine,
    webhook_id: int,
    *,
    url: str | None = None,
    types: Sequence[str] | None = None,
    description: str | None = None,
    enabled: bool | None = None,
    actor: str,
) -> Webhook:
    """Changes what is given. Another address or enabling forgets failures and sends what waits at once.

    While a webhook is disabled nothing is sent, what waits stays, and what happens is not kept for it (see
    ``storage.deliveries.replay``).

    Raises:
        NotFound: there is none of that id.
        InvalidInput: an unknown type.
    """
    values: dict[str, Any] = {}
    if url is not None:
        values |= {"url": url, **_HEALTHY}
    if types is not None:
        values["types"] = _known(types)
    if description is not None:
        values["description"] = description
    if enabled is not None:
        values["enabled"] = enabled
        values |= {**_HEALTHY, "disabled_reason": None} if enabled else {"disabled_reason": f"disabled by {actor}"}
    if not values:
        return await get(engine, webhook_id)
    given = {
        "to": url and _origin(url),
        "types": types and sorted(set(types)),
        "description": description,
        "enabled": enabled,
    }
    detail = {name: value for name, value in given.items() if value is not None}
    async with engine.begin() as connection:
        if url is not None or enabled:
            # Before the row of the webhook, and waiting for nobody: who records a delivery takes it last.
            await connection.execute(_DUE_NOW, {"id": webhook_id, "channel": EVENT_CHANNEL})
        changed = await _update(connection, webhook_id, values)
        await record(connection, actor, "webhook.change", f"webhook/{webhook_id}", detail)
    return changed


_TAKE = text("""
DELETE FROM delivery WHERE (event_id, webhook_id) IN (
    SELECT event_id, webhook_id FROM delivery WHERE webhook_id = :id ORDER BY event_id LIMIT :limit FOR UPDATE)
""")


async def remove(engine: AsyncEngine, webhook_id: int, *, actor: str) -> None:
    """Deletes a webhook with its deliveries, also those that wait. Broken off, it is disabled, and the repeat goes on.

    Deliveries go first, a part at a time: no transaction is long, and whoever records a delivery, which takes its row
    before that of the webhook, never waits in a circle.

    Raises:
        NotFound: there is none of that id.
    """
    async with engine.begin() as connection:
        await _update(connection, webhook_id, {"enabled": False, "disabled_reason": "it is being deleted"})
    taken = _REMOVED_AT_ONCE
    while taken == _REMOVED_AT_ONCE:
        async with engine.begin() as connection:
            taken = (await connection.execute(_TAKE, {"id": webhook_id, "limit": _REMOVED_AT_ONCE})).rowcount
    async with engine.begin() as connection:
        gone = await connection.execute(
            delete(Webhook).where(col(Webhook.id) == webhook_id).returning(col(Webhook.url))
        )  # fmt: skip
        url = gone.scalar_one_or_none()
        if url is not None:
            await record(connection, actor, "webhook.remove", f"webhook/{webhook_id}", {"to": _origin(url)})


async def rotate(engine: AsyncEngine, webhook_id: int, *, keep_s: float, actor: str) -> Webhook:
    """Gives a webhook another secret; the old one signs too for ``keep_s`` seconds.

    Returns:
        The row with the new secret: the one time that it may be shown.
    Raises:
        NotFound: there is none of that id.
    """
    values = {
        "secret": _new_secret(),
        "old_secret": col(Webhook.secret) if keep_s else None,
        "old_secret_until": func.now() + timedelta(seconds=keep_s) if keep_s else None,
    }
    async with engine.begin() as connection:
        rotated = await _update(connection, webhook_id, values)
        await record(connection, actor, "webhook.rotate", f"webhook/{webhook_id}", {"old_signs_for_s": keep_s})
    return rotated


_TEST = text("""
WITH made AS (INSERT INTO event (type, data) VALUES (:type, CAST('{}' AS jsonb)) RETURNING id),
     queued AS (INSERT INTO delivery (event_id, webhook_id) SELECT id, :webhook_id FROM made RETURNING event_id)
SELECT event_id, pg_notify(:channel, '') FROM queued
""")


async def test(engine: AsyncEngine, webhook_id: int, *, actor: str) -> int:
    """Sends one webhook an event ``webhook.test``, whatever it wants.

    Returns:
        The event's id: its delivery shows what became of it.
    Raises:
        NotFound: there is none of that id.
        Conflict: it is disabled.
    """
    async with engine.begin() as connection:
        held = select(col(Webhook.enabled)).where(col(Webhook.id) == webhook_id).with_for_update(read=True)
        enabled = (await connection.execute(held)).scalar_one_or_none()
        if enabled is None:
            raise _missing(webhook_id)
        if not enabled:
            raise Conflict(f"webhook {webhook_id} is disabled; enable it first")
        values = {"type": EventType.WEBHOOK_TEST, "webhook_id": webhook_id, "channel": EVENT_CHANNEL}
        event_id = int((await connection.execute(_TEST, values)).one().event_id)
        await record(connection, actor, "webhook.test", f"webhook/{webhook_id}", {"event": event_id})
    return event_id
