"""The ledger of bulk jobs: one runner at a time, no overlap, exact counters, control and retry."""

import asyncio
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from storage import job_units, jobs
from storage.errors import Conflict, InvalidInput, NotFound
from storage.job_tables import Job, JobStatus, UnitState
from tests.storage.ledger import _clean, corpus, listed, make

__all__ = ["_clean"]


async def test_one_runner_at_a_time(engine: AsyncEngine) -> None:
    job_id = await make(engine)
    results = await asyncio.gather(*(jobs.take(engine, job_id, lease_s=30) for _ in range(8)), return_exceptions=True)
    tokens = [one for one in results if isinstance(one, UUID)]
    assert len(tokens) == 1
    assert all(isinstance(one, Conflict) for one in results if one not in tokens)


async def test_a_job_is_abandoned_by_the_clock_of_the_database(engine: AsyncEngine) -> None:
    job_id = await make(engine)
    assert not await jobs.abandoned(engine, job_id, after_s=0), "it waits"
    token = await jobs.take(engine, job_id, lease_s=-10)
    assert await jobs.abandoned(engine, job_id, after_s=5)
    assert not await jobs.abandoned(engine, job_id, after_s=60)
    await jobs.keep(engine, job_id, token, lease_s=30, worked_s=0)
    assert not await jobs.abandoned(engine, job_id, after_s=5)
    await jobs.let_go(engine, job_id, token, JobStatus.FAILED, "it fell over")
    assert not await jobs.abandoned(engine, job_id, after_s=5)


@pytest.mark.parametrize("other", ["s3://corpus/a/", "s3://corpus/a/b/", "s3://corpus/"])
async def test_jobs_do_not_overlap(engine: AsyncEngine, other: str) -> None:
    first = await make(engine, "s3://corpus/a/")
    with pytest.raises(Conflict, match=f"job {first} .*s3://corpus/a/"):
        await make(engine, other)
    await make(engine, "s3://corpus/ab/")
    token = await jobs.take(engine, first, lease_s=30)
    await jobs.let_go(engine, first, token, JobStatus.CANCELLED, None)
    if other != "s3://corpus/":
        await make(engine, other)


@pytest.mark.parametrize("rate", [float("inf"), float("nan")])
def test_a_rate_is_finite(rate: float) -> None:
    with pytest.raises(InvalidInput, match="reads_per_s"):
        jobs.options(cpus=1, gpus=0, reads_per_s=rate)


async def test_of_two_made_at_once_one_is_refused(engine: AsyncEngine) -> None:
    results = await asyncio.gather(*(make(engine, "s3://corpus/x/") for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(one, int) for one in results) == 1


async def test_units_keep_the_order_and_have_ids(engine: AsyncEngine) -> None:
    found = corpus(10)
    job_id, _ = await listed(engine, found)
    job = await jobs.get(engine, job_id)
    assert (job.units, job.objects, job.skipped, job.listed) == (3, 10, 0, True)
    held = await job_units.units(engine, job_id, [0, 1, 2])
    assert [path for unit in held for path in unit.paths] == [one.path for one in found]
    ids = [image_id for unit in held for image_id in unit.image_ids]
    assert ids == sorted(set(ids))
    assert await job_units.first_left(engine, job_id) == 0


async def test_a_listing_begins_anew(engine: AsyncEngine) -> None:
    job_id = await make(engine)
    token = await jobs.take(engine, job_id, lease_s=30)
    await job_units.add_listed(engine, job_id, token, corpus(8), unit_size=4)
    await job_units.begin_listing(engine, job_id, token)
    job = await jobs.get(engine, job_id)
    assert (job.units, job.objects) == (0, 0)
    assert await job_units.first_left(engine, job_id) is None


async def test_control(engine: AsyncEngine) -> None:
    job_id, token = await listed(engine, corpus(4))
    await jobs.control(engine, job_id, JobStatus.PAUSED)
    assert await jobs.keep(engine, job_id, token, lease_s=30, worked_s=0) == JobStatus.PAUSED
    await jobs.let_go(engine, job_id, token, None, None)
    with pytest.raises(Conflict, match="paused"):
        await jobs.take(engine, job_id, lease_s=30)
    assert (await jobs.control(engine, job_id, JobStatus.PAUSED)).status == JobStatus.PAUSED
    await jobs.control(engine, job_id, JobStatus.WAITING)
    token = await jobs.take(engine, job_id, lease_s=30)
    await jobs.control(engine, job_id, JobStatus.CANCELLING)
    assert await jobs.keep(engine, job_id, token, lease_s=30, worked_s=0) == JobStatus.CANCELLING
    await jobs.let_go(engine, job_id, token, JobStatus.CANCELLED, None)
    for wanted in (JobStatus.PAUSED, JobStatus.WAITING, JobStatus.CANCELLING):
        with pytest.raises(Conflict, match="cancelled"):
            await jobs.control(engine, job_id, wanted)
    with pytest.raises(NotFound):
        await jobs.control(engine, 10**12, JobStatus.PAUSED)


async def test_a_cancellation_is_not_forgotten_by_a_failure(engine: AsyncEngine) -> None:
    job_id, token = await listed(engine, corpus(4))
    await jobs.control(engine, job_id, JobStatus.CANCELLING)
    await jobs.let_go(engine, job_id, token, JobStatus.FAILED, "something broke")
    assert (await jobs.get(engine, job_id)).status == JobStatus.CANCELLING


async def test_listing_calls_may_be_repeated(engine: AsyncEngine) -> None:
    job_id = await make(engine)
    token = await jobs.take(engine, job_id, lease_s=30)
    found = corpus(6)
    for _ in range(2):
        assert await job_units.add_listed(engine, job_id, token, found[:4], unit_size=4, at=0) == 4
    assert await job_units.add_listed(engine, job_id, token, found[4:], unit_size=4, at=4) == 6
    assert (await jobs.get(engine, job_id)).objects == 6


async def test_a_job_without_objects_left(engine: AsyncEngine) -> None:
    job_id, _ = await listed(engine, [])
    assert await job_units.first_left(engine, job_id) is None
    assert await job_units.numbers(engine, job_id, UnitState.WAITING, 0, 10**9) == []
    newest, *_ = await jobs.listing(engine)
    assert isinstance(newest, Job) and newest.id == job_id
