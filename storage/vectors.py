"""Vectors in LanceDB on S3: one table for each descriptor version. One writer appends; readers follow by ``seq``."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from configs.settings import Settings
from storage.errors import Unavailable
from storage.vector_rows import VectorRows, VectorSpace

_BROKEN = (OSError, RuntimeError, ValueError)
"""What LanceDB raises where the store does not answer."""
TRUSTED_S = 5.0
"""A reader opens a table anew when it last looked so long ago, and a dropped table is not made anew sooner: so a reader
sees each drop, though the versions of the new table begin at 1 again."""


def schema_of(space: VectorSpace) -> pa.Schema:
    """Columns: seq int64 (grows with each row), image_id int64, region int16, box float32[4], vector."""
    element = pa.uint8() if space.binary else pa.float16()
    return pa.schema(
        [
            pa.field("seq", pa.int64(), nullable=False),
            pa.field("image_id", pa.int64(), nullable=False),
            pa.field("region", pa.int16(), nullable=False),
            pa.field("box", pa.list_(pa.float32(), 4), nullable=False),
            pa.field("vector", pa.list_(element, space.dim), nullable=False),
        ]
    )


def _to_arrow(rows: VectorRows, space: VectorSpace, first_seq: int) -> pa.Table:
    """An Arrow table in the layout of ``space``, seq counting from ``first_seq``."""
    vectors = np.ascontiguousarray(rows.vectors, np.uint8 if space.binary else np.float16)
    if vectors.shape != (len(rows), space.dim):
        raise ValueError(f"{space.name} takes [n, {space.dim}] vectors, got {list(vectors.shape)}")
    boxes = np.ascontiguousarray(rows.boxes, np.float32).reshape(-1)
    return pa.table(
        [
            pa.array(np.arange(first_seq, first_seq + len(rows), dtype=np.int64)),
            pa.array(rows.image_ids.astype(np.int64)),
            pa.array(rows.regions.astype(np.int16)),
            pa.FixedSizeListArray.from_arrays(pa.array(boxes), 4),
            pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), space.dim),
        ],
        schema=schema_of(space),
    )


def _from_arrow(table: pa.Table, space: VectorSpace) -> VectorRows:
    """The rows of an Arrow table read from LanceDB."""

    def matrix(column: str, width: int) -> NDArray[Any]:
        flat = pa.chunked_array([chunk.flatten() for chunk in table[column].chunks] or [[]])
        values: NDArray[Any] = flat.to_numpy() if table.num_rows else np.empty(0, np.uint8)
        return values.reshape(-1, width)

    return VectorRows(
        table["image_id"].to_numpy().astype(np.int64),
        table["region"].to_numpy().astype(np.int16),
        matrix("box", 4).astype(np.float32),
        matrix("vector", space.dim).astype(np.uint8 if space.binary else np.float16),
    )


async def connect(settings: Settings) -> Any:
    """A LanceDB connection on the vectors bucket (lancedb.AsyncConnection).

    Its caches take what the settings ``index_cache_mib`` and ``metadata_cache_mib`` allow. Each version that a reader has
    followed leaves its description in the second, whose limit is 1 GiB in LanceDB itself.

    Raises:
        Unavailable: the object store does not answer.
    """
    options = {
        "region": settings.s3_region,
        "timeout": f"{settings.s3_read_timeout_s}s",
        "connect_timeout": f"{settings.s3_connect_timeout_s}s",
        "client_max_retries": str(settings.s3_attempts),
    }
    if settings.s3_endpoint:
        options |= {
            "aws_endpoint": settings.s3_endpoint,
            "allow_http": "true" if settings.s3_endpoint.startswith("http://") else "false",
            "aws_virtual_hosted_style_request": "false",
        }
    if settings.s3_access_key and settings.s3_secret_key:
        options["aws_access_key_id"] = settings.s3_access_key.get_secret_value()
        options["aws_secret_access_key"] = settings.s3_secret_key.get_secret_value()
    caches = lancedb.Session(settings.index_cache_mib * 2**20, settings.metadata_cache_mib * 2**20)
    try:
        return await lancedb.connect_async(
            f"s3://{settings.s3_vectors_bucket}/tables", storage_options=options, session=caches
        )
    except (OSError, RuntimeError, ValueError) as error:  # ValueError is what LanceDB makes of a store that is down
        raise Unavailable("the vector tables do not answer") from error


async def table_names(connection: Any, *, page: int = 100) -> list[str]:
    """The names of all tables, whoever made them.

    Args:
        page: names in one answer.
    Raises:
        Unavailable: the object store does not answer.
    """
    names: list[str] = []
    token = None
    try:
        while True:
            found = await connection.list_tables(page_token=token, limit=page)
            names += found.tables
            token = found.page_token
            if not token:
                return names
    except _BROKEN as error:
        raise Unavailable("the vector tables do not answer") from error


async def read_regions(
    table: Any, *, after: int, through: int | None, batch: int = 65_536
) -> AsyncIterator[tuple[NDArray[np.int64], NDArray[np.int16]]]:
    """The image ids and regions of a range of images at the newest version; no vector is read.

    Args:
        table: lancedb.AsyncTable.
        after, through: ids above the first, up to and with the second; None is without end.
        batch: rows held in memory at a time, at most.
    Yields:
        int64[n] image ids and int16[n] regions, in the order in which they are stored.
    Raises:
        Unavailable: the object store does not answer.
    """
    condition = f"image_id > {int(after)}" + ("" if through is None else f" AND image_id <= {int(through)}")
    try:
        await table.checkout_latest()
        query = table.query().where(condition).select(["image_id", "region"])
        async for found in await query.to_batches(max_batch_length=batch):
            yield found["image_id"].to_numpy(), found["region"].to_numpy()
    except _BROKEN as error:
        raise Unavailable("the vector tables do not answer") from error


class VectorTable:
    """One LanceDB table. ``append``, ``delete``, ``optimize`` are the writer's alone."""

    def __init__(self, space: VectorSpace, table: Any) -> None:
        self.space = space
        self._table = table

    @property
    def handle(self) -> Any:
        """The lancedb.AsyncTable, for ``storage.vector_index``."""
        return self._table

    @classmethod
    async def open(cls, connection: Any, space: VectorSpace, *, create: bool) -> "VectorTable | None":
        """Opens the table.

        Args:
            create: make it where it is missing (the writer); a reader gets None instead.
        Raises:
            Unavailable: the object store does not answer.
        """
        try:
            if create:
                return cls(
                    space, await connection.create_table(space.table_name, schema=schema_of(space), exist_ok=True)
                )
            if space.table_name not in (await connection.list_tables()).tables:
                return None
            return cls(space, await connection.open_table(space.table_name))
        except ValueError as error:
            # Some object stores go on listing the folder of a table that was dropped.
            if not create and "was not found" in str(error):
                return None
            raise Unavailable("the vector tables do not answer") from error
        except (OSError, RuntimeError) as error:
            raise Unavailable("the vector tables do not answer") from error

    @staticmethod
    async def drop(connection: Any, space: VectorSpace) -> None:
        """Drops the table; one that is not there is no error.

        Raises:
            Unavailable: the object store does not answer.
        """
        try:
            await connection.drop_table(space.table_name, ignore_missing=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise Unavailable("the vector tables do not answer") from error

    async def version(self) -> int:
        """The version this handle stands at."""
        return int(await self._table.version())

    async def latest(self) -> int:
        """Moves the handle to the newest version and returns it."""
        await self._table.checkout_latest()
        return await self.version()

    async def count(self) -> int:
        """Rows at this version."""
        return int(await self._table.count_rows())

    async def append(self, rows: VectorRows, first_seq: int) -> int:
        """Appends in one commit; returns the version that holds the rows."""
        return int((await self._table.add(_to_arrow(rows, self.space, first_seq))).version)

    async def delete(self, image_ids: Sequence[int]) -> int:
        """Deletes all rows of some images; returns the version without them."""
        listed = ",".join(str(int(image_id)) for image_id in image_ids)
        return int((await self._table.delete(f"image_id IN ({listed})")).version)

    async def read_since(self, seq: int) -> tuple[VectorRows, int]:
        """Rows with a larger seq at this version, and the largest seq seen."""
        table = await self._table.query().where(f"seq > {int(seq)}").to_arrow()
        newest = int(np.max(table["seq"].to_numpy())) if table.num_rows else seq
        return _from_arrow(table, self.space), newest

    async def read_of(self, image_ids: Sequence[int], *, step: int = 2000) -> VectorRows:
        """All rows of some images at this version; reads the ids of the whole table for each ``step`` of them."""
        parts = [_from_arrow(schema_of(self.space).empty_table(), self.space)]
        for start in range(0, len(image_ids), step):
            listed = ",".join(str(int(image_id)) for image_id in image_ids[start : start + step])
            found = await self._table.query().where(f"image_id IN ({listed})").to_arrow()
            parts.append(_from_arrow(found, self.space))
        return VectorRows.concatenate(parts)

    async def optimize(self, *, keep_versions_s: float = 3600.0) -> int:
        """Merges small files, drops versions older than ``keep_versions_s`` seconds; returns the new version."""
        await self._table.optimize(cleanup_older_than=timedelta(seconds=keep_versions_s))
        return await self.version()
