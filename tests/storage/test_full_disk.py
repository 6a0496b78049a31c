"""A full disk is named as such by the real servers; what was stored before stays true, and work goes on when there is room."""

import pickle
from collections.abc import AsyncIterator, Iterator
from uuid import UUID

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from deployments.bulk.patience import is_outage
from graphs.backfill import _said
from storage import jobs
from storage.corpus import CorpusObject
from storage.database import create_engine, storage_full
from storage.errors import StorageFull
from storage.job_tables import UnitState
from storage.job_units import add_listed, end_listing, numbers
from storage.objects import ObjectStore
from storage.uploads import NewImage, upload
from tests.full_disk import empty, fill, full_objects, small_database, small_objects
from tests.storage.ledger import index

NEW = NewImage("a.png", "full-disk", bytes(2**21), "image/png", 1, 1)
UNIT = 16


@pytest.fixture(scope="module")
def small(servers: Settings) -> Iterator[Settings]:
    with small_database(servers) as settings:
        yield settings


@pytest_asyncio.fixture
async def on_small(small: Settings) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(small)
    yield engine
    await engine.dispose()


async def test_a_full_object_store_is_named_and_nothing_is_half_stored(servers: Settings, engine: AsyncEngine) -> None:
    with full_objects(servers) as settings:
        objects = ObjectStore(settings)
        with pytest.raises(StorageFull, match="object store answers, but takes no object") as caught:
            await upload(engine, objects, NEW, caller=0)
        objects.close()
    assert is_outage(caught.value), "a job waits for room before it rests"
    assert _said(caught.value).endswith("make room and resume the job")
    async with engine.begin() as connection:
        rows = await connection.execute(text("DELETE FROM image WHERE model_name = 'full-disk' RETURNING uploaded_at"))
        assert list(rows.scalars()) == [None], "a row that nobody can claim, and the sweeper clears"


async def test_no_bucket_is_refused_while_there_is_room(servers: Settings) -> None:
    with small_objects(servers, 200) as settings:
        for number in range(8):
            objects = ObjectStore(settings.model_copy(update={"s3_bucket": f"bucket-{number}"}))
            await objects.ensure_buckets()
            await objects.put("key", b"content", "text/plain")
            objects.close()


async def test_a_full_database_leaves_a_true_ledger(small: Settings, on_small: AsyncEngine) -> None:
    engine = on_small
    found = [CorpusObject(f"s3://corpus/{'x' * 800}/{number}.jpg", "e", 10) for number in range(200 * UNIT)]
    job = await jobs.create(engine, source="s3://corpus/", model_name="m", options={}, created_by="test")
    assert job.id is not None
    token: UUID = await jobs.take(engine, job.id, lease_s=600)
    await add_listed(engine, job.id, token, found[:UNIT], unit_size=UNIT)
    await fill(small)
    with pytest.raises(DBAPIError) as caught:
        await add_listed(engine, job.id, token, found[UNIT:], unit_size=UNIT)
    full = storage_full(caught.value)
    assert full is not None and "database is full" in str(full) and is_outage(caught.value)
    assert _said(caught.value) == "the disk of the database is full; make room and resume the job"
    assert storage_full(pickle.loads(pickle.dumps(caught.value))) is not None, "as it comes from a worker"
    held = await jobs.get(engine, job.id)
    assert (held.objects, held.units, held.failed) == (UNIT, 1, 0)
    assert await numbers(engine, job.id, UnitState.WAITING, 0, 1000) == [0]
    await empty(small)
    await add_listed(engine, job.id, token, found[UNIT:], unit_size=UNIT)
    await end_listing(engine, job.id, token)
    await index(engine, job.id, token, 0)
    held = await jobs.get(engine, job.id)
    assert (held.objects, held.indexed, held.failed) == (200 * UNIT, UNIT, 0)


def test_other_errors_are_not_a_full_disk() -> None:
    assert storage_full(None) is None
    assert storage_full(DBAPIError("", {}, Exception("disk full"))) is None
