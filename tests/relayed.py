"""PostgreSQL as it is reached through a relay that breaks connections."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import SecretStr
from sqlalchemy import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.drills.relay import Relay
from configs.settings import Settings
from storage.database import create_engine, database_dsn


@asynccontextmanager
async def behind_relay(settings: Settings) -> AsyncIterator[tuple[Relay, AsyncEngine]]:
    """The relay, and an engine with one connection that passes through it."""
    address = make_url(database_dsn(settings))
    relay = Relay("127.0.0.1", address.port or 0)
    through = address.set(port=relay.port).render_as_string(hide_password=False)
    engine = create_engine(settings.model_copy(update={"database_url": SecretStr(through)}), pool_size=1)
    try:
        yield relay, engine
    finally:
        await engine.dispose()
        relay.close()
