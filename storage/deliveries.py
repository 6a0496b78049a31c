"""Deliveries on their way: claimed with fencing tokens, in order per image, delivered or given up. Below the sender."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from storage.event_tables import DeliveryState

PATIENCE = 5
"""Failed tries in a row after which a whole webhook rests, and one try at a time asks whether it is back."""
_LONGEST_REST_S = 60.0
_GONE = "the receiver answered 410 Gone"


@dataclass(frozen=True)
class Outgoing:
    """One try to deliver an event. ``token`` proves the right to record what became of it."""

    event_id: int
    webhook_id: int
    type: str
    image_id: int | None
    data: dict[str, Any]
    created_at: datetime
    attempt: int
    token: UUID
    url: str
    secrets: tuple[str, ...] = field(repr=False)

    @property
    def message_id(self) -> str:
        """The ``webhook-id``, see ``message_id``."""
        return message_id(self.event_id, self.created_at)


def message_id(event_id: int, created_at: datetime) -> str:
    """The ``webhook-id`` of an event: the same for every try, and another one in every database."""
    return f"evt_{event_id}_{round(created_at.timestamp() * 1_000_000):x}"


# A queue's statistics are always old: without this, a backlog makes the planner read whole tables for each claim.
PLANNING = text(
    "SELECT "
    + ", ".join(
        f"set_config('enable_{way}', 'off', true)" for way in ("seqscan", "bitmapscan", "hashjoin", "mergejoin", "sort")
    )
)

# The row that is claimed is locked and looked at again, so of two senders only one gets it. An event waits for every
# earlier one of the same image and webhook that is not delivered or dead; a claimed one is still waiting.
DUE = text("""
SELECT d.event_id, d.webhook_id
FROM webhook AS w LEFT JOIN unnest(CAST(:ids AS bigint[]), CAST(:counts AS int[])) AS busy(webhook_id, count)
     ON busy.webhook_id = w.id
CROSS JOIN LATERAL (
    SELECT event_id, webhook_id FROM delivery AS d
    WHERE d.webhook_id = w.id AND d.state = 'waiting' AND d.due_at <= now()
          AND (d.image_id IS NULL
               OR d.event_id = (SELECT e.event_id FROM delivery AS e
                                WHERE e.webhook_id = w.id AND e.image_id = d.image_id AND e.state = 'waiting'
                                ORDER BY e.event_id LIMIT 1))
    ORDER BY d.due_at, d.event_id
    LIMIT greatest(0, CASE WHEN w.failures >= :patience THEN 1 ELSE :per_webhook END - coalesce(busy.count, 0))
    FOR UPDATE SKIP LOCKED) AS d
WHERE w.enabled AND (w.paused_until IS NULL OR w.paused_until <= now())
""")

TAKE = text("""
UPDATE delivery AS d SET attempt = attempt + 1, lease_token = gen_random_uuid(),
       due_at = now() + make_interval(secs => :lease_s)
FROM unnest(CAST(:events AS bigint[]), CAST(:webhooks AS bigint[])) AS due(event_id, webhook_id)
     JOIN event AS e ON e.id = due.event_id JOIN webhook AS w ON w.id = due.webhook_id
WHERE d.event_id = due.event_id AND d.webhook_id = due.webhook_id
RETURNING d.event_id, d.webhook_id, d.attempt, d.lease_token, e.type, e.image_id, e.data, e.created_at, w.url, w.secret,
          CASE WHEN w.old_secret_until > now() THEN w.old_secret END AS old_secret
