"""Tells of images that could not be processed: part of the transaction that makes them FAILED. Imports the outbox only."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from storage.outbox import EventType, emit_many
from storage.tables import Status


async def tell_failures(connection: AsyncConnection, rows: Iterable[Any]) -> None:
    """Emits ``image.failed`` for each row that has become FAILED.

    Args:
        rows: id, status, failure and attempt of images that were changed in this transaction.
    """
    failed = sorted((row.id, row.failure, row.attempt) for row in rows if row.status == Status.FAILED)
    await emit_many(
        connection,
        [
            (EventType.IMAGE_FAILED, number, {"reason": reason, "attempts": attempt})
            for number, reason, attempt in failed
        ],
    )
