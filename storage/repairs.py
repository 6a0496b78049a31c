"""What a check changes in PostgreSQL: each change leaves an audit entry, and no row is deleted. Below deployments."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.audit import record_many
from storage.claims import MISSING_PICTURE, forget
from storage.consistency import ImageRow, lock_rows
from storage.failures import tell_failures
from storage.uploads import UPLOAD_CHANNEL

ACTOR = "safeguard check"

_REQUEUE = text("""
UPDATE image SET status = 'UPLOADED', attempt = 1, processed_at = NULL, not_before = NULL
WHERE id = ANY(CAST(:ids AS bigint[])) AND status = 'PROCESSED'
RETURNING id, model_name
""")
"""With one attempt counted the next claim is a second one, which replaces the vectors that are there."""

_NOTIFY = text("SELECT pg_notify(:channel, :name)")

_FAIL = text("""
UPDATE image SET status = 'FAILED', failure = :reason, lease_token = NULL, lease_expires_at = NULL, not_before = NULL
WHERE id = :id RETURNING id, status, failure, attempt
""")


async def audit(connection: AsyncConnection, action: str, entries: Sequence[tuple[str, dict[str, Any]]]) -> None:
    """Notes what the check did, as part of the caller's transaction: the last thing before its commit.

    Args:
        entries: subjects (``image/7``, ``object/images/…``) with details.
    """
    await record_many(connection, ACTOR, [(action, subject, detail) for subject, detail in entries])


async def lock_unchanged(connection: AsyncConnection, rows: Sequence[ImageRow]) -> set[int]:
    """Locks rows until the caller's transaction ends; returns the ids of those that still are as they were looked at."""
    now = await lock_rows(connection, [row.id for row in rows])
    return {row.id for row in rows if now.get(row.id) == row}


async def requeue(connection: AsyncConnection, reasons: Mapping[int, str]) -> None:
    """Puts processed images back in their queues, to be processed anew in place of what is stored of them.

    Detections and content scores go; links stay until better ones are found. Part of the caller's transaction, which
    holds the locks of ``lock_unchanged``, and the last thing before its commit (see storage.audit).

    Args:
        reasons: for each image, for the audit.
    """
    waiting = {one.id: one.model_name for one in await connection.execute(_REQUEUE, {"ids": list(reasons)})}
    await forget(connection, list(waiting))
    for name in sorted(set(waiting.values())):
        await connection.execute(_NOTIFY, {"channel": UPLOAD_CHANNEL, "name": name})
    await audit(connection, "image.requeue", [(f"image/{number}", {"reason": reasons[number]}) for number in waiting])


async def fail_missing(connection: AsyncConnection, row: ImageRow) -> None:
    """Makes an image FAILED because its picture is missing; the row must be locked by the caller's transaction."""
    failed = await connection.execute(_FAIL, {"id": row.id, "reason": MISSING_PICTURE})
    await tell_failures(connection, failed.all())
    detail = {"reason": MISSING_PICTURE, "s3_path": row.s3_path, "status": row.status}
    await audit(connection, "image.fail", [(f"image/{row.id}", detail)])
