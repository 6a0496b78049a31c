"""What tells of a part that is down, with the errors that a real PostgreSQL and a broken connection give."""

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.drills.relay import RESET, Fate
from configs.settings import Settings
from storage.database import create_engine
from storage.errors import NotFound, Refused, StorageFull, TooLarge, Unavailable
from storage.outages import part_is_down, picture_at_fault
from tests.relayed import behind_relay


async def test_a_connection_that_breaks_in_a_statement(servers: Settings) -> None:
    async with behind_relay(servers) as (relay, engine), engine.connect() as connection:
        relay.disturb(iter([Fate(RESET, False, 1, 0.0)]))
        with pytest.raises(DBAPIError) as caught:
            await connection.execute(text("SELECT repeat('x', 10000)"))
    assert part_is_down(caught.value)


async def test_a_server_that_ends_the_session(engine: AsyncEngine) -> None:
    async with engine.connect() as other, engine.connect() as connection:
        pid = (await connection.execute(text("SELECT pg_backend_pid()"))).scalar_one()
        await other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        with pytest.raises(DBAPIError) as caught:
            await connection.execute(text("SELECT 1"))
        assert part_is_down(caught.value)
        await connection.invalidate()


async def test_a_pool_that_is_used_up(servers: Settings) -> None:
    engine = create_engine(servers.model_copy(update={"database_timeout_s": 3.0}), pool_size=1)
    held = [await engine.connect() for _ in range(3)]
    with pytest.raises(PoolTimeout) as caught:
        await engine.connect()
    assert part_is_down(caught.value)
    for one in held:
        await one.close()
    await engine.dispose()


@pytest.mark.parametrize("statement", ["SELECT 1 / 0", "SELECT * FROM nothing", "SELECT CAST(:value AS int)"])
async def test_a_statement_that_is_refused_is_no_outage(engine: AsyncEngine, statement: str) -> None:
    async with engine.connect() as connection:
        with pytest.raises(SQLAlchemyError) as caught:
            await connection.execute(text(statement), {"value": "no number"} if ":value" in statement else {})
    assert not part_is_down(caught.value)


@pytest.mark.parametrize("error", [Unavailable("a"), StorageFull("a"), TimeoutError(), ConnectionResetError(),
                                   asyncpg.CannotConnectNowError("a"), asyncpg.ConnectionDoesNotExistError("a")])  # fmt: skip
def test_errors_that_say_so(error: Exception) -> None:
    assert part_is_down(error)


@pytest.mark.parametrize("error", [NotFound("a"), KeyError("a"), ValueError("a"), RuntimeError("a")])
def test_errors_that_do_not(error: Exception) -> None:
    assert not part_is_down(error)


def test_a_picture_that_is_at_fault() -> None:
    assert all(picture_at_fault(one) for one in (NotFound("a"), TooLarge("a"), Refused("a")))
    assert not any(picture_at_fault(one) for one in (Refused("a", account=True), Unavailable("a"), ValueError("a")))
