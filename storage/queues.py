"""The queues of waiting images: how long they are, when they were asked, and a signal when one grows. Below the ingress."""

import asyncio
import contextlib
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage.database import database_dsn
from storage.uploads import UPLOAD_CHANNEL


@dataclass(frozen=True)
class Queue:
    """One model_name that has been used: images waiting and claimed, and when it was last polled."""

    model_name: str
    waiting: int
    processing: int
    last_polled_at: datetime | None


_QUEUES = text("""
SELECT coalesce(q.model_name, p.model_name) AS model_name, coalesce(waiting, 0) AS waiting,
       coalesce(processing, 0) AS processing, last_polled_at
FROM (SELECT model_name, count(*) FILTER (WHERE status = 'UPLOADED') AS waiting,
             count(*) FILTER (WHERE status = 'PROCESSING') AS processing
      FROM image WHERE status IN ('UPLOADED', 'PROCESSING') AND uploaded_at IS NOT NULL GROUP BY model_name) AS q
FULL JOIN queue_poll AS p ON p.model_name = q.model_name ORDER BY 1
""")

_POLLED = text("""
INSERT INTO queue_poll (model_name, last_polled_at) VALUES (:model_name, now())
ON CONFLICT (model_name) DO UPDATE SET last_polled_at = now()
WHERE queue_poll.last_polled_at < now() - interval '1 second'
""")


async def queues(engine: AsyncEngine) -> list[Queue]:
    """Every queue that holds an image in work or was ever polled, by name."""
    async with engine.connect() as connection:
        return [
            Queue(r.model_name, r.waiting, r.processing, r.last_polled_at)
            for r in (await connection.execute(_QUEUES)).all()
        ]


async def record_poll(engine: AsyncEngine, model_name: str) -> None:
    """Notes that somebody asked this queue for work."""
    async with engine.begin() as connection:
        await connection.execute(_POLLED, {"model_name": model_name})


class UploadSignal:
    """Wakes those who wait for an upload (LISTEN). It only shortens waiting: correctness rests on claiming again."""

    def __init__(self, settings: Settings) -> None:
        self._dsn = database_dsn(settings)
        self._timeout_s = settings.database_timeout_s
        self._waiters: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins listening; a lost connection is made again in the background."""
        self._task = asyncio.create_task(self._listen(), name="upload-signal")

    async def close(self) -> None:
        """Stops listening."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def wait(self, model_names: str | list[str], timeout_s: float) -> bool:
        """Waits for an upload to one of the queues.

        Returns:
            True if one came; False after ``timeout_s`` seconds.
        """
        names = [model_names] if isinstance(model_names, str) else model_names
        event = asyncio.Event()
        for name in names:
            self._waiters[name].add(event)
        try:
            async with asyncio.timeout(timeout_s):
                await event.wait()
            return True
        except TimeoutError:
            return False
        finally:
            for name in names:
                self._waiters[name].discard(event)
                if not self._waiters[name]:
                    del self._waiters[name]

    def _wake(self, _connection: Any, _pid: int, _channel: str, model_name: str) -> None:
        for event in self._waiters.get(model_name, ()):
            event.set()

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection = await asyncpg.connect(self._dsn, timeout=self._timeout_s)
                try:
                    await connection.add_listener(UPLOAD_CHANNEL, self._wake)
                    lost = asyncio.Event()
                    connection.add_termination_listener(lambda _: lost.set())  # noqa: B023
                    await lost.wait()
                finally:
                    connection.terminate()
            await asyncio.sleep(1.0)
