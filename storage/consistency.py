"""Reading PostgreSQL, S3 and LanceDB side by side, a page or a range of ids at a time. Changes nothing; below deployments."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row, TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from storage.database import reading
from storage.errors import NotFound
from storage.features import picture_of
from storage.objects import ObjectStore, StoredObject
from storage.vector_rows import VectorSpace
from storage.vectors import VectorTable, read_regions

Ids = NDArray[np.int64]
_REGION_BITS = 16
_DELETION_S = 60.0
"""A deletion removes the row first and the vectors within the limit of a call, serving.py's ``call_timeout_s``."""


class ImageRow(NamedTuple):
    """What a check needs of a row; ``result`` changes each time that the image is processed."""

    id: int
    s3_path: str
    model_name: str
    status: str
    uploaded: bool
    failure: str | None
    result: UUID | None


_COLUMNS = "id, s3_path, model_name, status, uploaded_at IS NOT NULL AS uploaded, failure, finished_token AS result"
_PAGE = text(f"SELECT {_COLUMNS} FROM image WHERE id > :after AND id <= :through ORDER BY id LIMIT :page")
_BY_ID = f"SELECT {_COLUMNS} FROM image WHERE id = ANY(CAST(:ids AS bigint[])) ORDER BY id"
_SETTLED = text(f"{_BY_ID} FOR KEY SHARE")
_LOCKED = text(f"{_BY_ID} FOR NO KEY UPDATE")
_BY_PATH = text("SELECT s3_path, id FROM image WHERE s3_path = ANY(CAST(:paths AS text[]))")
_PRESENT = text("SELECT id FROM image WHERE id = ANY(CAST(:ids AS bigint[]))")
_JUST_DELETED = text("""
SELECT DISTINCT subject FROM audit
WHERE subject = ANY(CAST(:subjects AS text[])) AND action = 'image.delete'
      AND at > now() - make_interval(secs => :within_s)
""")
_IN_WORK = text("""
SELECT DISTINCT found.id FROM job_unit JOIN job ON job.id = job_unit.job_id, unnest(image_ids) AS found(id)
WHERE job_unit.state <> 'done' AND job_unit.attempt > 0 AND job.status NOT IN ('done', 'cancelled')
      AND found.id = ANY(CAST(:ids AS bigint[]))
""")
_UNFINISHED = text("""
SELECT id, count(*) OVER () AS count FROM image
WHERE uploaded_at IS NULL AND created_at < now() - make_interval(secs => :older_s) ORDER BY created_at LIMIT :most
""")
_EXPIRED = text("""
SELECT id, count(*) OVER () AS count FROM image
WHERE status = 'PROCESSING' AND lease_expires_at < now() - make_interval(secs => :older_s)
ORDER BY lease_expires_at LIMIT :most
""")


class IdSet:
    """Ids of images, one bit each: 12.5 MB for 100 million that follow one another."""

    _BLOCK_BITS = 16

    def __init__(self) -> None:
        self._blocks: dict[int, bytearray] = {}

    def add(self, number: int) -> None:
        """Puts an id in."""
        block = self._blocks.setdefault(number >> self._BLOCK_BITS, bytearray(1 << (self._BLOCK_BITS - 3)))
        place = number & ((1 << self._BLOCK_BITS) - 1)
        block[place >> 3] |= 1 << (place & 7)

    def __contains__(self, number: int) -> bool:
        block = self._blocks.get(number >> self._BLOCK_BITS)
        place = number & ((1 << self._BLOCK_BITS) - 1)
        return block is not None and bool(block[place >> 3] >> (place & 7) & 1)

    def __bool__(self) -> bool:
        return bool(self._blocks)


async def newest_id(engine: AsyncEngine) -> int:
    """The largest id of an image, 0 where there is none: rows above it came after the check began."""
    async with reading(engine) as connection:
        return int(await connection.scalar(text("SELECT max(id) FROM image")) or 0)


async def pages(engine: AsyncEngine, *, through: int, page: int) -> AsyncIterator[list[ImageRow]]:
    """All rows by id, each page in a statement of its own: no transaction stays open for the length of a check.

    Args:
        through: the largest id that is asked for.
        page: rows at a time.
    """
    after = 0
    while True:
        async with reading(engine) as connection:
            found = await connection.execute(_PAGE, {"after": after, "through": through, "page": page})
            rows = [_row(one) for one in found]
        if rows:
            yield rows
        if len(rows) < page:
            return
        after = rows[-1].id


def _row(found: Row[Any]) -> ImageRow:
    return ImageRow(**found._mapping)


async def rows_of(engine: AsyncEngine, ids: Sequence[int]) -> dict[int, ImageRow]:
    """A fresh look at some rows, those that are gone left out.

    It waits for deletions that are under way: they delete the objects before they commit.
    """
    async with reading(engine) as connection:
        return {one.id: _row(one) for one in await connection.execute(_SETTLED, {"ids": list(ids)})}


async def lock_rows(connection: AsyncConnection, ids: Sequence[int]) -> dict[int, ImageRow]:
    """The same, and nobody changes or deletes the rows before the caller's transaction ends."""
    return {one.id: _row(one) for one in await connection.execute(_LOCKED, {"ids": list(ids)})}


async def _names(engine: AsyncEngine, statement: TextClause, **arguments: Any) -> set[Any]:
    async with reading(engine) as connection:
        return set((await connection.execute(statement, arguments)).scalars())


