"""Processed pictures, judged by what a filter is to have said of them, and links between them, for tests of verdicts."""

from collections.abc import Sequence
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from storage import claims
from storage.claims import Outcome
from storage.links import Link, store_links
from storage.objects import ObjectStore
from tests.storage.test_claims import stored

SAFE = {"opennsfw@1": 0.01}
DOUBTFUL = {"opennsfw@1": 0.7}
UNSAFE = {"opennsfw@1": 0.95}


async def finish(engine: AsyncEngine, queue: str, **outcome: object) -> int:
    """Claims the oldest picture of a queue and finishes it, as safe unless told otherwise; returns its id."""
    (held,) = await claims.claim(engine, [queue], 1, lease_s=60, max_attempts=3)
    assert await claims.finish(engine, [Outcome(held, **{"content_scores": SAFE, **outcome})]) == {held.image_id}
    return held.image_id


async def processed(
    engine: AsyncEngine, objects: ObjectStore, scores: Sequence[dict[str, float]], queue: str | None = None
) -> list[int]:
    """Pictures that are uploaded, and processed with what a filter said of each."""
    name = queue or f"queue-{uuid4()}"
    ids = await stored(engine, objects, name, len(scores))
    assert [await finish(engine, name, content_scores=one) for one in scores] == ids
    return ids


async def linked(engine: AsyncEngine, image_id: int, other: int, relation: str = "copy") -> None:
    """A link between two pictures, as a worker of the platform would have stored it."""
    async with engine.begin() as connection:
        link = Link(other, relation, "geometry", 0.99, 0.98, {"index_versions": {"lite@2": 4}}, "")
        await store_links(connection, [(image_id, link)])
