"""Stored images that are members of banks, as vector readers and the pipeline need them. Below the deployments."""

from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.database import reading
from storage.facts import SHOWN

_NEWEST = text("SELECT coalesce(max(id), 0) FROM bank_member")
_SINCE = text("SELECT id, image_id FROM bank_member WHERE id > :after AND image_id IS NOT NULL ORDER BY id")
_LINKED = text(f"""
WITH asked AS (SELECT unnest(CAST(:ids AS bigint[])) AS id)
SELECT member.image_id FROM asked JOIN image_match link ON link.image_a = asked.id
       JOIN bank_member member ON member.image_id = link.image_b WHERE {SHOWN}
UNION
SELECT member.image_id FROM asked JOIN image_match link ON link.image_b = asked.id
       JOIN bank_member member ON member.image_id = link.image_a WHERE {SHOWN}
""")


async def newest(engine: AsyncEngine) -> int:
    """The id of the newest member, of any form; 0 where there are none.

    Whoever adds a member holds ``change_banks``' lock when its id is given: who has read all members up to this id lacks
    none that was added before.
    """
    async with reading(engine) as connection:
        return int((await connection.execute(_NEWEST)).scalar_one())


async def since(engine: AsyncEngine, after: int) -> list[tuple[int, int]]:
    """Members that are images, with larger ids: the ids of member and image. Also those that are not in force."""
    async with reading(engine) as connection:
        return [(row.id, row.image_id) for row in await connection.execute(_SINCE, {"after": after})]


async def linked_to(engine: AsyncEngine, image_ids: Sequence[int]) -> set[int]:
    """Images that are members of some bank and linked to one of these."""
    if not image_ids:
        return set()
    async with reading(engine) as connection:
        return set((await connection.execute(_LINKED, {"ids": sorted(set(image_ids))})).scalars())
