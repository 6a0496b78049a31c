"""Banks on an installation of their own, and look-backs that are worked off in this process."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from deployments.pipeline.lookback import LookBackLoop
from deployments.pipeline.lookback_work import LookBackWorker
from deployments.pipeline.processor import Processor
from storage import bank_members, lookback_claims, lookbacks
from storage import banks as bank_rows
from storage.bank_changes import change_banks
from storage.bank_members import HashEntry
from storage.database import create_engine
from storage.lookback_tables import LookBack, LookBackKind
from storage.lookbacks import LOOKBACK_CHANNEL
from storage.objects import ObjectStore
from storage.signals import Signal
from storage.tables import Image
from tests.installation import apart
from tests.moderation import ACTOR, bank


@pytest.fixture(scope="module")
def servers(servers: Settings) -> Iterator[Settings]:
    """An installation whose look-backs are this module's alone."""
    with apart(servers) as settings:
        yield settings


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def engine(servers: Settings) -> AsyncIterator[AsyncEngine]:
    made = create_engine(servers)
    yield made
    await made.dispose()


@pytest.fixture(scope="module")
def objects(servers: Settings) -> Iterator[ObjectStore]:
    store = ObjectStore(servers)
    yield store
    store.close()


@dataclass(frozen=True)
class Banks:
    """Changes of banks as a moderator makes them; each returns the id of its look-back."""

    engine: AsyncEngine

    async def make(self) -> int:
        """An empty bank of unacceptable pictures."""
        return (await bank(self.engine)).id

    async def add(self, bank_id: int, image: Image) -> int:
        """A stored picture becomes a member."""
        assert image.id is not None
        _, look_back = await bank_members.add_image(self.engine, bank_id, image.id, note=None, actor=ACTOR)
        assert look_back is not None
        return look_back

    async def add_hashes(self, bank_id: int, *hashes: HashEntry) -> int:
        """Hashes become members."""
        added = await bank_members.add_hashes(self.engine, bank_id, hashes, source="", actor=ACTOR)
        (look_back,) = added.look_backs
        return look_back

    async def quarantine(self, bank_id: int) -> int:
        """All members of a bank go into quarantine."""
        async with self.engine.begin() as connection:
            await change_banks(connection, hashes=False)
            statement = text("UPDATE bank_member SET quarantined_at = now() WHERE bank_id = :bank")
            await connection.execute(statement, {"bank": bank_id})
            return await lookbacks.begin(
                connection, LookBackKind.BANK, cause="quarantine", actor=ACTOR, bank_id=bank_id
            )

    async def change(self, bank_id: int, **changes: Any) -> int:
        """Other terms of a bank."""
        _, look_back = await bank_rows.change(self.engine, bank_id, changes, actor=ACTOR)
        assert look_back is not None
        return look_back


@pytest_asyncio.fixture(loop_scope="session")
async def banks(engine: AsyncEngine, processor: Processor) -> AsyncIterator[Banks]:
    """Taken away before the images, which members keep from being deleted."""
    yield Banks(engine)
    async with engine.begin() as connection:
        await connection.execute(text("TRUNCATE look_back, bank CASCADE"))


def looking_back(processor: Processor, *, span: int = 10_000) -> LookBackLoop:
    """A loop that was not started."""
    signal = Signal(processor.settings, LOOKBACK_CHANNEL)
    return LookBackLoop(processor, signal, busy=lambda: False, worker=LookBackWorker(processor, span=span))


async def drain(processor: Processor, *, span: int = 10_000, rounds: int = 50) -> None:
    """Works off what waits, one turn after the other."""
    loop = looking_back(processor, span=span)
    for _ in range(rounds):
        held = await lookback_claims.claim(processor.engine, lease_s=60, max_attempts=processor.settings.max_attempts)
        if held is None:
            return
        await loop.work(held)
    raise AssertionError(f"look-backs still wait after {rounds} turns")


async def done(processor: Processor, lookback: int, **options: int) -> LookBack:
    """The look-back after everything has been worked off."""
    await drain(processor, **options)
    found = await lookbacks.get(processor.engine, lookback)
    assert found.state == "done", found.failure
    return found


async def verdicts(engine: AsyncEngine, *pictures: Image) -> list[str]:
    """The verdicts that hold."""
    async with engine.connect() as connection:
        rows = await connection.execute(
            text("SELECT image_id, verdict FROM moderation WHERE image_id = ANY(:ids)"),
            {"ids": [one.id for one in pictures]},
        )
        held = {row.image_id: row.verdict for row in rows}
    return [held.get(one.id, "none") for one in pictures]


async def decisions(engine: AsyncEngine, picture: Image) -> list[tuple[str, str]]:
    """All decisions on an image: cause and verdict."""
    async with engine.connect() as connection:
        rows = await connection.execute(
            text("SELECT cause, verdict FROM decision WHERE image_id = :id ORDER BY id"), {"id": picture.id}
        )
        return [(row.cause, row.verdict) for row in rows]
