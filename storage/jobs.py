"""The ledger of bulk jobs: made, taken by one runner, filled with units, controlled, counted. Imports tables and errors only.

Whatever a runner stores goes through ``holding``: a runner that lost its job to another one can store nothing any more.
"""

import math
from typing import Any
from uuid import UUID

from sqlalchemy import case, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col

from storage.database import reading
from storage.errors import Conflict, InvalidInput, NotFound, StaleClaim
from storage.job_tables import Job, JobStatus
from storage.tables import columns_of

BACKFILL, REINDEX = "backfill", "reindex"
UNFINISHED = (JobStatus.WAITING, JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.CANCELLING, JobStatus.FAILED)
UNIT_SIZE = 16
"""Objects of a unit: small enough that little is lost with one, large enough to fill the networks' batches."""
SEGMENT_UNITS = 1024
_MAKING = 0x5AFE10B5
"""Advisory lock: two jobs are never made at the same moment, so none can overlap another unseen."""


def options(
    *, cpus: int, gpus: int, reads_per_s: float | None, niceness: int = 10, segment_units: int = SEGMENT_UNITS
) -> dict[str, Any]:
    """What a job may use.

    Args:
        cpus, gpus: of the cluster.
        reads_per_s: objects that it may ask the corpus for in a second; None is unlimited.
        niceness: of its processes, 0 to 19.
        segment_units: units that are indexed before the first of them is matched.
    Raises:
        InvalidInput: a rate that is not finite.
    """
    if reads_per_s is not None and not math.isfinite(reads_per_s):
        raise InvalidInput(f"reads_per_s must be a finite number, not {reads_per_s}", "reads_per_s")
    return {
        "cpus": cpus, "gpus": gpus, "reads_per_s": reads_per_s, "niceness": niceness, "unit_size": UNIT_SIZE,
        "segment_units": segment_units,
    }  # fmt: skip


def work_done(job: Job) -> float:
    """Objects that are through, those that are only indexed counted half."""
    return job.failed + (job.indexed + job.done) / 2


def per_second(job: Job) -> float:
    """Objects a second over all runs of a job; one that is only indexed counts half."""
    return work_done(job) / job.worked_s if job.worked_s else 0.0


def seconds_left(job: Job) -> float | None:
    """Expected seconds until the end; None while nothing is known."""
    rate = per_second(job)
    return (job.objects - work_done(job)) / rate if rate and job.listed else None


async def lock_making(connection: AsyncConnection) -> None:
    """For the rest of a transaction nobody else makes a job or revives one."""
    await connection.execute(select(func.pg_advisory_xact_lock(_MAKING)))


async def refuse_overlap(
    connection: AsyncConnection, kind: str, source: str, model_name: str, *, but: int | None = None
) -> None:
    """Makes sure that no unfinished job works on some of the same objects; the caller holds ``lock_making``.

    Args:
        but: id of the job itself.
    Raises:
        Conflict: one does; the message names it.
    """
    same = func.starts_with(col(Job.source), source) | func.starts_with(source, col(Job.source))
    if kind == REINDEX:
        same = (col(Job.source) == source) & (col(Job.model_name) == model_name)
    overlapping = select(col(Job.id), col(Job.source), col(Job.status)).where(
        col(Job.status).in_(UNFINISHED), col(Job.kind) == kind, same, col(Job.id) != (but or 0)
    )
    other = (await connection.execute(overlapping.order_by(col(Job.id)))).first()
    if other is not None:
        raise Conflict(f"job {other.id} ({other.status}) already works on {other.source}; resume or cancel that one")


async def create(
    engine: AsyncEngine, *, source: str, model_name: str, options: dict[str, Any], created_by: str, kind: str = BACKFILL
) -> Job:
    """Makes a job that waits for a runner.

    Args:
        source: ``s3://bucket/prefix``; of a re-index ``name@version`` of the descriptor.
        options: kept for whoever runs it.
    Raises:
        Conflict: an unfinished job works on the same objects, or some of them; the message names it.
    """
    async with engine.begin() as connection:
        await lock_making(connection)
        await refuse_overlap(connection, kind, source, model_name)
        made = insert(Job).values(
            kind=kind, source=source, model_name=model_name, options=options, created_by=created_by,
            status=JobStatus.WAITING,
        )  # fmt: skip
        row = (await connection.execute(made.returning(*columns_of(Job)))).one()
    return Job(**row._mapping)


async def set_options(engine: AsyncEngine, job_id: int, wanted: dict[str, Any]) -> Job:
    """Changes what a job may use; a run that is under way keeps what it was given.

    Raises:
        NotFound: there is no such job.
    """
    async with engine.begin() as connection:
        await connection.execute(update(Job).where(col(Job.id) == job_id).values(options=wanted))
    return await get(engine, job_id)


async def get(engine: AsyncEngine, job_id: int) -> Job:
    """One job.

    Raises:
        NotFound: there is none.
    """
    async with reading(engine) as connection:
        row = (await connection.execute(select(*columns_of(Job)).where(col(Job.id) == job_id))).one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    return Job(**row._mapping)


async def newest(engine: AsyncEngine, kind: str, source: str, model_name: str) -> Job | None:
    """The newest job of a kind, source and model, ended or not, if there is one."""
    statement = select(*columns_of(Job)).where(
        col(Job.kind) == kind, col(Job.source) == source, col(Job.model_name) == model_name
    )
    async with reading(engine) as connection:
        row = (await connection.execute(statement.order_by(col(Job.id).desc()).limit(1))).one_or_none()
    return Job(**row._mapping) if row else None


