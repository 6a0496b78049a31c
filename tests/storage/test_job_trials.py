"""Trials: a death is counted once, by whoever comes after it, and forgotten when the unit is stored."""

import dataclasses
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from storage import job_trials, job_units, jobs
from storage.errors import StaleClaim
from storage.job_tables import JobStatus
from storage.job_trials import PLAIN, Part
from tests.storage.ledger import _clean, corpus, index, listed, one

__all__ = ["_clean"]


async def begin(engine: AsyncEngine, part: Part, token: UUID, worker: UUID | None = None) -> int:
    return await job_trials.begin(engine, part, token, worker or uuid4())


async def test_a_death_is_noticed_by_the_next_worker(engine: AsyncEngine) -> None:
    job_id, token = await listed(engine, corpus(4))
    part, worker = Part(job_id, 0, "reading", 0, 4), uuid4()
    assert await begin(engine, part, token) == 0
    assert await begin(engine, part, token, worker) == 1
    assert await begin(engine, part, token, worker) == 1, "a repeat of a call whose answer was lost"
    assert await begin(engine, dataclasses.replace(part, size=2), token) == 0
    assert await begin(engine, dataclasses.replace(part, stage="describing"), token) == 0
    await job_trials.end(engine, part, uuid4())
    assert await begin(engine, part, token) == 2, "only who looks at it can end it"


async def test_what_was_survived_leaves_nothing(engine: AsyncEngine) -> None:
    job_id, token = await listed(engine, corpus(4))
    part, worker = Part(job_id, 0, "reading", 0, 4), uuid4()
    await begin(engine, part, token, worker)
    await job_trials.end(engine, part, worker)
    assert await one(engine, "SELECT count(*) FROM job_trial WHERE job_id = :id", id=job_id) == 0
    await begin(engine, part, token)
    await begin(engine, part, token, worker)
    await job_trials.end(engine, part, worker)
    assert await begin(engine, part, token) == 1, "deaths are kept until the unit is stored"
    await index(engine, job_id, token, 0)
    assert await one(engine, "SELECT count(*) FROM job_trial WHERE job_id = :id", id=job_id) == 0


async def test_a_run_that_ends_takes_its_trials_back(engine: AsyncEngine) -> None:
    job_id, token = await listed(engine, corpus(4))
    part = Part(job_id, 0, "reading", 0, 4)
    await begin(engine, part, token)
    await job_trials.spare(engine, job_id, uuid4())
    await begin(engine, part, token)
    await jobs.let_go(engine, job_id, token, JobStatus.WAITING, None)
    with pytest.raises(StaleClaim):
        await begin(engine, part, token)
    await job_trials.spare(engine, job_id, token)
    again = await jobs.take(engine, job_id, lease_s=30)
    assert await begin(engine, part, again) == 1, "only what another run had left"


async def test_a_plain_picture_gets_another_chance_with_each_run(engine: AsyncEngine) -> None:
    job_id, token = await listed(engine, corpus(4))
    part = Part(job_id, PLAIN, "reading", 0, 1)
    await begin(engine, part, token)
    assert await begin(engine, part, token) == 1
    await job_trials.forget_plain(engine, job_id)
    assert await begin(engine, part, token) == 0


async def test_a_retry_starts_without_the_deaths_of_before(engine: AsyncEngine) -> None:
    job_id, token = await listed(engine, corpus(4))
    for _ in range(4):
        await begin(engine, Part(job_id, 0, "reading", 3, 1), token)
    await index(engine, job_id, token, 0, broken=1)
    await jobs.let_go(engine, job_id, token, JobStatus.DONE, None)
    assert await job_units.retry(engine, job_id, unit_size=4) == 1
    again = await jobs.take(engine, job_id, lease_s=30)
    assert await begin(engine, Part(job_id, 1, "reading", 0, 1), again) == 0
