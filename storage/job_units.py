"""The units of a bulk job: listed, asked for, tried again. Imports tables, jobs and errors only."""

from collections.abc import Container, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import col

from storage.corpus import CorpusObject
from storage.database import reading
from storage.errors import Conflict, NotFound
from storage.job_tables import Job, JobFailure, JobStatus, JobUnit, UnitState
from storage.jobs import BACKFILL, get, holding, lock_making, refuse_overlap
from storage.tables import Status, columns_of

_RESTING = (JobStatus.WAITING, JobStatus.PAUSED, JobStatus.FAILED, JobStatus.DONE)


async def begin_listing(engine: AsyncEngine, job_id: int, token: UUID) -> None:
    """Empties the ledger: a listing that was broken off begins anew, so nothing rests on the order of the object store.

    Raises:
        StaleClaim: another runner has taken over.
    """
    async with engine.begin() as connection:
        await holding(connection, job_id, token)
        await connection.execute(text("DELETE FROM job_unit WHERE job_id = :id"), {"id": job_id})
        values = {"units": 0, "objects": 0, "skipped": 0, "listed": False}
        await connection.execute(update(Job).where(col(Job.id) == job_id).values(**values))


async def add_listed(
    engine: AsyncEngine,
    job_id: int,
    token: UUID,
    found: Sequence[CorpusObject],
    *,
    unit_size: int,
    at: int | None = None,
) -> int:
    """Puts objects into the ledger, in their order; those that are indexed already and have not changed are only counted.

    Args:
        at: objects that were listed before, so that a repeat of a call whose answer was lost changes nothing.
    Returns:
        Objects listed so far.
    Raises:
        StaleClaim: another runner has taken over.
    """
    async with engine.begin() as connection:
        job = await holding(connection, job_id, token)
        listed = job.objects + job.skipped
        if at is not None and listed != at:
            return listed
        rows, known = await _resolved(connection, found)
        await _insert_units(connection, job, rows, unit_size, known)
        values = {
            "units": job.units + -(-len(rows) // unit_size),
            "objects": job.objects + len(rows),
            "skipped": job.skipped + len(found) - len(rows),
        }
        await connection.execute(update(Job).where(col(Job.id) == job_id).values(**values))
    return listed + len(found)


async def _resolved(
    connection: AsyncConnection, found: Sequence[CorpusObject]
) -> tuple[list[tuple[int, CorpusObject]], set[str]]:
    """Objects that are to be indexed with the ids of their images, and the paths of those whose image exists."""
    statement = text("SELECT id, s3_path, etag, status FROM image WHERE s3_path = ANY(CAST(:paths AS text[]))")
    known = {row.s3_path: row for row in await connection.execute(statement, {"paths": [one.path for one in found]})}
    fresh = [one for one in found if one.path not in known or not _unchanged(known[one.path], one)]
    ids = iter(await _new_ids(connection, sum(one.path not in known for one in fresh)))
    return [(known[one.path].id if one.path in known else next(ids), one) for one in fresh], set(known)


async def end_listing(engine: AsyncEngine, job_id: int, token: UUID) -> None:
    """Says that the ledger holds the whole corpus.

    Raises:
        StaleClaim: another runner has taken over.
    """
    async with engine.begin() as connection:
        await holding(connection, job_id, token)
        await connection.execute(update(Job).where(col(Job.id) == job_id).values(listed=True))


def _unchanged(row: Any, found: CorpusObject) -> bool:
    return bool(row.etag == found.etag and row.status == Status.PROCESSED)


async def list_images(
    engine: AsyncEngine, job_id: int, token: UUID, *, model_name: str, after: int, unit_size: int, limit: int = 4096
) -> int | None:
    """Puts the next PROCESSED images of a model into the ledger, by id.

    Args:
        after: only ids above this one, those below are in the ledger.
        limit: a multiple of the unit size.
    Returns:
        The last id; None when there are no more.
    Raises:
        StaleClaim: another runner has taken over.
    """
    statement = text(
        "SELECT id, s3_path, etag, size_bytes FROM image WHERE status = 'PROCESSED' AND uploaded_at IS NOT NULL"
        " AND model_name = :model AND id > :after ORDER BY id LIMIT :limit"
    )
    newest = text(
        "SELECT max(image_ids[array_upper(image_ids, 1)]) FROM job_unit WHERE job_id = :id AND number = :number"
    )
    async with engine.begin() as connection:
        job = await holding(connection, job_id, token)
        listed = (await connection.execute(newest, {"id": job_id, "number": job.units - 1})).scalar()
        if listed is not None and int(listed) > after:
            return int(listed)  # a repeat of a call whose answer was lost
        arguments = {"model": model_name, "after": after, "limit": limit}
        found = (await connection.execute(statement, arguments)).all()
        rows = [(row.id, CorpusObject(row.s3_path, row.etag or "", row.size_bytes)) for row in found]
        await _insert_units(connection, job, rows, unit_size, {one.path for _, one in rows})
        values = {"units": job.units + -(-len(rows) // unit_size), "objects": job.objects + len(rows)}
        await connection.execute(update(Job).where(col(Job.id) == job_id).values(**values))
    return found[-1].id if found else None


async def _new_ids(connection: AsyncConnection, count: int) -> list[int]:
    statement = text("SELECT nextval(pg_get_serial_sequence('image', 'id')) FROM generate_series(1, :count)")
    return sorted((await connection.execute(statement, {"count": count})).scalars())


async def _insert_units(
    connection: AsyncConnection,
    job: Job,
    rows: Sequence[tuple[int, CorpusObject]],
    unit_size: int,
    existing: Container[str],
) -> None:
    units = [
        {
            "job_id": job.id,
            "number": job.units + number,
            "replaces": any(one.path in existing for _, one in part),
            "image_ids": [image_id for image_id, _ in part],
            "paths": [one.path for _, one in part],
            "etags": [one.etag for _, one in part],
            "sizes": [one.size for _, one in part],
        }
        for number, part in enumerate(rows[start : start + unit_size] for start in range(0, len(rows), unit_size))
    ]
    if units:
        await connection.execute(insert(JobUnit), units)


async def first_left(engine: AsyncEngine, job_id: int) -> int | None:
    """The number of the first unit that is not done, None if all are."""
    statement = text("SELECT min(number) FROM job_unit WHERE job_id = :id AND state <> 'done'")
    async with reading(engine) as connection:
        number = (await connection.execute(statement, {"id": job_id})).scalar_one()
    return None if number is None else int(number)


async def numbers(engine: AsyncEngine, job_id: int, state: UnitState, first: int, end: int) -> list[int]:
    """Numbers of the units in one state from ``first`` to below ``end``."""
    statement = (
        select(col(JobUnit.number))
        .where(
            col(JobUnit.job_id) == job_id,
            col(JobUnit.number) >= first,
            col(JobUnit.number) < end,
            col(JobUnit.state) == state,
            col(JobUnit.state) != UnitState.DONE,
        )
        .order_by(col(JobUnit.number))
    )
    async with reading(engine) as connection:
        return list((await connection.execute(statement)).scalars())


async def units(engine: AsyncEngine, job_id: int, wanted: Sequence[int]) -> list[JobUnit]:
    """Units by number."""
    statement = select(*columns_of(JobUnit)).where(col(JobUnit.job_id) == job_id, col(JobUnit.number).in_(wanted))
    async with reading(engine) as connection:
        found = (await connection.execute(statement.order_by(col(JobUnit.number)))).all()
    return [JobUnit(**row._mapping) for row in found]


async def failures(engine: AsyncEngine, job_id: int, *, after: int = 0, limit: int = 1000) -> list[JobFailure]:
    """Objects that could not be indexed, by id.

    Raises:
        NotFound: there is no such job.
    """
    await get(engine, job_id)
    statement = select(*columns_of(JobFailure)).where(
        col(JobFailure.job_id) == job_id, col(JobFailure.image_id) > after
    )
    async with reading(engine) as connection:
        rows = (await connection.execute(statement.order_by(col(JobFailure.image_id)).limit(limit))).all()
    return [JobFailure(**row._mapping) for row in rows]


async def retry(engine: AsyncEngine, job_id: int, *, unit_size: int, page: int = 4096) -> int:
    """Puts the failed objects of a job that has ended, or rests, into new units; it waits for a runner then.

    Size and ETag are asked for again; objects that another job has indexed meanwhile are left out.

    Returns:
        How many.
    Raises:
        NotFound: there is no such job.
        Conflict: it runs now, was cancelled, or another unfinished job works on the same objects.
    """
    count = 0
    while True:
        async with engine.begin() as connection:
            job = await _resting(connection, job_id)
            taken = text(
                "DELETE FROM job_failure WHERE (job_id, image_id) IN (SELECT job_id, image_id FROM job_failure"
                " WHERE job_id = :id ORDER BY image_id LIMIT :page) RETURNING image_id, path"
            )
            failed = sorted((await connection.execute(taken, {"id": job_id, "page": page})).all())
            if not failed:
                return count
            objects = [CorpusObject(row.path, "", -1) for row in failed]
            rows, known = [(row.image_id, one) for row, one in zip(failed, objects, strict=True)], set[str]()
            if job.kind == BACKFILL:
                rows, known = await _resolved(connection, objects)
            else:
                known = {one.path for one in objects}
            await _insert_units(connection, job, rows, unit_size, known)
            values = {
                "units": job.units + -(-len(rows) // unit_size),
                "failed": job.failed - len(failed),
                "status": JobStatus.WAITING,
                "finished_at": None,
                "message": None,
            }
            await connection.execute(update(Job).where(col(Job.id) == job_id).values(**values))
            count += len(rows)


async def _resting(connection: AsyncConnection, job_id: int) -> Job:
    """A job that may be changed from outside, for the rest of the transaction."""
    await lock_making(connection)
    row = (
        await connection.execute(select(*columns_of(Job)).where(col(Job.id) == job_id).with_for_update())
    ).one_or_none()
    if row is None:
        raise NotFound(f"there is no job {job_id}")
    job = Job(**row._mapping)
    if job.runner is not None or job.status not in _RESTING:
        raise Conflict(f"job {job_id} is {job.status}; pause it first or wait for its end")
    await refuse_overlap(connection, job.kind, job.source, job.model_name, but=job_id)
    return job
