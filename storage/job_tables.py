"""The tables of the ledger of bulk jobs: jobs, their small idempotent units, and what could not be done. Imports tables only."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, ForeignKey, Identity, Index, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel


class JobStatus(StrEnum):
    """Life of a job. A job that waits, is paused or has failed can be resumed; cancelled and done are ends."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    DONE = "done"
    FAILED = "failed"


class UnitState(StrEnum):
    """Life of a unit: its vectors and rows are stored together, then its links."""

    WAITING = "waiting"
    INDEXED = "indexed"
    DONE = "done"


class Job(SQLModel, table=True):
    """One bulk job. The counters change in the transactions of the units, so they are exact after any crash.

    ``runner`` is the fencing token of the one process that may work on it, until ``runner_until``.
    """

    __table_args__ = (
        CheckConstraint(
            "status IN ('waiting','running','paused','cancelling','cancelled','done','failed')",
            name="job_status_known",
        ),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(always=False), primary_key=True))
    kind: str = Field(sa_column=Column(Text, nullable=False), description="backfill or reindex")
    status: str = Field(default=JobStatus.WAITING, sa_column=Column(Text, nullable=False, server_default="waiting"))
    source: str = Field(
        sa_column=Column(Text, nullable=False), description="s3://bucket/prefix; the descriptor of a re-index"
    )
    model_name: str = Field(sa_column=Column(Text, nullable=False))
    options: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    created_by: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime = Field(
        default=None, sa_column=Column(DateTime(timezone=True), nullable=False, server_default=func.now())
    )
    started_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True)))
    finished_at: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True)))
    listed: bool = Field(
        default=False,
        sa_column_kwargs={"server_default": "false"},
        description="the ledger holds the whole corpus; before that no unit is worked on",
    )
    units: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    objects: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    skipped: int = Field(
        default=0,
        sa_column=Column(BigInteger, nullable=False, server_default="0"),
        description="objects that were indexed before and have not changed",
    )
    indexed: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    done: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    failed: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    worked_s: float = Field(
        default=0.0, sa_column_kwargs={"server_default": "0"}, description="time that runners have worked, seconds"
    )
    message: str | None = Field(default=None, sa_column=Column(Text))
    runner: UUID | None = None
    runner_until: datetime | None = Field(default=None, sa_column=Column(DateTime(timezone=True)))


class JobUnit(SQLModel, table=True):
    """A few objects that are worked off together. The arrays have one element for each object.

    When it is done, only ``image_ids`` is kept: 100 million addresses would be a large part of the database.
    """

    __tablename__ = "job_unit"
    __table_args__ = (
        CheckConstraint("state IN ('waiting','indexed','done')", name="job_unit_state_known"),
        Index("job_unit_left", "job_id", "number", postgresql_where=text("state <> 'done'")),
    )

    job_id: int = Field(
        sa_column=Column("job_id", BigInteger, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    )
    number: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    state: str = Field(default=UnitState.WAITING, sa_column=Column(Text, nullable=False, server_default="waiting"))
    attempt: int = Field(
        default=0, sa_column_kwargs={"server_default": "0"}, description="times its vectors were begun to be written"
    )
    replaces: bool = Field(
        default=False,
        sa_column_kwargs={"server_default": "false"},
        description="some of its images exist, so their vectors are replaced",
    )
    image_ids: list[int] = Field(sa_column=Column(ARRAY(BigInteger), nullable=False))
    paths: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False), description="s3://bucket/key")
    etags: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    sizes: list[int] = Field(
        sa_column=Column(ARRAY(BigInteger), nullable=False), description="bytes; -1: not known, asked for again"
    )


class JobFailure(SQLModel, table=True):
    """An object that a job could not make an image of, and why."""

    __tablename__ = "job_failure"

    job_id: int = Field(
        sa_column=Column("job_id", BigInteger, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    )
    image_id: int = Field(
        sa_column=Column(BigInteger, primary_key=True, autoincrement=False), description="the id it would have had"
    )
    path: str = Field(sa_column=Column(Text, nullable=False))
    etag: str = Field(sa_column=Column(Text, nullable=False))
    size: int = Field(sa_column=Column(BigInteger, nullable=False))
    reason: str = Field(sa_column=Column(Text, nullable=False))
    at: datetime = Field(
        default=None, sa_column=Column(DateTime(timezone=True), nullable=False, server_default=func.now())
    )


class JobTrial(SQLModel, table=True):
    """A part of a unit that a worker process looks at, or has died with. Gone when the unit is stored."""

    __tablename__ = "job_trial"

    job_id: int = Field(
        sa_column=Column("job_id", BigInteger, ForeignKey("job.id", ondelete="CASCADE"), primary_key=True)
    )
    number: int = Field(
        sa_column=Column(BigInteger, primary_key=True, autoincrement=False), description="of the unit; -1: a plain one"
    )
    stage: str = Field(sa_column=Column(Text, primary_key=True), description="reading or describing")
    first: int = Field(sa_column_kwargs={"autoincrement": False}, primary_key=True, description="place in the unit")
    size: int = Field(sa_column_kwargs={"autoincrement": False}, primary_key=True, description="pictures of the part")
    deaths: int = Field(default=0, sa_column_kwargs={"server_default": "0"}, description="of workers that looked at it")
    worker: UUID | None = Field(default=None, description="the process that looks at it now")
    runner: UUID | None = Field(default=None, description="the run it belongs to")
