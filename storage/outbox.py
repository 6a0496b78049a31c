"""The transactional outbox: an event is written by the transaction that makes it happen, or not at all. Imports nothing ours."""

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

EVENT_CHANNEL = "safeguard_event"
"""NOTIFY on it wakes the sender of webhooks."""


class EventType(StrEnum):
    """What webhooks can be told of; their data are described in docs/webhooks.md."""

    IMAGE_PROCESSED = "image.processed"
    IMAGE_FAILED = "image.failed"
    IMAGE_DECIDED = "image.decided"
    IMAGE_DELETED = "image.deleted"
    MEMBER_ADDED = "bank.member_added"
    MEMBER_REMOVED = "bank.member_removed"
    MEMBER_QUARANTINED = "bank.member_quarantined"
    LOOKBACK_FINISHED = "lookback.finished"
    WEBHOOK_TEST = "webhook.test"


# The rows of the images are locked before the ids are given out: so the ids of one image's events are in the order of
# the commits, and a later one can never be sent while an earlier one is not yet to be seen. KEY SHARE keeps a webhook
# that is being deleted from making the caller's transaction fail.
_EMIT = text("""
WITH given AS MATERIALIZED (
         SELECT * FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS g(n int, type text, image_id bigint, data jsonb)),
     held AS MATERIALIZED (
         SELECT id FROM image WHERE id IN (SELECT image_id FROM given) ORDER BY id FOR NO KEY UPDATE),
     made AS (
         INSERT INTO event (type, image_id, data)
         SELECT type, image_id, data FROM given, (SELECT count(*) FROM held) AS all_held ORDER BY n
         RETURNING id, type, image_id),
     wanting AS MATERIALIZED (SELECT id, types FROM webhook WHERE enabled ORDER BY id FOR KEY SHARE),
     queued AS (
         INSERT INTO delivery (event_id, webhook_id, image_id)
         SELECT made.id, wanting.id, made.image_id FROM made
         JOIN wanting ON wanting.types = '{}' OR made.type = ANY(wanting.types)
         RETURNING webhook_id)
SELECT pg_notify(:channel, '') WHERE EXISTS (SELECT FROM queued)
""")


async def emit(connection: AsyncConnection, type: EventType, image_id: int | None, data: dict[str, Any]) -> None:
    """Writes one event in the caller's transaction; it is delivered after the commit, and not at all without one.

    Args:
        type: what has happened.
        image_id: the image it is about; None for none. Events of one image are delivered in order.
        data: what the receiver is told besides the image's id; JSON.
    """
    await emit_many(connection, [(type, image_id, data)])


async def emit_many(
    connection: AsyncConnection, events: Sequence[tuple[EventType, int | None, dict[str, Any]]]
) -> None:
    """Writes events with one statement, in order; see ``emit``. The rows of the images are locked, by ascending id."""
    if events:
        rows = [
            {"n": n, "type": type, "image_id": image_id, "data": data}
            for n, (type, image_id, data) in enumerate(events)
        ]
        await connection.execute(_EMIT, {"rows": json.dumps(rows), "channel": EVENT_CHANNEL})
