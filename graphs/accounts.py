"""API keys of one installation, for the command line. May import storage and configs."""

from datetime import datetime, timedelta
from pathlib import Path

from graphs.opening import opened
from storage.keys import create_key, list_keys, revoke_key, rotate_key
from storage.tables import ApiKey

_ACTOR = "command line"


async def make_key(
    home: Path | None, name: str, scopes: list[str], expires_at: datetime | None, rate_limit: int | None
) -> str:
    """See ``storage.keys.create_key``."""
    async with opened(home) as (_, engine):
        return await create_key(engine, name, scopes, expires_at=expires_at, rate_limit=rate_limit, actor=_ACTOR)


async def all_keys(home: Path | None) -> list[ApiKey]:
    """See ``storage.keys.list_keys``."""
    async with opened(home) as (_, engine):
        return await list_keys(engine)


async def drop_key(home: Path | None, name: str) -> list[str]:
    """See ``storage.keys.revoke_key``."""
    async with opened(home) as (_, engine):
        return await revoke_key(engine, name, actor=_ACTOR)


async def renew_key(home: Path | None, name: str, overlap: timedelta) -> str:
    """See ``storage.keys.rotate_key``."""
    async with opened(home) as (_, engine):
        return await rotate_key(engine, name, overlap=overlap, actor=_ACTOR)
