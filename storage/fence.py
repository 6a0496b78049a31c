"""The fence that keeps the similarity writer single: only the holder of the newest epoch may write. Below deployments."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.errors import FencedOut, Unavailable

_TAKE = text("""
INSERT INTO writer_fence AS f (name, epoch, holder) VALUES (:name, 1, :holder)
ON CONFLICT (name) DO UPDATE SET epoch = f.epoch + 1, holder = :holder RETURNING epoch
""")


_FIRST = text("INSERT INTO writer_fence (name, epoch, holder) VALUES (:name, 0, '') ON CONFLICT (name) DO NOTHING")
_LOCK = text("SELECT epoch FROM writer_fence WHERE name = :name FOR UPDATE")


@asynccontextmanager
async def borrow(engine: AsyncEngine, name: str, *, wait_s: float = 600.0) -> AsyncIterator[None]:
    """Around one write by somebody who is not the writer: the writer waits meanwhile, and stays the writer.

    Args:
        name: what is written; the same as the ``Fence``'s.
        wait_s: for the end of a write that is under way; merging files may take minutes.
    Raises:
        Unavailable: the writer was busy all that time.
    """
    end = time.monotonic() + wait_s
    while True:
        async with engine.connect() as connection:
            try:
                await connection.execute(_FIRST, {"name": name})
                await connection.execute(_LOCK, {"name": name})
            except TimeoutError as error:  # one statement has its own limit, and with it the place in the queue
                if time.monotonic() > end:
                    raise Unavailable("the similarity writer is busy") from error
                await connection.invalidate()
                continue
            yield
            await connection.commit()
            return


class Fence:
    """One writer's hold on ``name``; taking it shuts out whoever held it before.

    Args:
        engine: of the process that writes.
        name: what is written.
        holder: who writes, for people.
    """

    def __init__(self, engine: AsyncEngine, name: str, holder: str) -> None:
        self._engine = engine
        self._name = name
        self._holder = holder
        self.epoch = 0

    async def take(self) -> int:
        """Becomes the holder; waits for a write of the former holder that is under way. Returns the epoch."""
        async with self._engine.begin() as connection:
            row = await connection.execute(_TAKE, {"name": self._name, "holder": self._holder})
            self.epoch = int(row.scalar_one())
        return self.epoch

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        """Around each write: the row is locked, so nobody can take over in the middle.

        Raises:
            FencedOut: somebody else holds a newer epoch.
        """
        async with self._engine.begin() as connection:
            row = await connection.execute(_LOCK, {"name": self._name})
            if row.scalar_one_or_none() != self.epoch:
                raise FencedOut("another similarity writer has taken over")
            yield
