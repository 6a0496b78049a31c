"""PostgreSQL and S3 for one run of a job: opened once, used from code that has no event loop. May import all below."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from deployments.bulk.background import BackgroundLoop
from deployments.bulk.patience import patiently
from storage.database import create_engine
from storage.objects import ObjectStore

T = TypeVar("T")
Work = Callable[[AsyncEngine, ObjectStore], Coroutine[Any, Any, T]]


class Parts:
    """One engine and one client of S3, and the loop that they live on.

    Args:
        settings: where they are.
    """

    def __init__(self, settings: Settings) -> None:
        self.loop = BackgroundLoop()
        self._engine, self._objects = create_engine(settings, pool_size=1), ObjectStore(settings)

    def call(self, work: Work[T]) -> T:
        """What ``work`` returns; raises what it raises."""
        return self.loop.run(work(self._engine, self._objects))

    def patient(self, work: Work[T]) -> T:
        """The same, tried again while a part is down."""
        return self.call(lambda engine, objects: patiently(lambda: work(engine, objects)))

    def close(self) -> None:
        """Frees connections and threads."""
        self._objects.close()
        self.loop.run(self._engine.dispose())
