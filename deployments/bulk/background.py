"""An event loop that keeps turning in a thread of its own: Serve's handles hear of new replicas only on such a one."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class BackgroundLoop:
    """Runs coroutines for code that has no loop; made once a process and never closed."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True, name="background-loop").start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Waits for the result of ``work``; raises what it raises."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
