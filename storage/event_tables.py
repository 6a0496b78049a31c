"""The tables of the transactional outbox: events, the webhooks that want them, and the deliveries."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel

from storage.columns import moment, number


class DeliveryState(StrEnum):
    """Life of a delivery: waiting (to be sent, or being sent), delivered, or dead (given up; it can be replayed)."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"


class Event(SQLModel, table=True):
    """Something that has happened. Written in the transaction that made it happen; outlives the image."""

    __table_args__ = (Index("event_created", "created_at"),)

    id: int | None = Field(default=None, sa_column=number())
    type: str = Field(sa_column=Column(Text, nullable=False), description="of storage.outbox.EventType")
    image_id: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))
    data: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    created_at: datetime = Field(default=None, sa_column=moment(now=True))


class Webhook(SQLModel, table=True):
    """An address that wants events. The secrets are needed to sign, so they are stored as they are, and never shown."""

    id: int | None = Field(default=None, sa_column=number())
    url: str = Field(sa_column=Column(Text, nullable=False))
    description: str = Field(default="", sa_column=Column(Text, nullable=False, server_default=""))
    types: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False), description="wanted; empty: all")
    enabled: bool = Field(default=True, sa_column_kwargs={"server_default": "true"})
    secret: str = Field(
        sa_column=Column(Text, nullable=False), repr=False, description="whsec_ and base64 of random bytes"
    )
    old_secret: str | None = Field(default=None, sa_column=Column(Text), repr=False)
    old_secret_until: datetime | None = Field(
        default=None, sa_column=moment(), description="until then the secret before the last rotation signs too"
    )
    created_by: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime = Field(default=None, sa_column=moment(now=True))
    failures: int = Field(default=0, sa_column_kwargs={"server_default": "0"}, description="tries since a success")
    failing_since: datetime | None = Field(default=None, sa_column=moment())
    last_error: str | None = Field(default=None, sa_column=Column(Text))
    last_success_at: datetime | None = Field(default=None, sa_column=moment())
    paused_until: datetime | None = Field(
        default=None, sa_column=moment(), description="nothing is sent before: it has failed several times in a row"
    )
    disabled_reason: str | None = Field(default=None, sa_column=Column(Text))


class Delivery(SQLModel, table=True):
    """One event on its way to one webhook; the earliest waiting one of an image and webhook goes first.

    ``lease_token`` is the fencing token of the try under way; ``due_at`` is then the end of its lease.
    """

    __table_args__ = (
        CheckConstraint("state IN ('waiting','delivered','dead')", name="delivery_state_known"),
        Index("delivery_listing", "webhook_id", "state", "event_id"),
        Index("delivery_due", "webhook_id", "due_at", "event_id", postgresql_where=text("state = 'waiting'")),
        Index("delivery_begun", "begun_at", postgresql_where=text("state = 'waiting'")),
        Index("delivery_order", "webhook_id", "image_id", "event_id", postgresql_where=text("state = 'waiting'")),
    )

    event_id: int = Field(
        sa_column=Column("event_id", BigInteger, ForeignKey("event.id", ondelete="CASCADE"), primary_key=True)
    )
    webhook_id: int = Field(
        sa_column=Column("webhook_id", BigInteger, ForeignKey("webhook.id", ondelete="CASCADE"), primary_key=True)
    )
    image_id: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))
    state: str = Field(default=DeliveryState.WAITING, sa_column=Column(Text, nullable=False, server_default="waiting"))
    attempt: int = Field(default=0, sa_column_kwargs={"server_default": "0"}, description="tries so far")
    due_at: datetime = Field(default=None, sa_column=moment(now=True))
    begun_at: datetime = Field(
        default=None, sa_column=moment(now=True), description="when it was first wanted, or replayed last"
    )
    delivered_at: datetime | None = Field(default=None, sa_column=moment())
    lease_token: UUID | None = None
    last_status: int | None = Field(default=None, description="HTTP status of the last answer")
    last_error: str | None = Field(default=None, sa_column=Column(Text))
