"""One engine for all calls of a run, which outlives a connection that the server has cut."""

import asyncio
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from graphs.parts import Parts
from storage.objects import ObjectStore


async def backend(engine: AsyncEngine, _: ObjectStore) -> int:
    async with engine.connect() as connection:
        return int((await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one())


def test_calls_share_a_connection_and_a_cut_one_is_replaced(servers: Settings) -> None:
    assert servers.database_url is not None
    url = servers.database_url.get_secret_value()

    async def ask(statement: str, *arguments: Any) -> Any:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement, *arguments)
        finally:
            await connection.close()

    parts = Parts(servers)
    first = parts.call(backend)
    assert parts.patient(backend) == first
    assert asyncio.run(ask("SELECT pg_terminate_backend($1, 5000)", first))
    second = parts.patient(backend)
    assert second != first
    parts.close()
    assert asyncio.run(ask("SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state <> ''", second)) == 0