""")

# Rows are locked by event, as a replay does. What waits behind a taken event is due now. The row of a webhook, which all
# its deliveries share, is written at most once in ten seconds while all is well.
_DELIVERED = text("""
WITH held AS MATERIALIZED (
         SELECT d.event_id, d.webhook_id, d.image_id, t.status
         FROM unnest(CAST(:events AS bigint[]), CAST(:webhooks AS bigint[]), CAST(:tokens AS uuid[]),
                     CAST(:statuses AS int[])) AS t(event_id, webhook_id, token, status)
              JOIN delivery AS d ON d.event_id = t.event_id AND d.webhook_id = t.webhook_id
         WHERE d.lease_token = t.token AND d.state = 'waiting'
         ORDER BY d.event_id, d.webhook_id FOR UPDATE OF d),
     done AS (
         UPDATE delivery AS d SET state = 'delivered', delivered_at = now(), lease_token = NULL, last_error = NULL,
                last_status = held.status
         FROM held WHERE d.event_id = held.event_id AND d.webhook_id = held.webhook_id
         RETURNING d.event_id, d.webhook_id),
     behind AS (
         UPDATE delivery AS d SET due_at = now()
         FROM held WHERE d.webhook_id = held.webhook_id AND d.image_id = held.image_id AND d.state = 'waiting'
                         AND d.event_id > held.event_id AND d.lease_token IS NULL AND d.due_at > now()),
     well AS (
         UPDATE webhook SET failures = 0, failing_since = NULL, last_error = NULL, paused_until = NULL,
                last_success_at = now()
         WHERE id IN (SELECT webhook_id FROM held)
               AND (failures > 0 OR last_success_at IS NULL OR last_success_at < now() - interval '10 seconds'))
SELECT event_id, webhook_id FROM done
""")

_FAILED = text("""
UPDATE delivery SET lease_token = NULL, last_status = :status, last_error = :error,
       due_at = now() + make_interval(secs => :delay_s),
       state = CASE WHEN :gone OR attempt >= :attempts OR begun_at < now() - make_interval(secs => :max_age_s)
               THEN 'dead' ELSE 'waiting' END
WHERE event_id = :event_id AND webhook_id = :webhook_id AND lease_token = :token AND state = 'waiting'
RETURNING state, image_id, due_at
""")

# While it rests, failures of tries that were under way before count no more.
_ILL = text("""
UPDATE webhook SET
    failures = CASE WHEN paused_until > now() THEN failures ELSE failures + 1 END,
    paused_until = CASE WHEN failures + 1 >= :patience AND (paused_until IS NULL OR paused_until <= now())
        THEN now() + make_interval(secs => least(:longest_s, :rest_s * power(2, least(failures + 1 - :patience, 16))))
        ELSE paused_until END,
    failing_since = coalesce(failing_since, now()), last_error = :error,
    enabled = enabled AND NOT :gone, disabled_reason = CASE WHEN :gone THEN :reason ELSE disabled_reason END
WHERE id = :webhook_id
""")

_NEXT = text("""
UPDATE delivery SET due_at = now()
WHERE webhook_id = :webhook_id AND image_id = :image_id AND state = 'waiting' AND event_id > :event_id
      AND lease_token IS NULL AND due_at > now()
""")

# What waits behind an event is not looked at in vain before its next try.
_BEHIND = text("""
UPDATE delivery SET due_at = :due_at
WHERE webhook_id = :webhook_id AND image_id = :image_id AND state = 'waiting' AND event_id > :event_id
      AND lease_token IS NULL AND due_at < :due_at
""")

_EXPIRE = text("""
WITH old AS (
    SELECT event_id, webhook_id FROM delivery
    WHERE state = 'waiting' AND begun_at < now() - make_interval(secs => :max_age_s)
          AND (lease_token IS NULL OR due_at < now())
    LIMIT 1000 FOR UPDATE SKIP LOCKED)
UPDATE delivery AS d SET state = 'dead', lease_token = NULL,
       last_error = coalesce(last_error, 'not sent in time: the webhook was disabled or rested')
FROM old WHERE d.event_id = old.event_id AND d.webhook_id = old.webhook_id
""")

_PRUNE = text("""
DELETE FROM event WHERE id IN (
    SELECT id FROM (SELECT id, created_at FROM event ORDER BY id LIMIT 1000) AS oldest
    WHERE created_at < now() - make_interval(secs => :keep_s)
          AND NOT EXISTS (SELECT FROM delivery WHERE event_id = id AND state = 'waiting'))
