"""Wakes those who wait for something to be committed (LISTEN). Imports configs and the database's address only."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg

from configs.settings import Settings
from storage.database import database_dsn


class Signal:
    """One channel of NOTIFY. It only shortens waiting: correctness rests on looking again.

    Args:
        settings: lead to the database.
        channel: name of the channel.
    """

    def __init__(self, settings: Settings, channel: str) -> None:
        self._dsn = database_dsn(settings)
        self._timeout_s = settings.database_timeout_s
        self._channel = channel
        self._waiters: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins listening; a lost connection is made again in the background."""
        self._task = asyncio.create_task(self._listen(), name=self._channel)

    async def close(self) -> None:
        """Stops listening."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @contextlib.contextmanager
    def watched(self, names: Sequence[str]) -> Iterator[asyncio.Event]:
        """An event that is set whenever one of the names comes, while the context lasts."""
        event = asyncio.Event()
        for name in names:
            self._waiters[name].add(event)
        try:
            yield event
        finally:
            for name in names:
                self._waiters[name].discard(event)
                if not self._waiters[name]:
                    del self._waiters[name]

    async def wait(self, names: str | list[str], timeout_s: float) -> bool:
        """Waits for one of the names.

        Returns:
            True if one came; False after ``timeout_s`` seconds.
        """
        with self.watched([names] if isinstance(names, str) else names) as event:
            try:
                async with asyncio.timeout(timeout_s):
                    await event.wait()
                return True
            except TimeoutError:
                return False

    def _wake(self, _connection: Any, _pid: int, _channel: str, name: str) -> None:
        for event in self._waiters.get(name, ()):
            event.set()

    async def _listen(self) -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection = await asyncpg.connect(self._dsn, timeout=self._timeout_s)
                try:
                    await connection.add_listener(self._channel, self._wake)
                    lost = asyncio.Event()
                    connection.add_termination_listener(lambda _: lost.set())  # noqa: B023
                    await lost.wait()
                finally:
                    connection.terminate()
            await asyncio.sleep(1.0)
