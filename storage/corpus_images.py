"""Which images' objects are still in the corpora that they were indexed from: by listing, not by a request for each."""

from collections.abc import AsyncIterator

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.corpus import Lister, list_corpus
from storage.database import reading
from storage.jobs import BACKFILL

_SOURCES = text("SELECT DISTINCT source FROM job WHERE kind = :kind ORDER BY source")
_BY_PATH = text("SELECT id FROM image WHERE s3_path = ANY(CAST(:paths AS text[]))")


async def sources(engine: AsyncEngine) -> list[str]:
    """What backfills were made for, as ``s3://bucket/prefix``, those left out that lie below another one."""
    async with reading(engine) as connection:
        found = sorted((await connection.execute(_SOURCES, {"kind": BACKFILL})).scalars())
    kept: list[str] = []
    for one in found:  # sorted: whatever begins with a prefix follows it
        if not kept or not one.startswith(kept[-1]):
            kept.append(one)
    return kept


async def present(engine: AsyncEngine, objects: Lister, source: str) -> AsyncIterator[tuple[int, list[int]]]:
    """Lists a corpus once, a page in memory at a time, and looks its rows up by address, whatever the database's order.

    Yields:
        For each page how many objects it had, and the ids of the images that they are.
    Raises:
        NotFound: there is no such bucket, or nothing under the prefix.
        Refused: no right to list it.
        Unavailable: the object store does not answer.
    """
    async for page in list_corpus(objects, source):
        async with reading(engine) as connection:
            ids = list((await connection.execute(_BY_PATH, {"paths": [one.path for one in page]})).scalars())
        yield len(page), ids
