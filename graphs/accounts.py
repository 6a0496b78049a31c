"""API keys of one installation, for the command line. May import storage and configs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import default_home, load_settings
from storage.database import create_engine, ping
from storage.keys import create_key, list_keys, revoke_key
from storage.tables import ApiKey


@asynccontextmanager
async def _engine(home: Path | None) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(load_settings(home or default_home()), pool_size=1)
    try:
        await ping(engine)
        yield engine
    finally:
        await engine.dispose()


async def make_key(
    home: Path | None, name: str, scopes: list[str], expires_at: datetime | None, rate_limit: int | None
) -> str:
    """See ``storage.keys.create_key``."""
    async with _engine(home) as engine:
        return await create_key(engine, name, scopes, expires_at=expires_at, rate_limit=rate_limit)


async def all_keys(home: Path | None) -> list[ApiKey]:
    """See ``storage.keys.list_keys``."""
    async with _engine(home) as engine:
        return await list_keys(engine)


async def drop_key(home: Path | None, name: str) -> None:
    """See ``storage.keys.revoke_key``."""
    async with _engine(home) as engine:
        await revoke_key(engine, name)
