"""A run of a bulk job without Ray: the ledger has the job, and the task is what its stages are given."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from deployments.bulk.work import BulkTask
from storage import jobs
from storage.objects import ObjectStore


@pytest_asyncio.fixture
async def task(home: Path, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BulkTask]:
    monkeypatch.setenv("SAFEGUARD_HOME", str(home))
    source = f"s3://corpus/{uuid4().hex}/"
    job = await jobs.create(engine, source=source, model_name="safeguard-v1", options={}, created_by="test")
    assert job.id is not None
    token = await jobs.take(engine, job.id, lease_s=600)
    yield BulkTask(job.id, token, "safeguard-v1", ("lite0-copy@2",), niceness=0)
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM job WHERE id = :id"), {"id": job.id})


@pytest_asyncio.fixture
async def corpus(servers: Settings) -> AsyncIterator[ObjectStore]:
    """A bucket of its own for the pictures of a job."""
    store = ObjectStore(servers.model_copy(update={"s3_bucket": f"corpus-{uuid4().hex[:12]}"}))
    await store.ensure_buckets()
    yield store
    store.close()
