"""Trials: a worker says what it is about to look at, so that whoever comes after its death knows. Imports tables and errors only.

A part that is begun while another worker has not ended it has cost that worker its life, and counts one death more.
"""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import delete, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col

from storage.errors import StaleClaim
from storage.job_tables import JobTrial

PLAIN = -1
"""In place of a unit's number: a plain picture, which kills a worker only if every picture does."""


@dataclass(frozen=True)
class Part:
    """Some pictures of a unit, one after another, in one stage of the work."""

    job_id: int
    number: int
    stage: str
    first: int
    size: int


_KEY = "job_id = :job_id AND number = :number AND stage = :stage AND first = :first AND size = :size"
_BEGIN = text("""
INSERT INTO job_trial AS held (job_id, number, stage, first, size, worker, runner)
SELECT :job_id, :number, :stage, :first, :size, :worker, :token FROM job WHERE id = :job_id AND runner = :token
ON CONFLICT (job_id, number, stage, first, size) DO UPDATE SET
    deaths = held.deaths + (held.worker IS NOT NULL AND held.worker <> excluded.worker)::int,
    worker = excluded.worker, runner = excluded.runner
RETURNING deaths
""")
_FORGET = text(f"DELETE FROM job_trial WHERE {_KEY} AND worker = :worker AND deaths = 0")
_END = text(f"UPDATE job_trial SET worker = NULL WHERE {_KEY} AND worker = :worker")
_SPARE = text("UPDATE job_trial SET worker = NULL WHERE job_id = :job_id AND runner = :token")


async def begin(engine: AsyncEngine, part: Part, token: UUID, worker: UUID) -> int:
    """Says that a worker is about to look at a part.

    Args:
        token: of the job's runner.
        worker: one id for each process.
    Returns:
        How many workers have died while they looked at it.
    Raises:
        StaleClaim: another runner has taken over the job.
    """
    async with engine.begin() as connection:
        arguments = vars(part) | {"token": token, "worker": worker}
        deaths = (await connection.execute(_BEGIN, arguments)).scalar_one_or_none()
    if deaths is None:
        raise StaleClaim(f"another process has taken over job {part.job_id}")
    return int(deaths)


async def end(engine: AsyncEngine, part: Part, worker: UUID) -> None:
    """Says that a worker has survived a part; the deaths of others are kept until the unit is stored."""
    async with engine.begin() as connection:
        for statement in (_FORGET, _END):
            await connection.execute(statement, vars(part) | {"worker": worker})


async def spare(engine: AsyncEngine, job_id: int, token: UUID) -> None:
    """Ends all trials of a run that has ended: its workers were stopped, which is no picture's fault."""
    async with engine.begin() as connection:
        await connection.execute(_SPARE, {"job_id": job_id, "token": token})


async def forget_plain(engine: AsyncEngine, job_id: int) -> None:
    """A new run may have workers that a plain picture does not kill any more."""
    async with engine.begin() as connection:
        gone = delete(JobTrial).where(col(JobTrial.job_id) == job_id, col(JobTrial.number) == PLAIN)
        await connection.execute(gone)
