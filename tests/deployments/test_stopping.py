"""Background tasks end, also those that take a cancellation for an error."""

import asyncio

import pytest

from deployments.stopping import stopped


async def test_tasks_end_though_a_cancellation_was_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployments.stopping._AGAIN_S", 0.02)
    swallowed = 0

    async def stubborn() -> None:
        nonlocal swallowed
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed == 3:
                    raise

    async def broken() -> None:
        raise RuntimeError("it had ended by itself")

    tasks = [asyncio.create_task(stubborn()), asyncio.create_task(broken())]
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await stopped(tasks)
        await stopped([])
    assert swallowed == 3 and all(task.done() for task in tasks)
