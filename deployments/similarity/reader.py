"""A reader of the vector tables: follows the writer's versions and answers searches. Knows nothing of Ray."""

import asyncio
import logging
import math
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from configs.settings import Settings
from deployments.similarity.index import Ask, ExactIndex, Ids, Row
from deployments.similarity.members import Members
from deployments.similarity.queries import Hit, Query
from storage.errors import ConfigurationError, Unavailable
from storage.vector_index import KIND, IndexState, SearchEffort, best, index_state, nearest
from storage.vector_rows import VectorSpace
from storage.vectors import TRUSTED_S, VectorTable, connect

_log = logging.getLogger(__name__)
_BROKEN = (OSError, RuntimeError, ValueError)


@dataclass
class _Followed:
    space: VectorSpace
    index: ExactIndex
    table: VectorTable | None = None
    approximate: IndexState | None = None
    """What the table's own index covers, where that is searched and ``index`` is empty."""
    version: int = 0
    seq: int = -1
    read_at: float = -math.inf
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class VectorReader:
    """Searches some spaces: small tables exactly and in memory, large ones through their index on S3.

    A table is large from the setting ``exact_search_rows`` on, once the writer has built its index. What the index does
    not cover yet is searched exactly. Bit strings are always held in memory, 32 bytes each.

    Args:
        settings: where the tables are.
        spaces: which tables may be searched; each is opened, and read, when it is first asked for. One that is missing, or
            vanishes, has no hits.
        members: of banks; without them no query may ask for them.
        stale_s: without a version asked for, the tables are looked at again after so many seconds.
    """

    def __init__(
        self, settings: Settings, spaces: list[VectorSpace], members: Members | None = None, *, stale_s: float = 1.0
    ) -> None:
        self._settings = settings
        self._members = members
        self._stale_s = stale_s
        self._connection: Any = None
        self._followed = {space.name: _Followed(space, ExactIndex(space)) for space in spaces}

    async def refresh(self, versions: dict[str, int] | None = None) -> None:
        """Brings every table to at least the version asked for, or to the newest where that is stale.

        Raises:
            Unavailable: the tables cannot be read, or do not reach that version.
        """
        await self._refresh(set(self._followed), versions or {})

    async def _refresh(self, names: set[str], versions: dict[str, int]) -> None:
        unknown = sorted(names - self._followed.keys())
        if unknown:
            raise ConfigurationError(f"the similarity reader knows no {', '.join(unknown)}: is its models.yaml older?")
        await asyncio.gather(*(self._follow(self._followed[name], versions.get(name)) for name in names))

    async def _follow(self, held: _Followed, wanted: int | None) -> None:
        def current() -> bool:
            age = time.monotonic() - held.read_at
            return age < self._stale_s if wanted is None else held.version >= wanted and age < TRUSTED_S

        if current():
            return
        async with held.lock:
            if current():
                return
            try:
                await self._read_new(held)
            except _BROKEN as error:
                held.read_at = -math.inf  # nobody may take the index for fresh
                raise Unavailable("the vector tables do not answer") from error
            if wanted is not None and held.version < wanted:
                raise Unavailable(f"the vectors of {held.space.name} stand at {held.version}, not yet at {wanted}")

    async def _latest(self, held: _Followed) -> int:
        """The newest version of a table, 0 where there is none."""
        if held.table is not None and time.monotonic() - held.read_at < TRUSTED_S:
            try:
                return await held.table.latest()
            except _BROKEN:
                _log.info("%s is opened anew: it may have been dropped", held.space.name)
        if self._connection is None:
            self._connection = await connect(self._settings)
        held.table = await VectorTable.open(self._connection, held.space, create=False)
        return 0 if held.table is None else await held.table.latest()

    async def _read_new(self, held: _Followed) -> None:
        began = time.monotonic()
        version = await self._latest(held)
        if version < held.version:  # dropped, and perhaps made anew
            held.version, held.seq, held.index, held.approximate = 0, -1, ExactIndex(held.space), None
            if self._members is not None:
                self._members.forget(held.space)
        if version != held.version and await self._through_index(held):
            held.version = version
        elif version != held.version:
            assert held.table is not None  # its version is above 0
            rows, seq = await held.table.read_since(held.seq)
            held.index.extend(rows)
            held.seq = seq
            surplus = len(held.index) - await held.table.count()
            if surplus > max(100, len(held.index) // 50):
                # Deleted rows are harmless (callers look ids up in PostgreSQL) but cost time: read all again.
                fresh = ExactIndex(held.space)
                rows, held.seq = await held.table.read_since(-1)
                fresh.extend(rows)
                held.index = fresh
            held.version = version
        held.read_at = began

    async def _through_index(self, held: _Followed) -> bool:
        assert held.table is not None
        large = not held.space.binary and await held.table.count() > self._settings.exact_search_rows
        held.approximate = await index_state(held.table) if large else None
        if held.approximate is not None and len(held.index):
            held.index, held.seq = ExactIndex(held.space), -1
        return held.approximate is not None

    async def search(self, queries: list[Query], versions: dict[str, int] | None = None) -> list[list[Hit]]:
        """Hits for each query, at tables no older than ``versions``.

        Raises:
            ConfigurationError: it may not search one of the tables.
            Unavailable: see ``refresh``.
        """
        asked = dict.fromkeys(name for query in queries for name in query.vectors)
        await self._refresh(asked.keys() | (versions or {}).keys(), versions or {})
        members = await self._followed_members(queries)
        held = {name: self._followed[name] for name in asked}
        indexes = {name: followed.index for name, followed in held.items() if followed.approximate is None}
        found = await asyncio.to_thread(_in_memory, indexes, queries, members)
        for hits, query in zip(found, queries, strict=True):
            theirs = members if query.members else None
            for name in query.vectors.keys() - indexes.keys():
                hits += await self._on_disk(held[name], query, theirs)
        return found

    async def _followed_members(self, queries: list[Query]) -> Ids | None:
        wanted = max((query.members or 0 for query in queries), default=0)
        if not wanted:
            return None
        if self._members is None:
            raise ConfigurationError("this reader does not follow the members of banks")
        ids = await self._members.follow(wanted)
        return ids if len(ids) else None

    async def _among_members(self, held: _Followed, query: Query) -> list[Hit]:
        assert held.table is not None and self._members is not None
        try:
            index = await self._members.index(held.space, held.version, held.table.read_of)
        except _BROKEN as error:
            raise Unavailable("the vector tables do not answer") from error
        (hits,) = await asyncio.to_thread(_in_memory, {held.space.name: index}, [query], None)
        return [replace(hit, member=True) for hit in hits]

    async def _on_disk(self, held: _Followed, query: Query, members: Ids | None) -> list[Hit]:
        few = members is not None and len(members) <= self._settings.member_images_held
        if members is None or few:
            nearest = [Hit(held.space.name, *row) for row in await self._nearest(held, query, query.k)]
            return nearest + (await self._among_members(held, query) if few else [])
        # Too many to be compared one by one: those among more of the nearest, which costs the index no longer walk.
        deep = self._settings.index_ef // self._settings.index_refine
        rows = await self._nearest(held, query, max(query.k, deep))
        theirs = set(members.tolist())
        return [Hit(held.space.name, *row) for row in best(rows, query.k)] + [
            Hit(held.space.name, *row, member=True) for row in best([row for row in rows if row[0] in theirs], query.k)
        ]

    async def _nearest(self, held: _Followed, query: Query, k: int) -> list[Row]:
        assert held.table is not None
        settings, name = self._settings, held.space.name
        effort = SearchEffort(settings.index_ef, settings.index_refine, settings.index_probes)
        try:
            return await nearest(
                held.table, np.asarray(query.vectors[name], np.float32), k=k, min_score=query.min_scores[name],
                exclude=query.exclude, within=query.within, effort=effort,
            )  # fmt: skip
        except _BROKEN as error:
            raise Unavailable("the vector tables do not answer") from error

    def info(self) -> dict[str, Any]:
        """Rows, version and age in seconds of each table as held here."""
        now = time.monotonic()
        return {
            name: {
                "rows": held.approximate.indexed + held.approximate.unindexed if held.approximate else len(held.index),
                "search": KIND if held.approximate else "exact",
                "unindexed_rows": held.approximate.unindexed if held.approximate else 0,
                "version": held.version,
                "age_s": round(now - held.read_at, 3) if held.read_at > 0 else None,
                "exists": held.table is not None,
            }
            for name, held in self._followed.items()
        }


def _in_memory(indexes: dict[str, ExactIndex], queries: list[Query], members: Ids | None) -> list[list[Hit]]:
    hits: list[list[Hit]] = [[] for _ in queries]
    for name, index in indexes.items():
        asking = [(query, into) for query, into in zip(queries, hits, strict=True) if name in query.vectors]
        found = index.search_many([_ask(query, name, members) for query, _ in asking])
        for (_, into), (near, theirs) in zip(asking, found, strict=True):
            into += [Hit(name, *row) for row in near] + [Hit(name, *row, member=True) for row in theirs]
    return hits


def _ask(query: Query, name: str, members: Ids | None) -> Ask:
    theirs = members if query.members else None
    vectors = np.asarray(query.vectors[name])
    return Ask(vectors, query.k, query.min_scores[name], query.exclude, query.within, theirs)
