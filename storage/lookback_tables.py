"""The SQLModel table of look-backs: work over past images that follows a change of banks or policies."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from storage.columns import moment, number


class LookBackKind(StrEnum):
    """What past images are looked at for."""

    MEMBERS = "members"
    BANK = "bank"
    JUDGE = "judge"


class LookBackState(StrEnum):
    """Life of a look-back; DEAD: given up after its last attempt, with a reason."""

    WAITING = "waiting"
    DONE = "done"
    DEAD = "dead"
    CANCELLED = "cancelled"


class LookBack(SQLModel, table=True):
    """One look-back: worked off in small steps under a lease, each of which moves ``cursor`` in the transaction it ends in."""

    __tablename__ = "look_back"
    __table_args__ = (
        CheckConstraint("kind IN ('members','bank','judge')", name="look_back_kind_known"),
        CheckConstraint("state IN ('waiting','done','dead','cancelled')", name="look_back_state_known"),
        Index("look_back_waiting", "id", postgresql_where=text("state = 'waiting'")),
        Index("look_back_dead", "id", postgresql_where=text("state = 'dead'")),
    )

    id: int | None = Field(default=None, sa_column=number())
    kind: str = Field(sa_column=Column(Text, nullable=False))
    state: str = Field(default=LookBackState.WAITING, sa_column=Column(Text, nullable=False, server_default="waiting"))
    bank_id: int | None = Field(default=None, sa_column=Column(BigInteger))
    first_member: int | None = Field(default=None, sa_column=Column(BigInteger))
    last_member: int | None = Field(default=None, sa_column=Column(BigInteger), description="the last one included")
    cause: str = Field(sa_column=Column(Text, nullable=False), description="for people: what it follows from")
    created_at: datetime = Field(default=None, sa_column=moment(now=True))
    created_by: str = Field(sa_column=Column(Text, nullable=False))
    cursor: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False, server_default="{}"))
    members_done: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    images_done: int = Field(
        default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"), description="judged anew"
    )
    verdicts_changed: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    members: int | None = Field(
        default=None, sa_column=Column(BigInteger), description="to search for; None: not yet counted"
    )
    skipped: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default="0"))
    skips: list[str] = Field(
        sa_column=Column(JSONB, nullable=False, server_default="[]"),
        description="why members were skipped, the first few",
    )
    worked_s: float = Field(default=0.0, sa_column_kwargs={"server_default": "0"}, description="seconds of all steps")
    worked_at: datetime | None = Field(default=None, sa_column=moment(), description="last claim: they take turns")
    attempt: int = Field(default=0, sa_column_kwargs={"server_default": "0"}, description="claims since the last step")
    not_before: datetime | None = Field(default=None, sa_column=moment())
    lease_token: UUID | None = None
    lease_expires_at: datetime | None = Field(default=None, sa_column=moment())
    finished_at: datetime | None = Field(default=None, sa_column=moment())
    failure: str | None = Field(default=None, sa_column=Column(Text))
