"""What every connection to PostgreSQL is given."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.drills.relay import RESET, STALL, Fate
from configs.settings import Settings
from storage import database
from storage.database import create_engine, reading
from tests.relayed import behind_relay


async def test_the_server_notices_a_client_that_is_cut_off(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        # Of a connection over TCP these are what the system holds of its socket, not what was asked for.
        names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
        idle_s, interval_s, count, unheard_ms = [
            int((await connection.execute(text(f"SHOW {name}"))).scalar_one()) for name in names
        ]
    assert idle_s + interval_s * count == 30
    assert unheard_ms == 30_000


async def test_a_pool_keeps_the_connections_that_it_has_opened(servers: Settings) -> None:
    engine = create_engine(servers, pool_size=1)

    try:
        async with AsyncExitStack() as stack:
            first = await _together(engine, 3, stack)
        assert len(first) == 3
        async with AsyncExitStack() as stack:
            assert await _together(engine, 3, stack) == first
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2), engine.connect():
                    pass
        async with AsyncExitStack() as stack:
            assert await _together(engine, 3, stack) == first
    finally:
        await engine.dispose()


async def _together(engine: AsyncEngine, count: int, stack: AsyncExitStack) -> set[int]:
    held = [await stack.enter_async_context(engine.connect()) for _ in range(count)]
    return {(await one.execute(text("SELECT pg_backend_pid()"))).scalar_one() for one in held}


async def _backends(engine: AsyncEngine, count: int) -> set[int]:
    """Those of so many connections that are in use together; the pool has them back afterwards."""
    async with AsyncExitStack() as stack:
        return await _together(engine, count, stack)


async def _ended(engine: AsyncEngine, pids: set[int]) -> None:
    """Ends sessions as a server does that is restarted, and gives their ends a moment to arrive."""
    async with engine.connect() as connection:
        for pid in pids:
            assert (await connection.execute(text(f"SELECT pg_terminate_backend({pid}, 5000)"))).scalar_one()
    await asyncio.sleep(0.1)


async def test_sessions_that_have_ended_are_replaced_without_a_failed_statement(
    servers: Settings, engine: AsyncEngine
) -> None:
    own = create_engine(servers, pool_size=1)
    try:
        before = await _backends(own, 3)
        await _ended(engine, before)
        after = await _backends(own, 3)
        assert len(after) == 3 and not after & before
    finally:
        await own.dispose()


@pytest.mark.parametrize("idle_s, asked", [(60.0, 0), (0.0, 1)])
async def test_only_a_connection_that_was_idle_for_long_is_asked_before_it_is_used(
    servers: Settings, monkeypatch: pytest.MonkeyPatch, idle_s: float, asked: int
) -> None:
    monkeypatch.setattr(database, "_IDLE_S", idle_s)
    own, pings = create_engine(servers, pool_size=1), 0
    try:
        async with own.connect() as connection:
            driver = (await connection.get_raw_connection()).dbapi_connection
            assert driver is not None
            known, own_ping = type(driver), type(driver).ping

            def counted(self: object) -> None:
                nonlocal pings
                pings += 1
                own_ping(self)

            monkeypatch.setattr(known, "ping", counted)
        async with own.connect() as connection:
            await connection.execute(text("SELECT 1"))
        assert pings == asked
    finally:
        await own.dispose()


@pytest.mark.parametrize("fate", [RESET, STALL])
async def test_an_idle_connection_that_is_found_dead_is_replaced_without_a_failed_statement(
    servers: Settings, monkeypatch: pytest.MonkeyPatch, fate: str
) -> None:
    monkeypatch.setattr(database, "_IDLE_S", 0.0)
    async with behind_relay(servers.model_copy(update={"database_timeout_s": 3.0})) as (relay, engine):
        before = await _backends(engine, 2)
        relay.disturb(iter([Fate(fate, False, 1, 30.0)]))  # one of them
        await _backends(engine, 2)
        after = await _backends(engine, 2)
        assert len(after) == 2 and not after & before, "the other is as old, and may be as dead"


async def test_single_statements_take_the_connections_of_the_engine_after_its_pool_was_closed_too(
    servers: Settings,
) -> None:
    own = create_engine(servers, pool_size=1)
    for _ in range(2):
        async with reading(own) as connection:
            read_by = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        assert await _backends(own, 1) == {read_by}
        await own.dispose()
