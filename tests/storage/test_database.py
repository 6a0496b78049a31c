"""What every connection to PostgreSQL is given."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage.database import create_engine


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

    async def together(stack: AsyncExitStack) -> set[int]:
        held = [await stack.enter_async_context(engine.connect()) for _ in range(3)]
        return {(await one.execute(text("SELECT pg_backend_pid()"))).scalar_one() for one in held}

    try:
        async with AsyncExitStack() as stack:
            first = await together(stack)
        assert len(first) == 3
        async with AsyncExitStack() as stack:
            assert await together(stack) == first
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2), engine.connect():
                    pass
        async with AsyncExitStack() as stack:
            assert await together(stack) == first
    finally:
        await engine.dispose()
