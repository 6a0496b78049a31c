"""The vector tables of a backup: rows to Arrow files and back, a batch in memory at a time. Below the deployments."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from configs.settings import Settings
from storage.consistency import IdSet
from storage.copies.files import NewFile, Sum
from storage.errors import Unavailable
from storage.vectors import connect, table_names

_BATCH = 8192
_BROKEN = (OSError, RuntimeError, ValueError)


@dataclass(frozen=True)
class VectorCopy:
    """One table.

    Args:
        name: of the table in LanceDB.
        sum: of its file ``NAME.arrow``.
    """

    name: str
    rows: int
    sum: Sum


async def copy_out(settings: Settings, folder: Path, say: Callable[[str], None]) -> list[VectorCopy]:
    """Writes the rows of all tables, each at its newest version, which may be newer than that of the database.

    Raises:
        Unavailable: the object store does not answer.
    """
    connection = await connect(settings)
    made = []
    for name in await table_names(connection):
        say(f"vectors {name}")
        try:
            made.append(await _copy_out(await connection.open_table(name), name, folder / f"{name}.arrow"))
        except _BROKEN as error:
            if isinstance(error, ValueError) and "was not found" in str(error):
                continue  # some object stores go on listing the folder of a table that was dropped
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the folder's disk, not the object store
            raise Unavailable(f"the vector table {name} cannot be read: {error}") from error
    return made


async def _copy_out(table: Any, name: str, path: Path) -> VectorCopy:
    rows = 0
    with NewFile(path) as file:
        sink = pa.PythonFile(_Sink(file), mode="w")
        with pa.ipc.new_stream(sink, await table.schema()) as writer:
            async for batch in await table.query().to_batches(max_batch_length=_BATCH):
                await asyncio.to_thread(writer.write_batch, batch)
                rows += batch.num_rows
        return VectorCopy(name, rows, await asyncio.to_thread(file.finish))


class _Sink:
    """What Arrow needs to write into a ``NewFile``."""

    closed = False

    def __init__(self, file: NewFile) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        self._file.write(bytes(data))
        return len(data)

    def flush(self) -> None:
        """``NewFile.finish`` does."""

    def close(self) -> None:
        """``NewFile`` closes itself."""


async def copy_in(
    settings: Settings, folder: Path, copies: list[VectorCopy], wanted: IdSet, say: Callable[[str], None]
) -> dict[str, int]:
    """Puts the rows of a backup in the place of all that the tables hold.

    Rows are numbered anew from 1, so that they lie below those of every writer that comes.

    Args:
        wanted: images whose rows are put in; of the others the snapshot of the database knows nothing.
    Returns:
        Rows put in, by table.
    Raises:
        Unavailable: the object store does not answer.
    """
    connection = await connect(settings)
    stored: dict[str, int] = {}
    try:
        for name in await table_names(connection):
            # Emptied and not dropped: some object stores list a dropped table on.
            await (await connection.open_table(name)).delete("true")
        for copy in copies:
            with await asyncio.to_thread(pa.OSFile, str(folder / f"{copy.name}.arrow"), "rb") as source:
                reader = await asyncio.to_thread(pa.ipc.open_stream, source)
                table = await connection.create_table(copy.name, schema=reader.schema, exist_ok=True)
                stored[copy.name] = 0
                async for batch in _gathered(reader, wanted):
                    await table.add(_numbered(batch, stored[copy.name] + 1))
                    stored[copy.name] += batch.num_rows
                    say(f"{stored[copy.name]:,} vectors are in {copy.name}")
    except _BROKEN as error:
        raise Unavailable(f"the vector tables do not take the backup: {error}") from error
    return stored


async def _gathered(reader: Any, wanted: IdSet) -> AsyncIterator[pa.Table]:
    """The wanted rows, some batches together: each ``add`` is a commit and a file."""
    held: list[pa.RecordBatch] = []
    while True:
        batch = await asyncio.to_thread(_next, reader)
        if batch is not None:
            held.append(batch.filter(pa.array([number in wanted for number in batch["image_id"].to_pylist()])))
        if held and (batch is None or sum(one.num_rows for one in held) >= 8 * _BATCH):
            table = pa.Table.from_batches(held)
            if table.num_rows:
                yield table
            held = []
        if batch is None:
            return


def _next(reader: Any) -> pa.RecordBatch | None:
    try:
        return reader.read_next_batch()
    except StopIteration:
        return None


def _numbered(table: pa.Table, first: int) -> pa.Table:
    place = table.schema.get_field_index("seq")
    numbers = pa.array(np.arange(first, first + table.num_rows, dtype=np.int64))
    return table.set_column(place, table.schema.field(place), numbers)
