"""Comparing again while nobody can change the banks: once is enough, however busy they are."""

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.bank_changes import BanksChanged, Compared, change_banks, hashes_version, hold_compared


async def test_what_was_compared_with_the_present_hashes_holds(engine: AsyncEngine) -> None:
    version = await hashes_version(engine)

    async def again() -> Compared:
        raise AssertionError("nothing has changed")

    async with engine.begin() as connection:
        assert await hold_compared(connection, (version, {1: {2: 3}}), again) == (version, {1: {2: 3}})
        assert await hold_compared(connection, (None, {}), None) == (None, {})


async def test_where_nothing_compares_again_it_is_refused(engine: AsyncEngine) -> None:
    version = await hashes_version(engine)
    async with engine.begin() as connection:
        await change_banks(connection, hashes=True)
    with pytest.raises(BanksChanged):
        async with engine.begin() as connection:
            await hold_compared(connection, (version, {}), None)


async def test_changes_without_end_hold_nobody_up(engine: AsyncEngine) -> None:
    """An import changes the banks in one transaction after the other; each picture is compared again at most once."""
    done, compared = asyncio.Event(), []

    async def change() -> int:
        changes = 0
        while not done.is_set():
            async with engine.begin() as connection:
                await change_banks(connection, hashes=True)
            changes += 1
        return changes

    async def again() -> Compared:
        compared.append(await hashes_version(engine))
        await asyncio.sleep(0.02)  # comparing takes its time
        assert await hashes_version(engine) == compared[-1], "nobody changes them meanwhile"
        return compared[-1], {}

    async def store() -> None:
        for _ in range(10):
            version = await hashes_version(engine)
            await asyncio.sleep(0.02)
            async with engine.begin() as connection:
                held, _ = await hold_compared(connection, (version, {}), again)
                assert held == await hashes_version(engine)

    changing = asyncio.create_task(change())
    async with asyncio.timeout(30):
        await asyncio.gather(store(), store())
    done.set()
    assert await changing > 10 and len(compared) <= 20 and compared
