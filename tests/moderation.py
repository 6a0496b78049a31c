"""Processed images and banks for tests of the content filter, made as the product makes them."""

from collections.abc import Sequence
from uuid import uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage import banks, claims
from storage.banks import BankState, NewBank
from storage.claims import Outcome
from storage.links import Link
from storage.objects import ObjectStore
from tests.storage.test_claims import stored

ACTOR = "tester"


async def processed(
    engine: AsyncEngine,
    objects: ObjectStore,
    count: int = 1,
    *,
    links: Sequence[Link] = (),
    hashes: dict[int, int] | None = None,
) -> list[int]:
    """Stores small pictures that are harmless, and finishes them, each with ``links`` and ``hashes``."""  # fmt: skip
    queue = f"moderation-{uuid4()}"
    ids = await stored(engine, objects, queue, count)
    held = await claims.claim(engine, [queue], count, lease_s=60, max_attempts=3)
    found = [Outcome(one, links=list(links), content_scores={"opennsfw@1": 0.01}, hashes=hashes or {}) for one in held]
    assert await claims.finish(engine, found) == set(ids)
    return ids


async def bank(engine: AsyncEngine, kind: str = "unacceptable", **more: object) -> BankState:
    """An empty bank with a name of its own."""
    return await banks.create(engine, NewBank(f"банк «{uuid4()}»", kind, **more), actor=ACTOR)


async def audited(engine: AsyncEngine, subject: str) -> list[tuple[str, str, dict[str, object]]]:
    """Action, actor and detail of all audit entries on something, in order."""
    statement = text("SELECT action, actor, detail FROM audit WHERE subject = :subject ORDER BY sequence")
    async with engine.connect() as connection:
        return [tuple(row) for row in (await connection.execute(statement, {"subject": subject})).all()]


async def look_backs(engine: AsyncEngine, bank_id: int) -> list[tuple[int, str, int | None, int | None]]:
    """Id, kind, first and last member of the look-backs of a bank, in order."""
    statement = text("SELECT id, kind, first_member, last_member FROM look_back WHERE bank_id = :id ORDER BY id")
    async with engine.connect() as connection:
        return [tuple(row) for row in (await connection.execute(statement, {"id": bank_id})).all()]


async def told(engine: AsyncEngine, bank_id: int) -> list[tuple[str, int | None, dict[str, object]]]:
    """Type, image and data of the events of a bank, in order."""
    statement = text("SELECT type, image_id, data FROM event WHERE data ->> 'bank_id' = CAST(:id AS text) ORDER BY id")
    async with engine.connect() as connection:
        return [tuple(row) for row in (await connection.execute(statement, {"id": str(bank_id)})).all()]
