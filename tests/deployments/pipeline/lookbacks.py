"""Banks on an installation of their own, and look-backs that are worked off in this process."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from deployments.pipeline.lookback import LookBackLoop
from deployments.pipeline.lookback_work import LookBackWorker
from deployments.pipeline.processor import Processor
from storage import lookback_claims, lookbacks
from storage.bank_changes import change_banks
from storage.database import create_engine
from storage.lookback_tables import LookBack, LookBackKind
from storage.lookbacks import LOOKBACK_CHANNEL
from storage.objects import ObjectStore
from storage.signals import Signal
from storage.tables import Image
from tests.installation import apart


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
    """Changes of banks as a moderator makes them: each begins its look-back in the same transaction."""

    engine: AsyncEngine

    async def make(self, kind: str = "unacceptable", *, pdq_distance: int = 31) -> int:
        statement = text(
            "INSERT INTO bank (name, kind, relations, pdq_distance, created_by)"
            " VALUES (:name, :kind, '{exact,copy}', :distance, 'test') RETURNING id"
        )
        async with self.engine.begin() as connection:
            await change_banks(connection, hashes=True)
            values = {"name": f"bank {uuid4()}", "kind": kind, "distance": pdq_distance}
            return int((await connection.execute(statement, values)).scalar_one())

    async def add(self, bank: int, *members: dict[str, Any]) -> tuple[int, tuple[int, int]]:
        """Its look-back and the range of the members' ids."""
        statement = text(
            "INSERT INTO bank_member (bank_id, added_by, image_id, pdq, sha256)"
            " VALUES (:bank, 'test', :image_id, :pdq, :sha256) RETURNING id"
        )
        ids = []
        async with self.engine.begin() as connection:
            await change_banks(connection, hashes=True)
            for one in members:
                values = {"bank": bank, "image_id": None, "pdq": None, "sha256": None, **one}
                ids.append(int((await connection.execute(statement, values)).scalar_one()))
            made = await lookbacks.begin(
                connection, LookBackKind.MEMBERS, cause="added", actor="test", bank_id=bank, members=(ids[0], ids[-1])
            )
        return made, (ids[0], ids[-1])

    async def set_members(self, bank: int, members: tuple[int, int], column: str, value: str) -> int:
        """Sets ``removed_at`` or ``quarantined_at`` to an SQL expression; returns the look-back."""
        statement = text(f"UPDATE bank_member SET {column} = {value} WHERE id BETWEEN :first AND :last")
        async with self.engine.begin() as connection:
            await change_banks(connection, hashes=True)
            await connection.execute(statement, {"first": members[0], "last": members[1]})
            return await lookbacks.begin(
                connection, LookBackKind.MEMBERS, cause=column, actor="test", bank_id=bank, members=members
            )

    async def set_bank(self, bank: int, assignment: str) -> int:
        """Changes the bank by SQL; returns the look-back."""
        async with self.engine.begin() as connection:
            await change_banks(connection, hashes=True)
            await connection.execute(text(f"UPDATE bank SET {assignment} WHERE id = :id"), {"id": bank})
            return await lookbacks.begin(connection, LookBackKind.BANK, cause=assignment, actor="test", bank_id=bank)


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
