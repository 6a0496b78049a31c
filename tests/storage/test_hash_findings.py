"""Findings: what is near members that are taken away at the same moment is stored without them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from uuid import uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage import lookback_claims, lookback_steps, lookbacks
from storage.bank_changes import hold_banks
from storage.lookback_steps import Found, Pace
from storage.lookback_tables import LookBackKind
from storage.objects import ObjectStore
from storage.quarantine import Rule
from tests.banks import bank_of
from tests.deployments.pipeline.test_loop import until
from tests.filtering import SAFE, finish, processed
from tests.installation import own_engine
from tests.storage.test_claims import stored

RULE = Rule(100, 0.1, 10.0, 3600.0, 86_400.0)
CURSOR = {"end": 1, "member": 0, "batch": {"through": 10**9, "phase": "search", "after": 1, "gone": {}}}
BLOCKED = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


@pytest.fixture
async def alone(servers: Settings) -> AsyncIterator[AsyncEngine]:
    async with own_engine(servers) as engine:
        yield engine


async def _findings(engine: AsyncEngine) -> list[tuple[int, int, int]]:
    async with engine.connect() as connection:
        rows = await connection.execute(text("SELECT image_id, member_id, distance FROM hash_finding ORDER BY 1, 2"))
        return [tuple(row) for row in rows]


async def _while_it_goes(engine: AsyncEngine, member: int, work: Awaitable[object]) -> None:
    """Takes a member away, and commits only when ``work``, begun meanwhile, waits for that."""
    async with engine.begin() as connection:
        await hold_banks(connection, None)
        await connection.execute(text("DELETE FROM bank_member WHERE id = :id"), {"id": member})
        begun = asyncio.ensure_future(work)

        async def waits() -> bool:
            async with engine.connect() as watching:
                return begun.done() or bool(await watching.scalar(BLOCKED))

        await until(waits)
    await begun


async def test_an_upload_near_a_member_that_goes_is_finished_without_it(
    alone: AsyncEngine, objects: ObjectStore
) -> None:
    queue = f"queue-{uuid4()}"
    _, (gone, kept) = await bank_of(alone, [b"g" * 32, b"k" * 32])
    (image,) = await stored(alone, objects, queue)
    await _while_it_goes(alone, gone, finish(alone, queue, hashes={gone: 3, kept: 4}))
    assert await _findings(alone) == [(image, kept, 4)]


async def test_what_a_look_back_finds_of_a_member_that_goes_is_left_out(
    alone: AsyncEngine, objects: ObjectStore
) -> None:
    bank, (gone, kept) = await bank_of(alone, [b"g" * 32, b"k" * 32])
    (image,) = await processed(alone, objects, [SAFE])
    async with alone.begin() as connection:
        await lookbacks.begin(connection, LookBackKind.BANK, cause="test", actor="test", bank_id=bank)
    held = await lookback_claims.claim(alone, lease_s=60, max_attempts=3)
    assert held is not None
    held = held.at(CURSOR)
    found = Found(hashes={image: {gone: 3, kept: 4}, image + 1000: {kept: 4}})
    await _while_it_goes(alone, gone, lookback_steps.store_found(alone, held, CURSOR, Pace(60.0), found, RULE))
    assert await _findings(alone) == [(image, kept, 4)]
