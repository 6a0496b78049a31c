"""Which PDQ members of banks stored images are near. Below the deployments.

Members are locked by id before anything of them is written, and those that are gone are left out: whoever takes one away
waits for these, or these for it, and neither for the other.
"""

import json
from collections.abc import Mapping, Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

Near = Mapping[int, Mapping[int, int]]
"""Image id -> member id -> distance in bits."""

_IMAGES = text("SELECT id FROM image WHERE id = ANY(CAST(:ids AS bigint[])) ORDER BY id FOR KEY SHARE")
_MEMBERS = text("""
SELECT id FROM bank_member WHERE id IN (
    SELECT unnest(CAST(:members AS bigint[]))
    UNION SELECT member_id FROM hash_finding WHERE image_id = ANY(CAST(:replaced AS bigint[])))
ORDER BY id FOR KEY SHARE
""")
_FORGET = text("DELETE FROM hash_finding WHERE image_id = ANY(CAST(:ids AS bigint[]))")
_STORE = text("""
INSERT INTO hash_finding (image_id, member_id, distance)
SELECT image_id, member_id, distance
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(image_id bigint, member_id bigint, distance int)
ORDER BY image_id, member_id
ON CONFLICT (image_id, member_id) DO UPDATE SET distance = excluded.distance
""")


async def add_findings(connection: AsyncConnection, found: Near) -> None:
    """Stores what images are near besides what is stored of them; images and members that are gone are left out."""
    await _store(connection, found, [])


async def replace_findings(connection: AsyncConnection, image_ids: Sequence[int], found: Near) -> None:
    """Stores what images are near in place of what was stored of them; members that are gone are left out."""
    await _store(connection, {one: found.get(one, {}) for one in image_ids}, image_ids)


async def _store(connection: AsyncConnection, found: Near, replaced: Sequence[int]) -> None:
    images = set((await connection.execute(_IMAGES, {"ids": sorted(found)})).scalars())
    near = sorted({member for one in found.values() for member in one})
    members = set((await connection.execute(_MEMBERS, {"members": near, "replaced": sorted(replaced)})).scalars())
    if replaced:
        await connection.execute(_FORGET, {"ids": sorted(replaced)})
    rows = [
        {"image_id": image_id, "member_id": member, "distance": distance}
        for image_id, distances in sorted(found.items())
        for member, distance in sorted(distances.items())
        if image_id in images and member in members
    ]
    if rows:
        await connection.execute(_STORE, {"rows": json.dumps(rows)})
