"""What the service is like, every second: replicas, queue, memory."""

import asyncio
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.memory import memory, total
from benchmarks.scaling.series import Sample
from configs.models import load_models
from configs.settings import Settings
from graphs.cluster import RayCluster
from graphs.replicas import replicas_of
from graphs.service import Running, ready
from storage.database import create_engine
from storage.errors import Unavailable
from storage.queues import demand

_SELDOM_S = 5.0
"""Between two readings of memory, and of ``/health/ready``: for memory the kernel walks through all pages of all processes."""
_MOST = 1_000_000


def complaint(said: dict[str, Any] | None) -> str:
    """Of an answer of ``/health/ready``; empty where it is green."""
    if said is None:
        return "no answer"
    return "" if said.get("status") == "ready" else str(said.get("detail"))


def pss_mib(settings: Settings) -> float:
    """Proportional set size of an installation, MiB. Blocking."""
    return total(memory(settings).values()).pss_mib


class Recorder(threading.Thread):
    """Looks once a second until it is closed; a second in which a part does not answer is left out."""

    def __init__(self, running: Running) -> None:
        super().__init__(daemon=True)
        self._running = running
        self._cluster = RayCluster(running.settings)
        self._names = load_models(running.settings.models_file).known()
        self._end = threading.Event()
        self._read_at, self._mib, self._not_ready = float("-inf"), 0.0, ""
        self.samples: list[Sample] = []

    def run(self) -> None:
        """Called by ``start``."""
        asyncio.run(self._look_forever())

    def close(self) -> list[Sample]:
        """Ends; all that was seen."""
        self._end.set()
        self.join()
        return self.samples

    async def _look_forever(self) -> None:
        engine = create_engine(self._running.settings, pool_size=1)
        while not self._end.is_set():
            begun = time.monotonic()
            with suppress(OSError, TimeoutError, SQLAlchemyError, Unavailable):
                self.samples.append(await self._look(engine))
            await asyncio.sleep(max(0.0, 1.0 - (time.monotonic() - begun)))
        await engine.dispose()

    async def _look(self, engine: AsyncEngine) -> Sample:
        waiting, oldest_s = await demand(engine, self._names, most=_MOST)
        running = await asyncio.to_thread(self._cluster.applications)
        if time.monotonic() - self._read_at >= _SELDOM_S:
            self._read_at = time.monotonic()
            self._mib = await asyncio.to_thread(pss_mib, self._running.settings)
            self._not_ready = complaint(await asyncio.to_thread(ready, self._running.url))
        counted = Counter(one.deployment for one in replicas_of(running) if one.state == "RUNNING")
        return Sample(time.time(), counted, waiting, oldest_s, self._mib, self._not_ready)
