"""Keys: only a hash is stored; expiry, revocation and limits act at once."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage.errors import Conflict, InvalidInput, NotFound, RateLimited, Unauthenticated
from storage.keys import authenticate, create_key, list_keys, revoke_key, rotate_key


async def expire(engine: AsyncEngine, name: str) -> None:
    """As if the time of a key had come."""
    async with engine.begin() as connection:
        statement = text("UPDATE api_key SET expires_at = now() - interval '1 second' WHERE name = :name")
        assert (await connection.execute(statement, {"name": name})).rowcount == 1


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
        engine, name + "-2", ["admin"], expires_at=datetime.now(UTC) + timedelta(minutes=10), actor="test"
    )
    await authenticate(engine, soon)
    await expire(engine, name + "-2")
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


async def test_rotation_gives_a_new_key_and_the_old_one_goes_on_for_a_while(engine: AsyncEngine, name: str) -> None:
    first = await create_key(
        engine, name, ["moderate"], rate_limit=100, expires_at=datetime.now(UTC) + timedelta(days=30), actor="test"
    )
    second = await rotate_key(engine, name, overlap=timedelta(hours=1), actor="test")
    new, old = await authenticate(engine, second), await authenticate(engine, first)
    assert new.scopes == old.scopes == {"moderate"} and new.name == old.name == name, "the same caller"
    kept = f"{name}/old-{old.key_id}"
    rows = {one.name: one for one in await list_keys(engine) if one.name.startswith(name)}
    in_an_hour = rows[kept].expires_at
    assert in_an_hour is not None and timedelta(minutes=59) < in_an_hour - datetime.now(UTC) <= timedelta(hours=1)
    life = rows[name].expires_at
    assert life is not None and timedelta(days=29) < life - datetime.now(UTC) <= timedelta(days=30)
    assert rows[name].rate_limit == 100
    third = await rotate_key(engine, name, overlap=timedelta(0), actor="test")
    with pytest.raises(Unauthenticated):
        await authenticate(engine, second)
    assert (await authenticate(engine, third)).name == name
    async with engine.connect() as connection:
        statement = text("SELECT detail FROM audit WHERE action = 'key.rotate' AND subject = :s ORDER BY sequence")
        details = (await connection.execute(statement, {"s": f"key/{name}"})).scalars().all()
    assert [one["old"] for one in details] == [kept, f"{name}/old-{new.key_id}"]
    assert not any(key in str(details) for key in (first, second, third))


async def test_revoking_a_key_revokes_what_it_replaced(engine: AsyncEngine, name: str) -> None:
    keys = [await create_key(engine, name, ["moderate"], actor="test")]
    stranger = await create_key(engine, f"{name}-2", ["moderate"], actor="test")
    keys += [await rotate_key(engine, name, overlap=timedelta(hours=1), actor="test") for _ in range(2)]
    old = [one.name for one in await list_keys(engine) if one.name.startswith(f"{name}/old-")]
    assert await revoke_key(engine, name, actor="test") == old and len(old) == 2
    for key in keys:
        with pytest.raises(Unauthenticated):
            await authenticate(engine, key)
    await authenticate(engine, stranger)
    assert await revoke_key(engine, name, actor="test") == []
    async with engine.connect() as connection:
        statement = text("SELECT detail FROM audit WHERE action = 'key.revoke' AND subject = :s")
        details = (await connection.execute(statement, {"s": f"key/{name}"})).scalars().all()
    assert details == [{"old": old}]


async def test_a_replaced_key_is_revoked_alone(engine: AsyncEngine, name: str) -> None:
    first = await create_key(engine, name, ["moderate"], actor="test")
    old = await authenticate(engine, first)
    second = await rotate_key(engine, name, overlap=timedelta(hours=1), actor="test")
    assert await revoke_key(engine, f"{name}/old-{old.key_id}", actor="test") == []
    with pytest.raises(Unauthenticated):
        await authenticate(engine, first)
    await authenticate(engine, second)


async def test_no_key_is_named_like_a_replaced_one(engine: AsyncEngine, name: str) -> None:
    with pytest.raises(InvalidInput, match="/old-"):
        await create_key(engine, f"{name}/old-7", ["moderate"], actor="test")


async def test_only_a_valid_key_is_rotated(engine: AsyncEngine, name: str) -> None:
    with pytest.raises(NotFound):
        await rotate_key(engine, name, overlap=timedelta(0), actor="test")
    key = await create_key(engine, name, ["admin"], actor="test")
    with pytest.raises(InvalidInput):
        await rotate_key(engine, name, overlap=timedelta(hours=-1), actor="test")
    made = await asyncio.gather(
        *(rotate_key(engine, name, overlap=timedelta(hours=1), actor="test") for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(one, str | NotFound) for one in made) and any(isinstance(one, str) for one in made)
    assert (await authenticate(engine, key)).name == name
    await revoke_key(engine, name, actor="test")
    with pytest.raises(Conflict):
        await rotate_key(engine, name, overlap=timedelta(hours=1), actor="test")
