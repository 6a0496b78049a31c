"""The cluster of an image: what is connected to it by exact and copy links, and what holds for each. Changes nothing."""

import hashlib
import json
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from storage.database import reading
from storage.facts import SHOWN
from storage.moderation import refuse_unprocessed

MOST = 1000
"""Images of a cluster that are looked at and decided on together; the nearest ones, if there are more."""


@dataclass(frozen=True)
class ClusterImage:
    """One image of a cluster.

    Args:
        steps: links between it and the image that was asked for; 0 is that image.
        verdict, decision_id: what holds; None if it has not been decided on.
        by_person: a person decided.
    """

    image_id: int
    name: str
    steps: int
    verdict: str | None
    rule: str | None
    severity: int | None
    by_person: bool
    decision_id: int | None


@dataclass(frozen=True)
class Cluster:
    """Images connected with each other, the nearest first; ``cut``: there are more than ``MOST``."""

    images: list[ClusterImage]
    cut: bool

    @property
    def digest(self) -> str:
        """SHA-256 in hexadecimal of the ids and the decisions that hold: it changes when any of them does."""
        held = sorted((one.image_id, one.decision_id or 0) for one in self.images)
        return hashlib.sha256(json.dumps([self.cut, held]).encode()).hexdigest()


_NEAR = text(f"""
SELECT DISTINCT link.other FROM (
    SELECT image_b AS other, image_a, image_b, descriptor, relation FROM image_match
    WHERE image_a = ANY(CAST(:ids AS bigint[]))
    UNION ALL
    SELECT image_a, image_a, image_b, descriptor, relation FROM image_match
    WHERE image_b = ANY(CAST(:ids AS bigint[]))) AS link
JOIN image ON image.id = link.other
WHERE link.relation IN ('exact', 'copy') AND image.status = 'PROCESSED' AND {SHOWN}
      AND link.other <> ALL(CAST(:seen AS bigint[]))
ORDER BY link.other LIMIT :limit
""")
_STATES = text("""
SELECT image.id, image.name, held.verdict, held.rule, held.severity, held.human_id IS NOT NULL AS by_person,
       held.decision_id
FROM image LEFT JOIN moderation held ON held.image_id = image.id
WHERE image.id = ANY(CAST(:ids AS bigint[])) AND image.status = 'PROCESSED'
""")


@dataclass(frozen=True)
class Reach:
    """The ids of a cluster: image id -> steps."""

    steps: dict[int, int]
    cut: bool


async def reach(connection: AsyncConnection, image_id: int) -> Reach:
    """Goes from image to image along exact and copy links that hold now, the nearest first, then by id."""
    steps, edge, level = {image_id: 0}, [image_id], 0
    while edge:
        level += 1
        room = MOST - len(steps)
        arguments = {"ids": edge, "seen": list(steps), "limit": room + 1}
        edge = list((await connection.execute(_NEAR, arguments)).scalars())
        steps |= dict.fromkeys(edge[:room], level)
        if len(edge) > room:
            return Reach(steps, True)
    return Reach(steps, False)


async def with_states(connection: AsyncConnection, reached: Reach) -> Cluster:
    """What holds for the images of a cluster; those that are gone are left out."""
    rows = (await connection.execute(_STATES, {"ids": list(reached.steps)})).all()
    images = [
        ClusterImage(
            row.id, row.name, reached.steps[row.id], row.verdict, row.rule, row.severity, row.by_person, row.decision_id
        )
        for row in rows
    ]
    return Cluster(sorted(images, key=lambda one: (one.steps, one.image_id)), reached.cut)


async def cluster(engine: AsyncEngine, image_id: int) -> Cluster:
    """The cluster of a processed image.

    Raises:
        NotFound: there is no such image.
        Conflict: it is not PROCESSED.
    """
    async with reading(engine) as connection:
        await refuse_unprocessed(connection, image_id)
        return await with_states(connection, await reach(connection, image_id))
