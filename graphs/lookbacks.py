"""Look-backs for the command line: seen, begun, cancelled, tried again. May import storage."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from graphs.opening import opened
from storage import lookbacks
from storage.lookback_tables import LookBack, LookBackState

ACTOR = "command line"


async def every(home: Path | None) -> list[LookBack]:
    """The newest hundred."""
    async with opened(home) as (_, engine):
        return await lookbacks.listing(engine)


async def show(home: Path | None, lookback_id: int) -> LookBack:
    """One look-back.

    Raises:
        NotFound: there is none.
    """
    async with opened(home) as (_, engine):
        return await lookbacks.get(engine, lookback_id)


async def start(home: Path | None, bank_id: int | None, reason: str) -> int:
    """See ``storage.lookbacks.start``."""
    async with opened(home) as (_, engine):
        return await lookbacks.start(engine, bank_id=bank_id, actor=ACTOR, reason=reason)


async def cancel(home: Path | None, lookback_id: int) -> LookBack:
    """See ``storage.lookbacks.cancel``."""
    async with opened(home) as (_, engine):
        return await lookbacks.cancel(engine, lookback_id, actor=ACTOR)


async def retry(home: Path | None, lookback_id: int) -> LookBack:
    """See ``storage.lookbacks.retry``."""
    async with opened(home) as (_, engine):
        return await lookbacks.retry(engine, lookback_id, actor=ACTOR)


async def follow(
    home: Path | None, lookback_id: int, seen: Callable[[LookBack], Any], *, pause_s: float = 1.0
) -> LookBack:
    """Calls ``seen`` again and again until the look-back has ended, and returns it then."""
    async with opened(home) as (_, engine):
        while True:
            found = await lookbacks.get(engine, lookback_id)
            seen(found)
            if found.state != LookBackState.WAITING:
                return found
            await asyncio.sleep(pause_s)