async def unknown_images(engine: AsyncEngine, ids: Sequence[int]) -> list[int]:
    """Which of ``ids`` no row knows, without those deleted so lately that their vectors may be on their way out.

    Nor are those among them that an unfinished bulk job is writing: it stores vectors before rows.
    """
    gone = set(ids) - await _names(engine, _PRESENT, ids=list(ids))
    if gone:
        gone -= await _names(engine, _IN_WORK, ids=list(gone))
    if not gone:
        return []
    subjects = [f"image/{image_id}" for image_id in gone]
    lately = await _names(engine, _JUST_DELETED, subjects=subjects, within_s=_DELETION_S)
    return sorted(image_id for image_id in gone if f"image/{image_id}" not in lately)


async def unfinished_uploads(engine: AsyncEngine, *, older_s: float, most: int) -> tuple[int, list[int]]:
    """Rows without ``uploaded_at`` that are older than ``older_s`` seconds: how many, and the first ``most`` ids."""
    return await _counted(engine, _UNFINISHED, older_s, most)


async def expired_leases(engine: AsyncEngine, *, older_s: float, most: int) -> tuple[int, list[int]]:
    """Images whose lease has been over for ``older_s`` seconds and that nobody took back; the rest as above."""
    return await _counted(engine, _EXPIRED, older_s, most)


async def _counted(engine: AsyncEngine, statement: TextClause, older_s: float, most: int) -> tuple[int, list[int]]:
    async with reading(engine) as connection:
        rows = (await connection.execute(statement, {"older_s": older_s, "most": most})).all()
    return (rows[0][1] if rows else 0), [row.id for row in rows]


class Listing:
    """The objects under a prefix beside the rows that know them.

    Args:
        engine, objects: what is compared.
        prefix: of the keys.
        details: the objects are details of pictures, not pictures.
        page: keys at a time.
    """

    def __init__(self, engine: AsyncEngine, objects: ObjectStore, prefix: str, *, details: bool, page: int) -> None:
        self._engine, self._objects = engine, objects
        self._prefix, self._details, self._page = prefix, details, page
        self.known = IdSet()
        """Images whose object was listed."""

    async def strangers(self) -> AsyncIterator[tuple[int, list[StoredObject]]]:
        """Lists everything once.

        Yields:
            For each page how many objects it had, and those that no row knows.
        """
        page: list[StoredObject] = []
        async for one in self._objects.list(self._prefix, page=self._page):
            page.append(one)
            if len(page) == self._page:
                yield len(page), await self._unknown(page)
                page = []
        if page:
            yield len(page), await self._unknown(page)

    async def _unknown(self, page: Sequence[StoredObject]) -> list[StoredObject]:
        names = {one.key: self._names_of(one.key) for one in page}
        async with reading(self._engine) as connection:
            paths = [path for some in names.values() for path in some]
            ids = {row.s3_path: row.id for row in await connection.execute(_BY_PATH, {"paths": paths})}
        for image_id in ids.values():
            self.known.add(image_id)
        return [one for one in page if not any(path in ids for path in names[one.key])]

    def _names_of(self, key: str) -> list[str]:
        """What a row may call the picture: one of our own bucket may also be referred to as if it were another's."""
        if self._details:
            return [picture_of(key)]
        return [key, self._objects.address(key)]

    async def still_unknown(self, one: StoredObject) -> bool:
        """A fresh look: the object is still the same, and no row knows it."""
        if await self._unknown([one]):
            try:
                return (await self._objects.head(one.key)).etag == one.etag
            except NotFound:
                return False
        return False


@dataclass(frozen=True)
class Presence:
    """Images that have rows in a table, and those of them that have a region twice; sorted."""

    images: Ids
    repeated: Ids


async def presence(
    connection: Any, space: VectorSpace, *, known: Ids, after: int, through: int | None, batch: int,
    strangers: Callable[[Ids], Awaitable[None]] | None = None,
) -> tuple[Presence, int]:  # fmt: skip
    """What a table holds of a range of images; memory grows with the regions of ``known`` only.

    Args:
        connection: lancedb.AsyncConnection.
        known: sorted ids of images that are asked about.
        after, through: the range, see ``read_regions``.
        batch: rows at a time.
        strangers: told the ids of other images that have rows, batch by batch.
    Returns:
        The presence of the known images, and how many rows were read.
    """
    table = await VectorTable.open(connection, space, create=False)
    empty = np.empty(0, np.int64)
    if table is None:
        return Presence(empty, empty), 0
    held, repeated, waiting, read = empty, empty, 0, 0
    fresh: list[Ids] = []

    def merge() -> tuple[Ids, Ids]:
        everything: Ids = np.concatenate([held, *fresh])
        keys, counts = np.unique(everything, return_counts=True)
        return keys, np.union1d(repeated, keys[counts > 1] >> _REGION_BITS)

    async for ids, regions in read_regions(table.handle, after=after, through=through, batch=batch):
        read += len(ids)
        mine = np.isin(ids, known)
        if strangers is not None and not mine.all():
            await strangers(np.unique(ids[~mine]))
        fresh.append((ids[mine] << _REGION_BITS) | (regions[mine].astype(np.int64) & ((1 << _REGION_BITS) - 1)))
        waiting += int(mine.sum())
        if waiting > max(len(held), 16 * batch):  # merged when it has doubled: the sorting stays n log n
            held, repeated = merge()
            fresh, waiting = [], 0
    held, repeated = merge()
    return Presence(np.unique(held >> _REGION_BITS), repeated), read
