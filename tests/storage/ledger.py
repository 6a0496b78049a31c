"""Jobs with ledgers as rows, for tests of what works on them."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from storage import bulk, job_units, jobs
from storage.bulk import BulkFailure, BulkImage, IndexedUnit
from storage.claims import FoundObject
from storage.corpus import CorpusObject
from storage.job_tables import JobStatus

MODEL = "safeguard-v1"


async def make(engine: AsyncEngine, source: str | None = None) -> int:
    source = source or f"s3://corpus/{uuid4().hex}/"
    job = await jobs.create(engine, source=source, model_name=MODEL, options={}, created_by="test")
    assert job.id is not None and job.status == JobStatus.WAITING
    return job.id


def corpus(count: int, folder: str = "", etag: str = "e") -> list[CorpusObject]:
    folder = folder or uuid4().hex
    return [CorpusObject(f"s3://corpus/{folder}/{n:03}.jpg", etag, 1000 + n) for n in range(count)]


async def listed(engine: AsyncEngine, found: list[CorpusObject], unit_size: int = 4) -> tuple[int, UUID]:
    """A job with a full ledger, taken."""
    job_id = await make(engine)
    token = await jobs.take(engine, job_id, lease_s=30)
    await job_units.begin_listing(engine, job_id, token)
    await job_units.add_listed(engine, job_id, token, found, unit_size=unit_size)
    await job_units.end_listing(engine, job_id, token)
    return job_id, token


def image(image_id: int, path: str, etag: str = "e") -> BulkImage:
    objects = [FoundObject("person", 0.9, (1.0, 2.0, 3.0, 4.0), "d@1")]
    return BulkImage(image_id, path, etag, bytes(32), 10, "image/jpeg", 8, 9, objects, {"f@1": 0.25})


async def index(engine: AsyncEngine, job_id: int, token: UUID, number: int, *, broken: int = 0) -> list[int]:
    """Stores a unit whose last ``broken`` objects are no pictures; returns the ids of its images."""
    (unit,) = await job_units.units(engine, job_id, [number])
    good = len(unit.paths) - broken
    places = list(zip(unit.image_ids, unit.paths, unit.etags, unit.sizes, strict=True))
    await bulk.begin(engine, job_id, token, [number])
    outcome = IndexedUnit(
        number,
        [image(image_id, path, etag) for image_id, path, etag, _ in places[:good]],
        [BulkFailure(*place, "not a picture") for place in places[good:]],
    )
    await bulk.store_indexed(engine, job_id, token, MODEL, [outcome])
    return unit.image_ids[:good]


async def one(engine: AsyncEngine, statement: str, **arguments: object) -> object:
    async with engine.connect() as connection:
        return (await connection.execute(text(statement), arguments)).scalar_one()


@pytest_asyncio.fixture(autouse=True)
async def _clean(engine: AsyncEngine) -> AsyncIterator[None]:
    yield
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM job"))
        mine = "SELECT id FROM image WHERE s3_path LIKE 's3://corpus/%'"
        await connection.execute(text(f"DELETE FROM bank_member WHERE image_id IN ({mine})"))
        await connection.execute(text("DELETE FROM image WHERE s3_path LIKE 's3://corpus/%'"))
