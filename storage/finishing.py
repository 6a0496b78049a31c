"""The end of a transaction that makes images PROCESSED: who is told, what is decided."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from storage.decisions import decide, touched_by
from storage.outbox import EventType, emit_many
from storage.tables import Status


async def tell_and_decide(connection: AsyncConnection, image_ids: Sequence[int], *, cause: str) -> None:
    """Events and verdicts of images that are PROCESSED now; comes last, since it takes the audit's lock."""
    if image_ids:
        touched = await touched_by(connection, image_ids)
        events = [(EventType.IMAGE_PROCESSED, one, {"status": Status.PROCESSED.value}) for one in image_ids]
        await emit_many(connection, events)
        await decide(connection, touched, cause=cause)
