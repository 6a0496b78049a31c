"""Banks, members and processed pictures for tests of the content filter, as rows and through the product's own finish."""

from collections.abc import Sequence
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from storage import claims
from storage.claims import Outcome
from storage.links import Link, store_links
from storage.objects import ObjectStore
from tests.storage.test_claims import stored

SAFE = {"opennsfw@1": 0.01}
DOUBTFUL = {"opennsfw@1": 0.7}
UNSAFE = {"opennsfw@1": 0.95}


async def bank(connection: AsyncConnection, kind: str = "unacceptable", *, pdq_distance: int = 31) -> int:
    """A bank with a name of its own; the caller has called ``change_banks``."""
    row = await connection.execute(
        text(
            "INSERT INTO bank (name, kind, relations, pdq_distance, created_by)"
            " VALUES (:name, :kind, '{exact,copy,semantic}', :distance, 'test') RETURNING id"
        ),
        {"name": f"bank {uuid4()}", "kind": kind, "distance": pdq_distance},
    )
    return int(row.scalar_one())


async def member(connection: AsyncConnection, bank: int, **columns: object) -> int:
    """A member with ``image_id``, or with ``pdq`` or ``sha256``."""
    names = ", ".join(columns)
    row = await connection.execute(
        text(
            f"INSERT INTO bank_member (bank_id, added_by, {names})"
            f" VALUES (:bank, 'test', {', '.join(':' + name for name in columns)}) RETURNING id"
        ),
        {"bank": bank, **columns},
    )
    return int(row.scalar_one())


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