""")


async def claim(engine: AsyncEngine, busy: Mapping[int, int], *, per_webhook: int, lease_s: float) -> list[Outgoing]:
    """Claims what is due, the longest due first; nobody else gets it while the lease lasts.

    Args:
        busy: tries under way, by webhook.
        per_webhook: tries of one webhook under way at a time.
        lease_s: seconds after which another sender may try.
    Returns:
        By event; of each image and webhook only the earliest that is not yet delivered or dead.
    """
    values = {
        "ids": list(busy), "counts": list(busy.values()), "patience": PATIENCE, "per_webhook": per_webhook
    }  # fmt: skip
    async with engine.begin() as connection:
        await connection.execute(PLANNING)
        due = (await connection.execute(DUE, values)).all()
        if not due:
            return []
        taken = {"events": [r.event_id for r in due], "webhooks": [r.webhook_id for r in due], "lease_s": lease_s}
        rows = (await connection.execute(TAKE, taken)).all()
    return [
        Outgoing(
            r.event_id, r.webhook_id, r.type, r.image_id, r.data, r.created_at, r.attempt, r.lease_token, r.url,
            (r.secret, r.old_secret) if r.old_secret else (r.secret,),
        )
        for r in sorted(rows, key=lambda row: (row.event_id, row.webhook_id))
    ]  # fmt: skip


def _held(held: Outgoing) -> dict[str, Any]:
    return {"event_id": held.event_id, "webhook_id": held.webhook_id, "token": held.token}


async def _move_followers(connection: AsyncConnection, held: Outgoing, due_at: datetime | None) -> None:
    if held.image_id is None:
        return
    values = {"event_id": held.event_id, "webhook_id": held.webhook_id, "image_id": held.image_id}
    if due_at is None:
        await connection.execute(_NEXT, values)
    else:
        await connection.execute(_BEHIND, {**values, "due_at": due_at})


async def finish(engine: AsyncEngine, taken: Sequence[tuple[Outgoing, int]]) -> set[tuple[int, int]]:
    """Records that receivers have taken events.

    Args:
        taken: claims with the HTTP status of the answer.
    Returns:
        Event and webhook of those that were recorded; the other claims were no longer the caller's, and nothing was
        changed of them.
    """
    values = {
        "events": [held.event_id for held, _ in taken], "webhooks": [held.webhook_id for held, _ in taken],
        "tokens": [held.token for held, _ in taken], "statuses": [status for _, status in taken],
    }  # fmt: skip
    async with engine.begin() as connection:
        await connection.execute(PLANNING)
        return {(row.event_id, row.webhook_id) for row in (await connection.execute(_DELIVERED, values)).all()}


async def fail(
    engine: AsyncEngine,
    held: Outgoing,
    error: str,
    *,
    status: int | None,
    delay_s: float,
    rest_s: float,
    attempts: int,
    max_age_s: float,
    gone: bool = False,
) -> DeliveryState | None:
    """Records a failed try: another one later, or a dead letter after the last.

    Args:
        error: for the reader: no secret, nothing of the answer's body.
        status: of the answer, where there was one.
        delay_s: pause before the next try.
        rest_s: how long the webhook rests after ``PATIENCE`` failures in a row, twice as long after each further one.
        attempts: tries of one delivery.
        max_age_s: seconds for which it is tried.
        gone: the receiver wants nothing any more; the webhook is disabled.
    Returns:
        The state it has now; None if the claim was no longer the caller's.
    """
    values = {"error": error, "status": status, "delay_s": delay_s, "attempts": attempts, "max_age_s": max_age_s}
    async with engine.begin() as connection:
        row = (await connection.execute(_FAILED, {**_held(held), **values, "gone": gone})).one_or_none()
        if row is None:
            return None
        await _move_followers(connection, held, None if row.state == DeliveryState.DEAD else row.due_at)
        ill = {"webhook_id": held.webhook_id, "error": error, "gone": gone, "reason": _GONE, "patience": PATIENCE}
        await connection.execute(_ILL, {**ill, "rest_s": rest_s, "longest_s": _LONGEST_REST_S})
    return DeliveryState(row.state)


async def expire(engine: AsyncEngine, *, max_age_s: float) -> int:
    """Gives up what has waited for too long, also that of resting and disabled webhooks.

    Returns:
        Deliveries given up, at most 1,000 a call.
    """
    async with engine.begin() as connection:
        return (await connection.execute(_EXPIRE, {"max_age_s": max_age_s})).rowcount


async def prune(engine: AsyncEngine, *, keep_s: float) -> int:
    """Deletes old events with their deliveries; none that waits.

    Returns:
        Events deleted, at most 1,000 a call.
    """
    async with engine.begin() as connection:
        return (await connection.execute(_PRUNE, {"keep_s": keep_s})).rowcount
