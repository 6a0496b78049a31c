"""The end of a transaction that makes images PROCESSED: which hashes they are near, who is told, what is decided."""

import json
from collections.abc import Mapping, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.decisions import decide, touched_by
from storage.outbox import EventType, emit_many
from storage.tables import Status

_FORGET = text("DELETE FROM hash_finding WHERE image_id = ANY(CAST(:ids AS bigint[]))")
_STORE = text("""
INSERT INTO hash_finding (image_id, member_id, distance)
SELECT r.image_id, r.member_id, r.distance
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(image_id bigint, member_id bigint, distance int)
     JOIN bank_member ON bank_member.id = r.member_id
ON CONFLICT (image_id, member_id) DO UPDATE SET distance = excluded.distance
""")


async def store_hashes(
    connection: AsyncConnection, image_ids: Sequence[int], hashes: Mapping[int, Mapping[int, int]]
) -> None:
    """Stores which PDQ members of banks images are near, in place of what was stored before.

    Args:
        hashes: image id -> member id -> distance in bits.
    """
    await connection.execute(_FORGET, {"ids": sorted(image_ids)})
    rows = [
        {"image_id": image_id, "member_id": member, "distance": distance}
        for image_id in sorted(image_ids)
        for member, distance in hashes.get(image_id, {}).items()
    ]
    if rows:
        await connection.execute(_STORE, {"rows": json.dumps(rows)})


async def tell_and_decide(connection: AsyncConnection, image_ids: Sequence[int], *, cause: str) -> None:
    """Events and verdicts of images that are PROCESSED now; comes last, since it takes the audit's lock."""
    if image_ids:
        events = [(EventType.IMAGE_PROCESSED, one, {"status": Status.PROCESSED.value}) for one in image_ids]
        await emit_many(connection, events)
        await decide(connection, await touched_by(connection, image_ids), cause=cause)
