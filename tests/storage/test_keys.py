"""Keys: only a hash is stored; expiry, revocation and limits act at once."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.errors import Conflict, InvalidInput, NotFound, RateLimited, Unauthenticated
from storage.keys import authenticate, create_key, list_keys, revoke_key


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


async def test_a_key_is_known_by_its_hash_only(engine: AsyncEngine, name: str) -> None:
    key = await create_key(engine, name, ["image:read", "image:write"], actor="test")
    who = await authenticate(engine, key)
    assert who.name == name and who.scopes == {"image:read", "image:write"}
    async with engine.connect() as connection:
        row = (await connection.execute(text("SELECT * FROM api_key WHERE name = :n"), {"n": name})).one()
    assert key not in str(tuple(row)) and key.removeprefix("sg_") not in str(tuple(row))
    assert name in [one.name for one in await list_keys(engine)]
    with pytest.raises(Unauthenticated):
        await authenticate(engine, key[:-1] + ("a" if key[-1] != "a" else "b"))


async def test_revocation_and_expiry_act_at_once(engine: AsyncEngine, name: str) -> None:
    key = await create_key(engine, name, ["admin"], actor="test")
    await revoke_key(engine, name, actor="test")
    await revoke_key(engine, name, actor="test")
    with pytest.raises(Unauthenticated):
        await authenticate(engine, key)
    with pytest.raises(NotFound):
        await revoke_key(engine, name + "x", actor="test")
    soon = await create_key(
        engine, name + "-2", ["admin"], expires_at=datetime.now(UTC) + timedelta(seconds=0.5), actor="test"
    )
    await authenticate(engine, soon)
    await asyncio.sleep(0.6)
    with pytest.raises(Unauthenticated):
        await authenticate(engine, soon)


async def test_a_limit_counts(engine: AsyncEngine, name: str) -> None:
    key = await create_key(engine, name, ["admin"], rate_limit=3, actor="test")
    answers = await asyncio.gather(*(authenticate(engine, key) for _ in range(9)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, RateLimited)]
    assert len(refused) in (3, 6)  # 3 if the minute changed in between
    assert all(0 < one.retry_after_s <= 60 for one in refused)


@pytest.mark.parametrize(
    "options",
    [
        {"scopes": ["image:red"]}, {"scopes": []}, {"rate_limit": 0}, {"name": "  "},
        {"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, {"expires_at": datetime(2999, 1, 1)},
    ],
)  # fmt: skip
async def test_bad_keys_are_refused(engine: AsyncEngine, name: str, options: dict) -> None:
    with pytest.raises(InvalidInput):
        await create_key(engine, **{"name": name, "scopes": ["admin"], **options}, actor="test")


async def test_names_are_unique(engine: AsyncEngine, name: str) -> None:
    await create_key(engine, name, ["admin"], actor="test")
    with pytest.raises(Conflict):
        await create_key(engine, name, ["admin"], actor="test")
