"""Ending background tasks for certain. Knows nothing of Ray."""

import asyncio
from collections.abc import Iterable

_AGAIN_S = 0.5


async def stopped(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancels tasks until they have ended.

    Once may not be enough: where a cancellation meets SQLAlchemy's test of a connection, the clean-up there fails with an
    error of its own that takes its place, and a loop that goes on after errors goes on.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        ended, left = await asyncio.wait(left, timeout=_AGAIN_S)
        for task in ended:
            if not task.cancelled():
                task.exception()  # seen: whoever watched the task has told of it
