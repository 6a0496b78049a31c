"""The one writer of the vector tables: gathers rows into few large commits behind the fence. Knows nothing of Ray."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from deployments.metrics.meters import busy, meters
from deployments.similarity.indexer import Indexer
from deployments.stopping import stopped
from storage.errors import ConfigurationError, Conflict, FencedOut, SafeGuardError, Unavailable
from storage.fence import Fence, borrow
from storage.generations import models_of
from storage.vector_rows import VectorRows, VectorSpace
from storage.vectors import TRUSTED_S, VectorTable, connect

_log = logging.getLogger(__name__)
_FENCE = "vectors"
_EPOCH_BITS = 40
"""seq = epoch × 2^40 + counter: it grows over restarts without a scan; a writer may append 10^12 rows."""


@dataclass(frozen=True)
class _Request:
    rows: dict[str, VectorRows]
    replace: list[int]
    answer: "asyncio.Future[dict[str, int]]"

    def replaces(self, name: str) -> list[int]:
        """The images whose earlier rows in a table go: where it has rows for some tables, only in those."""
        return self.replace if name in self.rows or not self.rows else []


def _in_force(batch: Sequence[_Request], name: str) -> tuple[list[VectorRows], list[int]]:
    """What a batch writes to a table: rows that no later request of it replaces, and the images whose rows go before."""
    parts: list[VectorRows] = []
    replaced: set[int] = set()
    for request in reversed(batch):
        rows = request.rows.get(name)
        left = rows.without(replaced) if rows is not None and replaced else rows
        if left is not None and len(left):
            parts.append(left)
        replaced.update(request.replaces(name))
    return parts[::-1], sorted(replaced)


async def remove_beside(engine: AsyncEngine, connection: Any, spaces: list[VectorSpace], image_ids: list[int]) -> None:
    """Deletes all vectors of some images from outside the writer's process, between two of its commits.

    The writer, where one runs, waits meanwhile and goes on; there are never two that write at the same moment.

    Args:
        connection: lancedb.AsyncConnection.
        spaces: the tables; missing ones are left out.
    Raises:
        Unavailable: the tables or the database do not answer; some rows may be gone, and a repeat removes the rest.
    """
    async with borrow(engine, _FENCE):
        opened = [await VectorTable.open(connection, space, create=False) for space in spaces]
        try:
            await asyncio.gather(*(table.delete(image_ids) for table in opened if table is not None))
        except (OSError, RuntimeError, ValueError) as error:
            raise Unavailable("the vector tables do not answer") from error


class VectorWriter:
    """Appends and deletes. All requests that wait while a commit runs go into the next one.

    Args:
        engine: for the fence.
        settings: where the tables are.
        spaces: the tables it may write; a missing one is made when its first rows come.
        holder: who this is, for people.
        optimize_every: commits between two rounds of merging small files.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        settings: Settings,
        spaces: list[VectorSpace],
        *,
        holder: str,
        optimize_every: int = 50,
    ) -> None:
        self._engine = engine
        self._fence = Fence(engine, _FENCE, holder)
        self._settings = settings
        self._spaces = {space.name: space for space in spaces}
        self._optimize_every = optimize_every
        self._connection: Any = None
        self._tables: dict[str, VectorTable] = {}
        self._writing = asyncio.Lock()
        self._pending: list[_Request] = []
        self._wake = asyncio.Event()
        self._counter = 0
        self._commits = 0
        self._task: asyncio.Task[None] | None = None
        self._indexer = Indexer(engine, settings)
        self._closed = False
        self.fenced_out = False

    async def start(self) -> None:
        """Takes the fence, opens the tables that are there, begins to write."""
        self._connection = await connect(self._settings)
        for space in self._spaces.values():
            await self._open(space, create=False)
        await self._fence.take()
        self._task = asyncio.create_task(self._run(), name="vector-writer")

    async def _open(self, space: VectorSpace, *, create: bool) -> None:
        table = await VectorTable.open(self._connection, space, create=create)
        if table is not None:
            self._tables[space.name] = table

    async def close(self) -> None:
        """Finishes what waits, then stops."""
        if self._task is None or self._closed:
            return
        self._closed = True
        with contextlib.suppress(SafeGuardError):
            await self._enqueue({}, [])  # answered after all that waited before it
        await self._indexer.close()
        await stopped([self._task])

    async def add(self, rows: dict[str, VectorRows], *, replace: list[int] | None = None) -> dict[str, int]:
        """Appends rows to their tables.

        Args:
            rows: by space name.
            replace: images whose earlier rows in these tables are deleted first (a second attempt at the same picture).
        Returns:
            For each table, a version that holds the rows.
        Raises:
            ConfigurationError: it may not write one of the tables.
            FencedOut: another writer has taken over.
            Unavailable: the tables or the database do not answer; the rows may be stored and may be sent again. Or
                this writer has been closed.
        """
        if self._closed:
            raise Unavailable("the similarity writer is stopping")
        unknown = sorted(rows.keys() - self._spaces.keys())
        if unknown:
            raise ConfigurationError(f"the similarity writer knows no {', '.join(unknown)}: is its models.yaml older?")
        return await self._enqueue(rows, replace or [])

    async def _enqueue(self, rows: dict[str, VectorRows], replace: list[int]) -> dict[str, int]:
        answer: asyncio.Future[dict[str, int]] = asyncio.get_running_loop().create_future()
        self._pending.append(_Request(rows, replace, answer))
        self._wake.set()
        return await answer

    async def remove(self, image_ids: list[int]) -> dict[str, int]:
        """Deletes all vectors of some images; the rest as ``add``."""
        return await self.add({}, replace=image_ids)

    async def drop(self, space_name: str) -> None:
        """Drops a table with all its rows; one that is not there is no error.

        A picture that was in work may still make the table anew, so whoever is going to fill it drops it first. Readers
        have seen the drop when this returns.

        Raises:
            Conflict: a model is written with that descriptor.
            ConfigurationError: it may not write that table.
            FencedOut, Unavailable: as ``add``.
        """
        if space_name not in self._spaces:
            raise ConfigurationError(f"the similarity writer knows no {space_name}")
        async with self._writing, self._fence.guard():
            users = await models_of(self._engine, space_name)
            if users:
                raise Conflict(f"{space_name} is in use by {', '.join(users)}: its vectors cannot be dropped")
            await self._indexer.forget(space_name)
            await VectorTable.drop(self._connection, self._spaces[space_name])
            self._tables.pop(space_name, None)
        await asyncio.sleep(TRUSTED_S)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch, self._pending = self._pending, []
            if not batch:
                continue
            try:
                async with self._writing:
                    with busy("SimilarityWriter"):
                        versions = await self._commit(batch)
            except SafeGuardError as error:
                self.fenced_out |= isinstance(error, FencedOut)
                self._answer(batch, error)
            except Exception as error:
                _log.exception("a commit of vectors failed")
                self._answer(batch, Unavailable("the vector tables do not answer"), cause=error)
            else:
                for name, version in versions.items():
                    meters().set("safeguard_index_writer_version", version, table=name)
                for request in batch:
                    if not request.answer.done():
                        request.answer.set_result(versions)
                async with self._writing:
                    await self._tidy()

    @staticmethod
    def _answer(batch: list[_Request], error: Exception, cause: Exception | None = None) -> None:
        for request in batch:
            if not request.answer.done():
                failure = type(error)(*error.args)
                failure.__cause__ = cause
                request.answer.set_exception(failure)

    async def _commit(self, batch: list[_Request]) -> dict[str, int]:
        seq = (self._fence.epoch << _EPOCH_BITS) + self._counter
        # Counted before the write: after a commit that failed half-way no seq may be used a second time.
        self._counter += sum(len(rows) for request in batch for rows in request.rows.values())

        async def write(name: str, table: VectorTable) -> int:
            parts, replaced = _in_force(batch, name)
            version = 0
            if replaced:
                version = await table.delete(replaced)
            if parts:
                version = await table.append(VectorRows.concatenate(parts), seq)
            return version or await table.version()

        missing = {name for request in batch for name in request.rows} - self._tables.keys()
        async with self._fence.guard():
            for name in sorted(missing):
                await self._open(self._spaces[name], create=True)
            versions = await asyncio.gather(*(write(name, table) for name, table in self._tables.items()))
        return dict(zip(self._tables, versions, strict=True))

    async def _tidy(self) -> None:
        self._commits += 1
        for table in self._tables.values():
            await self._indexer.consider(table)
        if self._commits % self._optimize_every or self._indexer.busy:
            return
        try:
            async with self._fence.guard():
                await asyncio.gather(*(table.optimize() for table in self._tables.values()))
        except Exception:
            _log.exception("merging small files of the vector tables failed; it is tried again later")

    async def info(self) -> dict[str, Any]:
        """Epoch, commits and, for each table, its version and rows."""
        return {
            "epoch": self._fence.epoch,
            "commits": self._commits,
            "tables": {
                name: {"version": await table.version(), "rows": await table.count()}
                for name, table in self._tables.items()
            },
        }
