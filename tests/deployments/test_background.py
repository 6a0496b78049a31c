"""Background loops: they run, the death of one is seen, and they end in the order that is asked for."""

import asyncio

import pytest

from deployments.background import BackgroundLoops


async def test_loops_run_until_they_are_ended() -> None:
    ended = []

    async def forever(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    loops = BackgroundLoops()
    for name in ("claim", "renew"):
        loops.begin(name, forever(name))
    await asyncio.sleep(0)
    loops.check()
    await loops.end("claim")
    assert ended == ["claim"]
    await loops.end()
    assert ended == ["claim", "renew"]
    await loops.end()
    with pytest.raises(RuntimeError, match="claim"):
        loops.check()


async def test_a_loop_that_has_died_is_named() -> None:
    async def once() -> None:
        return

    loops = BackgroundLoops()
    loops.begin("sweep", once())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="sweep"):
        loops.check()
    await loops.end()
