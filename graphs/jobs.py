"""Bulk jobs for the command line: made, submitted to Ray, followed, controlled. May import all below."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from configs.settings import Settings
from deployments.bulk.patience import is_outage
from deployments.job_submission import submit
from graphs.cluster import RayCluster
from graphs.opening import chosen_model, opened
from storage import job_units, jobs
from storage.corpus import check_corpus, check_source
from storage.errors import ConfigurationError
from storage.job_tables import Job, JobFailure, JobStatus
from storage.objects import ObjectStore

_GIVEN_UP_S = 60.0
ENDED = (JobStatus.DONE, JobStatus.CANCELLED, JobStatus.FAILED, JobStatus.PAUSED)


async def start(
    home: Path | None,
    source: str,
    *,
    model_name: str | None,
    cpus: int,
    gpus: int,
    reads_per_s: float | None,
    niceness: int,
    segment_units: int,
) -> Job:
    """Makes a backfill and submits it, or submits the unfinished one of the same source and model again.

    Args:
        source: ``s3://bucket/prefix``.
        cpus, gpus, reads_per_s, niceness, segment_units: see ``storage.jobs.options``.
    Raises:
        InvalidInput: a malformed address, an unknown model.
        NotFound: there is no such bucket, or nothing under the prefix.
        Refused: no right to list it.
        Conflict: another unfinished job works on some of the same objects.
        Unavailable: a part of the platform does not answer.
    """
    async with opened(home) as (settings, engine):
        _, name = chosen_model(settings, model_name)
        address = check_source(source, (settings.s3_bucket, settings.s3_vectors_bucket))
        objects = ObjectStore(settings)
        try:
            await check_corpus(objects, address)
        finally:
            objects.close()
        options = jobs.options(
            cpus=cpus, gpus=gpus, reads_per_s=reads_per_s, niceness=niceness, segment_units=segment_units
        )
        job = await jobs.newest(engine, jobs.BACKFILL, address, name)
        if job is None or job.status not in jobs.UNFINISHED:
            job = await jobs.create(engine, source=address, model_name=name, options=options, created_by="command line")
        else:
            await go_on(engine, job, options)
        await hand_over(settings, job)
        return job


async def go_on(engine: AsyncEngine, job: Job, options: dict[str, Any]) -> None:
    """Lets an unfinished job go on with other options."""
    assert job.id is not None
    await jobs.set_options(engine, job.id, options)
    if job.status in (JobStatus.PAUSED, JobStatus.FAILED):
        await jobs.control(engine, job.id, JobStatus.WAITING)


async def hand_over(settings: Settings, job: Job) -> None:
    """Submits a job to the Ray cluster of the installation.

    Raises:
        Unavailable: the Ray dashboard does not answer.
    """
    assert job.id is not None
    cluster = RayCluster(settings)
    if not cluster.alive:
        raise ConfigurationError("Ray does not run; start the service with `safeguard up`")
    await submit(cluster.dashboard, job.id, cluster.token_file)


async def change(home: Path | None, job_id: int, wanted: JobStatus) -> Job:
    """Pauses, resumes or cancels; a job that has to be run for it is submitted.

    Raises:
        NotFound, Conflict: see ``storage.jobs.control``.
        Unavailable: a part of the platform does not answer.
    """
    async with opened(home) as (settings, engine):
        job = await jobs.control(engine, job_id, wanted)
        if wanted != JobStatus.PAUSED:
            await hand_over(settings, job)
        return job


async def retry(home: Path | None, job_id: int) -> int:
    """Tries the failed objects of a job again; returns how many."""
    async with opened(home) as (settings, engine):
        count = await job_units.retry(engine, job_id, unit_size=jobs.UNIT_SIZE)
        if count:
            await hand_over(settings, await jobs.get(engine, job_id))
        return count


async def show(home: Path | None, job_id: int) -> Job:
    """One job."""
    async with opened(home) as (_, engine):
        return await jobs.get(engine, job_id)


async def failed(home: Path | None, job_id: int) -> AsyncIterator[JobFailure]:
    """Every object that a job could not index."""
    async with opened(home) as (_, engine):
        after = 0
        while page := await job_units.failures(engine, job_id, after=after):
            for one in page:
                yield one
            after = page[-1].image_id


async def every(home: Path | None) -> list[Job]:
    """The newest hundred jobs."""
    async with opened(home) as (_, engine):
        return await jobs.listing(engine)


async def follow(home: Path | None, job_id: int, seen: Callable[[Job], Any], *, pause_s: float = 1.0) -> Job:
    """Calls ``seen`` every second until the job has ended, rests, or has nobody who runs it; returns it then."""
    async with opened(home) as (_, engine):
        alone_since: float | None = None
        while True:
            try:
                job = await jobs.get(engine, job_id)
                given_up = await jobs.abandoned(engine, job_id, after_s=_GIVEN_UP_S)
            except Exception as error:
                if not is_outage(error):
                    raise
            else:
                seen(job)
                now = time.monotonic()
                alone_since = (alone_since or now) if job.runner is None else None
                alone = alone_since is not None and now - alone_since > _GIVEN_UP_S
                if job.status in ENDED or given_up or alone:
                    return job
            await asyncio.sleep(pause_s)
