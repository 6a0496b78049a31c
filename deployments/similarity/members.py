"""The images that are members of banks, which are searched by themselves too. Knows nothing of Ray.

Among all stored pictures a member is not found where enough of its copies lie nearer. Of tables that are not held in memory
the vectors of the members are.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy.ext.asyncio import AsyncEngine

from deployments.similarity.index import ExactIndex, Ids
from storage import image_members
from storage.errors import Unavailable
from storage.vector_rows import VectorRows, VectorSpace

Read = Callable[[list[int]], Awaitable[VectorRows]]
"""The rows of some images in one table."""


@dataclass
class _Held:
    index: ExactIndex
    known: set[int] = field(default_factory=set)
    missing: dict[int, float] = field(default_factory=dict)
    """Members without rows, and when that was first seen."""
    version: int = -1
    tried_at: float = -math.inf
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Members:
    """Follows the members by their ids, and reads the vectors of those that are new.

    Members that are gone stay until all is read anew: a hit on one is an ordinary hit.

    Args:
        engine: where banks are kept.
        retry_s: rows that a table lacks are looked for in each new version for so many seconds, and from then on once in
            as many: those of another model never come.
        anew_s: seconds after which everything is read anew.
    """

    def __init__(self, engine: AsyncEngine, *, retry_s: float = 30.0, anew_s: float = 3600.0) -> None:
        self._engine, self._retry_s, self._anew_s = engine, retry_s, anew_s
        self._newest = 0
        self._ids = np.empty(0, np.int64)
        self._held: dict[str, _Held] = {}
        self._begun_at = time.monotonic()
        self._lock = asyncio.Lock()

    async def follow(self, wanted: int) -> Ids:
        """Knows at least the members up to an id.

        Returns:
            int64[n], the ids of all images that are members: the same array while they are the same.
        Raises:
            Unavailable: the database does not answer.
        """
        async with self._lock:
            if time.monotonic() - self._begun_at > self._anew_s:
                self._newest, self._ids, self._held, self._begun_at = 0, self._ids[:0], {}, time.monotonic()
            if self._newest >= wanted:
                return self._ids
            try:
                rows = await image_members.since(self._engine, self._newest)
            except Exception as error:
                raise Unavailable("the members of banks cannot be read") from error
            if rows:
                self._ids = np.union1d(self._ids, np.asarray([image_id for _, image_id in rows], np.int64))
            self._newest = max([wanted, *(member for member, _ in rows)])
            return self._ids

    def forget(self, space: VectorSpace) -> None:
        """Holds nothing of a table any more, which was dropped."""
        self._held.pop(space.name, None)

    async def index(self, space: VectorSpace, version: int, read: Read) -> ExactIndex:
        """The vectors of all members in one table, held here.

        Args:
            version: of the table that ``read`` reads.
        """
        held = self._held.setdefault(space.name, _Held(ExactIndex(space)))
        async with held.lock:
            now, fresh = (
                time.monotonic(),
                set(self._ids.tolist()) - held.known if len(held.known) != len(self._ids) else set(),
            )
            if version != held.version:
                all_due = now - held.tried_at > self._retry_s
                fresh |= {one for one, seen in held.missing.items() if all_due or now - seen < self._retry_s}
            if fresh:
                rows = await read(sorted(fresh))
                held.index.extend(rows)
                held.known |= fresh
                lacking = (fresh | held.missing.keys()) - set(rows.image_ids.tolist())
                held.missing = {one: held.missing.get(one, now) for one in lacking}
                held.tried_at = now
            held.version = version
        return held.index