async def listing(engine: AsyncEngine, *, after: int | None = None, limit: int = 100) -> list[Job]:
    """Jobs, newest first; ``after`` continues below an id."""
    statement = select(*columns_of(Job)).order_by(col(Job.id).desc()).limit(limit)
    if after is not None:
        statement = statement.where(col(Job.id) < after)
    async with reading(engine) as connection:
        return [Job(**row._mapping) for row in (await connection.execute(statement)).all()]


_TAKE = text("""
UPDATE job SET runner = gen_random_uuid(), runner_until = now() + make_interval(secs => :lease_s), message = NULL,
       started_at = coalesce(started_at, now()), finished_at = NULL,
       status = CASE status WHEN 'cancelling' THEN status ELSE 'running' END
WHERE id = :id AND status IN ('waiting', 'running', 'cancelling') AND (runner IS NULL OR runner_until < now())
RETURNING runner
""")

_KEEP = text("""
UPDATE job SET worked_s = worked_s + :worked_s, runner_until = now() + make_interval(secs => :lease_s)
WHERE id = :id AND runner = :token RETURNING status
""")


async def take(engine: AsyncEngine, job_id: int, *, lease_s: float) -> UUID:
    """Becomes the one runner of a job; from now on a former one can store nothing.

    Returns:
        The fencing token.
    Raises:
        NotFound: there is no such job.
        Conflict: somebody else runs it, or it is paused, failed, cancelled or done.
    """
    async with engine.begin() as connection:
        token: UUID | None = (await connection.execute(_TAKE, {"id": job_id, "lease_s": lease_s})).scalar_one_or_none()
    if token is None:
        job = await get(engine, job_id)
        running = job.status in (JobStatus.RUNNING, JobStatus.CANCELLING)
        raise Conflict(f"job {job_id} is run by another process" if running else f"job {job_id} is {job.status}")
    return token


async def keep(engine: AsyncEngine, job_id: int, token: UUID, *, lease_s: float, worked_s: float) -> JobStatus:
    """Extends the hold on a job and tells what is wanted of it.

    Args:
        worked_s: seconds since the last call, for the time that runners have worked.
    Returns:
        The status: a runner stops when it is ``paused``, and clears up when it is ``cancelling``.
    Raises:
        StaleClaim: another runner has taken over.
    """
    async with engine.begin() as connection:
        arguments = {"id": job_id, "token": token, "lease_s": lease_s, "worked_s": worked_s}
        status = (await connection.execute(_KEEP, arguments)).scalar_one_or_none()
    if status is None:
        raise StaleClaim(f"another process has taken over job {job_id}")
    return JobStatus(status)


async def abandoned(engine: AsyncEngine, job_id: int, *, after_s: float) -> bool:
    """Whether the process that ran a job has died and none has taken over.

    Args:
        after_s: seconds since the end of its hold by the database's clock, which all holds are given by.
    """
    statement = text(
        "SELECT status IN ('running', 'cancelling') AND runner_until < now() - make_interval(secs => :after_s)"
        " FROM job WHERE id = :id"
    )
    async with reading(engine) as connection:
        return bool((await connection.execute(statement, {"id": job_id, "after_s": after_s})).scalar())


async def let_go(engine: AsyncEngine, job_id: int, token: UUID, status: JobStatus | None, message: str | None) -> None:
    """Ends a run.

    Args:
        status: what the job becomes; None leaves it as it is (paused while it ran).
        message: for its reader.
    """
    values: dict[str, Any] = {"runner": None, "runner_until": None, "message": message}
    if status is not None:
        # A failure must not make a cancellation forgotten that came meanwhile.
        asked = (col(Job.status) == JobStatus.CANCELLING) & (status == JobStatus.FAILED)
        values["status"] = case((asked, JobStatus.CANCELLING), else_=status)
        if status in (JobStatus.DONE, JobStatus.CANCELLED, JobStatus.FAILED):
            values["finished_at"] = func.now()
    async with engine.begin() as connection:
        await connection.execute(update(Job).where(col(Job.id) == job_id, col(Job.runner) == token).values(**values))


async def holding(connection: AsyncConnection, job_id: int, token: UUID) -> Job:
    """Makes sure, for the rest of a transaction, that the job is still the caller's.

    Raises:
        StaleClaim: it is not.
    """
    statement = select(*columns_of(Job)).where(col(Job.id) == job_id, col(Job.runner) == token)
    row = (await connection.execute(statement.with_for_update())).one_or_none()
    if row is None:
        raise StaleClaim(f"another process has taken over job {job_id}")
    return Job(**row._mapping)


_CONTROL = {
    JobStatus.PAUSED: (JobStatus.WAITING, JobStatus.RUNNING),
    JobStatus.WAITING: (JobStatus.PAUSED, JobStatus.FAILED),
    JobStatus.CANCELLING: (JobStatus.WAITING, JobStatus.RUNNING, JobStatus.PAUSED, JobStatus.FAILED),
}
"""What may become what by request; a repeat of a request that holds already is no error."""


async def control(engine: AsyncEngine, job_id: int, wanted: JobStatus) -> Job:
    """Pauses (``paused``), resumes (``waiting``) or cancels (``cancelling``) a job.

    Raises:
        NotFound: there is no such job.
        Conflict: its status does not allow it.
    """
    allowed = _CONTROL[wanted]
    async with engine.begin() as connection:
        statement = select(*columns_of(Job)).where(col(Job.id) == job_id).with_for_update()
        row = (await connection.execute(statement)).one_or_none()
        if row is None:
            raise NotFound(f"there is no job {job_id}")
        same = {wanted, JobStatus.RUNNING} if wanted == JobStatus.WAITING else {wanted}
        if row.status not in same:
            if row.status not in allowed:
                raise Conflict(f"job {job_id} is {row.status}")
            await connection.execute(update(Job).where(col(Job.id) == job_id).values(status=wanted, message=None))
    return await get(engine, job_id)
