"""The fence that keeps the similarity writer single: only the holder of the newest epoch may write. Below deployments."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.errors import FencedOut

_TAKE = text("""
INSERT INTO writer_fence AS f (name, epoch, holder) VALUES (:name, 1, :holder)
ON CONFLICT (name) DO UPDATE SET epoch = f.epoch + 1, holder = :holder RETURNING epoch
""")


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
            row = await connection.execute(
                text("SELECT epoch FROM writer_fence WHERE name = :name FOR UPDATE"), {"name": self._name}
            )
            if row.scalar_one_or_none() != self.epoch:
                raise FencedOut("another similarity writer has taken over")
            yield
