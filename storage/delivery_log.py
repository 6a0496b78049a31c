"""What became of deliveries, and replaying them. Below the ingress and the command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.audit import record
from storage.database import reading
from storage.deliveries import message_id
from storage.errors import Conflict, InvalidInput, NotFound
from storage.event_tables import DeliveryState
from storage.moments import utc_of
from storage.outbox import EVENT_CHANNEL

_PAGE = 5000
"""Events in one transaction of a replay: well within the limit of a statement."""


@dataclass(frozen=True)
class DeliveryRecord:
    """One event and what became of its delivery to one webhook; ``next_try_at`` only while it waits."""

    event_id: int
    message_id: str
    type: str
    image_id: int | None
    created_at: datetime
    state: DeliveryState
    attempt: int
    next_try_at: datetime | None
    delivered_at: datetime | None
    last_status: int | None
    last_error: str | None


_LISTING = text("""
SELECT d.*, e.type, e.created_at FROM unnest(CAST(:states AS text[])) AS wanted(state)
CROSS JOIN LATERAL (
    SELECT * FROM delivery WHERE webhook_id = :webhook_id AND state = wanted.state AND event_id < :before
    ORDER BY event_id DESC LIMIT :limit) AS d
JOIN event AS e ON e.id = d.event_id
ORDER BY d.event_id DESC LIMIT :limit
""")

# A page in one statement: nothing is replayed of a webhook that is deleted meanwhile. Rows are locked by event, as those
# are who record what became of a try and then move what waits behind it.
_REPLAY = """
WITH target AS (SELECT id, types FROM webhook WHERE id = :webhook_id FOR KEY SHARE),
     page AS MATERIALIZED ({page}),
     queued AS (
         INSERT INTO delivery AS d (event_id, webhook_id, image_id)
         SELECT page.id, target.id, page.image_id FROM page, target WHERE {wanted} ORDER BY page.id
         ON CONFLICT (event_id, webhook_id) DO UPDATE SET state = 'waiting', due_at = now(), begun_at = now(),
             attempt = 0, delivered_at = NULL, last_status = NULL, last_error = NULL
             WHERE d.lease_token IS NULL
         RETURNING event_id)
SELECT (SELECT count(*) FROM target) AS targets, (SELECT count(*) FROM queued) AS queued,
       (SELECT max(id) FROM page) AS reached, pg_notify(:channel, '')
"""
_DEAD = text(
    _REPLAY.format(
        page="SELECT event_id AS id, image_id FROM delivery WHERE webhook_id = :webhook_id AND state = 'dead'"
        " AND event_id > :after AND event_id <= :last ORDER BY event_id LIMIT :page",
        wanted="true",
    )
)
_SINCE = text(
    _REPLAY.format(
        page="SELECT id, image_id, type, created_at FROM event WHERE id > :after AND id <= :last ORDER BY id LIMIT :page",
        wanted="page.created_at >= :since AND page.type <> 'webhook.test'"
        " AND (target.types = '{}' OR page.type = ANY(target.types))",
    )
)
_ONE = text(_REPLAY.format(page="SELECT id, image_id FROM event WHERE id = :event_id", wanted="true"))
_LAST = text("SELECT coalesce(max(id), 0) FROM event")
# An event has the time at which its transaction began, and its id later, but within the hour: all that has happened since
# then has a greater id than this one.
_BEFORE = text("""
SELECT id FROM event WHERE created_at < CAST(:since AS timestamptz) - interval '1 hour'
ORDER BY created_at DESC LIMIT 1
""")


async def listing(
    engine: AsyncEngine,
    webhook_id: int,
    *,
    states: Sequence[DeliveryState] = tuple(DeliveryState),
    before: int | None = None,
    limit: int = 100,
) -> list[DeliveryRecord]:
    """Deliveries of one webhook, the newest event first.

    Args:
        states: wanted ones.
        before: id of the last event of the page before.
    Raises:
        NotFound: there is no such webhook.
    """
    values = {"webhook_id": webhook_id, "states": list(states), "before": before or 2**63 - 1, "limit": limit}
    async with reading(engine) as connection:
        rows = (await connection.execute(_LISTING, values)).all()
        known = rows or await connection.scalar(
            text("SELECT id FROM webhook WHERE id = :webhook_id"), {"webhook_id": webhook_id}
        )
    if not known:
        raise NotFound(f"there is no webhook {webhook_id}")
    return [
        DeliveryRecord(
            r.event_id, message_id(r.event_id, r.created_at), r.type, r.image_id, r.created_at, DeliveryState(r.state),
            r.attempt, r.due_at if r.state == DeliveryState.WAITING else None, r.delivered_at, r.last_status,
            r.last_error,
        )
        for r in rows
    ]  # fmt: skip


async def replay(
    engine: AsyncEngine,
    webhook_id: int,
    *,
    actor: str,
    dead: bool = False,
    since: datetime | None = None,
    event_id: int | None = None,
    page: int = _PAGE,
) -> int:
    """Sends events again, with their old ``webhook-id``; a receiver that drops repeats sees only those that it lacks.

    They are sent page by page, the oldest first. Broken off, those before are on their way, and the repeat takes the rest.

    Args:
        actor: who wants it, for the audit.
        dead: those that were given up.
        since: all that it wants of what has happened since then, also what happened while it was disabled.
        event_id: this one, whatever the webhook wants.
        page: events looked at in one transaction.
    Returns:
        Events that are sent again; those that are being sent just now are left alone.
    Raises:
        InvalidInput: not exactly one of the three, or see ``storage.moments.utc_of``.
        NotFound: there is no such webhook, or no such event (any more).
        Conflict: that event is being sent just now.
    """
    if sum((dead, since is not None, event_id is not None)) != 1:
        raise InvalidInput("give exactly one of dead, since and event_id")
    since = since and utc_of(since, "since")
    if event_id is not None:
        return await _replay_one(engine, webhook_id, event_id, actor)
    statement, values = (_DEAD, {}) if since is None else (_SINCE, {"since": since})
    async with reading(engine) as connection:
        last = (await connection.execute(_LAST)).scalar_one()
        after = 0 if since is None else (await connection.execute(_BEFORE, values)).scalar_one_or_none() or 0
    wanted, count, first = {"since": since.isoformat()} if since else {"dead": True}, 0, True
    bounds = {"webhook_id": webhook_id, "channel": EVENT_CHANNEL, "last": last, "page": page}
    while True:
        async with engine.begin() as connection:
            row = (await connection.execute(statement, {**values, **bounds, "after": after})).one()
            if not row.targets:
                raise NotFound(f"there is no webhook {webhook_id}")
            if first:
                await record(connection, actor, "webhook.replay", f"webhook/{webhook_id}", wanted)
        count, first = count + int(row.queued), False
        if row.reached is None:
            return count
        after = row.reached


async def _replay_one(engine: AsyncEngine, webhook_id: int, event_id: int, actor: str) -> int:
    values = {"webhook_id": webhook_id, "channel": EVENT_CHANNEL, "event_id": event_id}
    async with engine.begin() as connection:
        row = (await connection.execute(_ONE, values)).one()
        if not row.targets:
            raise NotFound(f"there is no webhook {webhook_id}")
        if row.reached is None:
            raise NotFound(f"there is no event {event_id} (any more)")
        if not row.queued:
            raise Conflict(f"event {event_id} is being sent just now")
        await record(connection, actor, "webhook.replay", f"webhook/{webhook_id}", {"event": event_id})
    return 1
