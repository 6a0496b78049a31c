"""Merging concurrent calls into one pass of a network, so that a bad call fails alone. Knows Ray Serve's batching only."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

_log = logging.getLogger(__name__)
Item = TypeVar("Item")


async def each_alone_on_failure(run: Callable[[Sequence[Item]], Sequence[Any]], items: Sequence[Item]) -> list[Any]:
    """Runs a merged batch off the event loop; where it fails, runs each item by itself.

    Args:
        run: blocking; takes items, gives one result for each.
        items: what was merged.
    Returns:
        For each item its result, or the exception that it raised by itself.
    """
    try:
        return list(await asyncio.to_thread(run, items))
    except Exception as error:
        if len(items) == 1:
            return [error]
        _log.warning("a merged batch of %d calls failed (%s); each is run by itself", len(items), type(error).__name__)
        return [(await each_alone_on_failure(run, [item]))[0] for item in items]
