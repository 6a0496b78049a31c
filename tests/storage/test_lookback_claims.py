"""Claims on look-backs: they take turns, an outage costs no attempt, one that never ends a step is given up."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from storage import lookback_claims, lookbacks
from storage.database import create_engine
from storage.lookback_claims import HeldLookBack
from storage.lookback_progress import share_done
from storage.lookback_tables import LookBack, LookBackKind
from tests.installation import apart


@pytest.fixture(scope="module")
def servers(servers: Settings) -> Iterator[Settings]:
    with apart(servers) as settings:
        yield settings


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def engine(servers: Settings) -> AsyncIterator[AsyncEngine]:
    made = create_engine(servers, pool_size=2)
    yield made
    await made.dispose()


@pytest_asyncio.fixture(loop_scope="session")
async def three(engine: AsyncEngine) -> AsyncIterator[list[int]]:
    async with engine.begin() as connection:
        made = [await lookbacks.begin(connection, LookBackKind.JUDGE, cause=f"{n}", actor="test") for n in range(3)]
    yield made
    async with engine.begin() as connection:
        await connection.execute(text("TRUNCATE look_back"))


async def _claim(engine: AsyncEngine) -> HeldLookBack | None:
    return await lookback_claims.claim(engine, lease_s=60, max_attempts=3)


async def _expire(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE look_back SET lease_expires_at = now() - interval '1 second'"))


async def test_they_take_turns(engine: AsyncEngine, three: list[int]) -> None:
    for _ in range(2):
        turn = []
        for _ in range(3):
            held = await _claim(engine)
            assert held is not None and held.attempt == 1
            await lookback_claims.rest(engine, held)
            turn.append(held.id)
        assert turn == three
    both = [await _claim(engine) for _ in range(4)]
    assert [one.id if one else None for one in both] == [*three, None]


async def test_what_never_ends_a_step_is_given_up_and_an_outage_is_not_counted(
    engine: AsyncEngine, three: list[int]
) -> None:
    first, *others = three
    for other in others:
        await lookbacks.cancel(engine, other, actor="test")
    for attempt in (1, 2, 3):
        held = await _claim(engine)
        assert held is not None and held.attempt == attempt
        await _expire(engine)
        assert not await lookback_claims.renew(engine, held, lease_s=60)
    assert await _claim(engine) is None
    dead = await lookbacks.get(engine, first)
    assert dead.state == "dead" and dead.failure == "no replica finished a step of it within its lease, 3 times"
    await lookbacks.retry(engine, first, actor="test")
    for blameless, state in ((True, "waiting"),) * 4 + ((False, "waiting"),) * 2 + ((False, "dead"),):
        held = await _claim(engine)
        assert held is not None and await lookback_claims.renew(engine, held, lease_s=60)
        options = {"retry_delay_s": 0.0, "max_attempts": 3, "blameless": blameless}
        assert await lookback_claims.fail(engine, held, "why", **options) == state
    held_back = await lookbacks.retry(engine, first, actor="test")
    assert held_back.failure is None and held_back.attempt == 0
    held = await _claim(engine)
    assert held is not None
    await lookback_claims.fail(engine, held, "why", retry_delay_s=60, max_attempts=3, blameless=True)
    assert await _claim(engine) is None  # it pauses
    assert (await lookbacks.get(engine, first)).state == "waiting"


def test_progress() -> None:
    def share(**row: object) -> float:
        return share_done(LookBack(**{"kind": "members", "state": "waiting", "cursor": {}, "members_done": 0, **row}))

    assert share() == share(kind="judge") == 0.0 and share(state="done") == 1.0
    assert share(kind="judge", cursor={"end": 40, "after": 10}) == 0.25
    half = {"end": 40, "member": 1, "batch": {"phase": "search", "after": 20}}
    assert share(members=2, members_done=1, cursor=half) == pytest.approx(0.5 + 0.45 / 2)
    assert share(members=2, members_done=2, cursor={"end": 40, "member": 2}) == 1.0
