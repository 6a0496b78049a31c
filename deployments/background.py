"""Loops that run beside a replica's calls for as long as it lives. Knows nothing of Ray."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from deployments.stopping import stopped


class BackgroundLoops:
    """Named tasks that are meant never to end by themselves; the death of one is seen by ``check``."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self, name: str, loop: Coroutine[Any, Any, None]) -> None:
        """Runs a loop from now on."""
        self._tasks[name] = asyncio.create_task(loop, name=name)

    async def end(self, *names: str) -> None:
        """Cancels some loops, or all, and waits for them; one that was not begun, or has ended, is no error."""
        await stopped(self._tasks[name] for name in names or self._tasks if name in self._tasks)

    def check(self) -> None:
        """Raises RuntimeError if one of the loops has died or was ended."""
        for name, task in self._tasks.items():
            if task.done():
                raise RuntimeError(f"the {name} loop has stopped")
