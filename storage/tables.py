"""The SQLModel tables: what PostgreSQL holds, with the indexes that keep the hot queries fast. Imports nothing of ours."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Text,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel


class Status(StrEnum):
    """Life of an image; FAILED is the one added to the document's three."""

    UPLOADED = "UPLOADED"
    PROCESSING = "PROCESSING"
    PROCESSED = "PROCESSED"
    FAILED = "FAILED"


class Relation(StrEnum):
    """What a match says: same bytes, same picture edited, same subject, or as an outside worker said."""

    EXACT = "exact"
    COPY = "copy"
    SEMANTIC = "semantic"
    EXTERNAL = "external"


def columns_of(model: type[SQLModel]) -> list[ColumnElement[Any]]:
    """All columns of a table, for a select that fills the model."""
    return list(SQLModel.metadata.tables[str(model.__tablename__)].columns)


def _timestamp(*, default_now: bool = False, nullable: bool = True) -> Any:
    return Column(DateTime(timezone=True), nullable=nullable, server_default=func.now() if default_now else None)


def _image_reference(name: str, *, primary_key: bool) -> Any:
    return Column(name, BigInteger, ForeignKey("image.id", ondelete="CASCADE"), primary_key=primary_key, nullable=False)


class Image(SQLModel, table=True):
    """One uploaded picture and, while it is PROCESSING, the claim on it.

    ``uploaded_at`` is set once the object is durable; only then may the row be claimed or listed.
    """

    __table_args__ = (
        CheckConstraint("status IN ('UPLOADED','PROCESSING','PROCESSED','FAILED')", name="image_status_known"),
        Index(
            "image_claim", "model_name", "id", postgresql_where=text("status = 'UPLOADED' AND uploaded_at IS NOT NULL")
        ),
        Index("image_lease", "lease_expires_at", postgresql_where=text("status = 'PROCESSING'")),
        Index("image_listing", "status", "id", postgresql_where=text("uploaded_at IS NOT NULL")),
        Index("image_unstored", "created_at", postgresql_where=text("uploaded_at IS NULL")),
        Index("image_sha256", "sha256"),
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(always=False), primary_key=True))
    name: str = Field(sa_column=Column(Text, nullable=False))
    status: str = Field(default=Status.UPLOADED, sa_column=Column(Text, nullable=False))
    model_name: str = Field(sa_column=Column(Text, nullable=False))
    s3_path: str = Field(sa_column=Column(Text, nullable=False, unique=True))
    sha256: bytes = Field(description="32 bytes of the file as sent")
    size_bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    media_type: str = Field(sa_column=Column(Text, nullable=False))
    width: int
    height: int
    created_at: datetime = Field(default=None, sa_column=_timestamp(default_now=True, nullable=False))
    uploaded_at: datetime | None = Field(default=None, sa_column=_timestamp())
    processed_at: datetime | None = Field(default=None, sa_column=_timestamp())
    attempt: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    not_before: datetime | None = Field(default=None, sa_column=_timestamp())
    lease_token: UUID | None = None
    lease_expires_at: datetime | None = Field(default=None, sa_column=_timestamp())
    finished_token: UUID | None = Field(
        default=None, description="the token whose result was stored: makes a repeat answerable"
    )
    failure: str | None = Field(default=None, sa_column=Column(Text))
    etag: str | None = Field(
        default=None,
        sa_column=Column(Text),
        description="of an object that stays in a corpus (s3_path s3://bucket/key)",
    )


class Detection(SQLModel, table=True):
    """One person or object in an image; the box is in pixels of the picture as displayed (EXIF orientation applied)."""

    image_id: int = Field(sa_column=_image_reference("image_id", primary_key=True))
    ordinal: int = Field(primary_key=True, description="0 is the surest")
    label: str
    score: float
    x0: float
    y0: float
    x1: float
    y1: float
    model: str = Field(description="detector name@version")


class ContentScore(SQLModel, table=True):
    """How unsafe a filter holds an image to be, 0 to 1; the verdict is a later policy's."""

    __tablename__ = "content_score"

    image_id: int = Field(sa_column=_image_reference("image_id", primary_key=True))
    model: str = Field(primary_key=True, description="filter name@version")
    score: float


class ImageMatch(SQLModel, table=True):
    """An undirected link between two images (image_a < image_b) with the evidence for it.

    Each descriptor that a model is written with has links of its own; ``storage.images`` shows those of the live one.
    """

    __tablename__ = "image_match"
    __table_args__ = (
        CheckConstraint("image_a < image_b", name="image_match_ordered"),
        Index("image_match_reverse", "image_b", "image_a", "descriptor"),
    )

    image_a: int = Field(sa_column=_image_reference("image_a", primary_key=True))
    image_b: int = Field(sa_column=_image_reference("image_b", primary_key=True))
    descriptor: str = Field(
        default="",
        sa_column=Column(Text, primary_key=True, nullable=False, server_default=""),
        description="name@version of the descriptor of the cascade; empty: holds whatever the descriptor",
    )
    relation: str
    method: str = Field(description="sha256, pdq, descriptor, shape, geometry, semantic or external")
    score: float = Field(description="0 to 1, 1 is the same")
    threshold: float = Field(description="the score the link had to reach, on the same scale")
    evidence: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    created_at: datetime = Field(default=None, sa_column=_timestamp(default_now=True, nullable=False))


class Generation(SQLModel, table=True):
    """A descriptor that the pictures of a model are written with. At most two of a model, and one of each state."""

    __table_args__ = (
        CheckConstraint("state IN ('live','building','previous')", name="generation_state_known"),
        Index("generation_other", "model_name", unique=True, postgresql_where=text("state <> 'live'")),
    )

    model_name: str = Field(sa_column=Column(Text, primary_key=True))
    state: str = Field(
        sa_column=Column(Text, primary_key=True),
        description="live (searched and shown), building (to be live) or previous (was live; one can go back)",
    )
    descriptor: str = Field(sa_column=Column(Text, nullable=False), description="name@version")
    changed_at: datetime = Field(default=None, sa_column=_timestamp(default_now=True, nullable=False))
    held_up: str | None = Field(
        default=None, sa_column=Column(Text), description="why uploads wait for it, though the live one works"
    )


class Calibration(SQLModel, table=True):
    """A threshold measured on the user's own pictures.

    At most one of each mode but ``past`` for a model, its networks and a relation.
    """

    __table_args__ = (
        CheckConstraint("mode IN ('active','shadow','past')", name="calibration_mode_known"),
        Index(
            "calibration_current", "model_name", "networks", "relation", "mode", unique=True,
            postgresql_where=text("mode <> 'past'"),
        ),
    )  # fmt: skip

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(always=False), primary_key=True))
    created_at: datetime = Field(default=None, sa_column=_timestamp(default_now=True, nullable=False))
    model_name: str = Field(sa_column=Column(Text, nullable=False))
    networks: str = Field(
        sa_column=Column(Text, nullable=False), description="descriptors it was measured with; void for others"
    )
    relation: str = Field(sa_column=Column(Text, nullable=False))
    mode: str = Field(sa_column=Column(Text, nullable=False), description="active, shadow (only counted) or past")
    threshold: float
    wanted_precision: float
    precision: float = Field(description="measured at the threshold")
    recall: float = Field(description="expected: measured at the threshold")
    pictures: int
    queries: int
    would_add: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    would_drop: int = Field(default=0, sa_column_kwargs={"server_default": "0"})


class IndexMeasurement(SQLModel, table=True):
    """The approximate index of one vector table as it was last built, and the recall that it had then."""

    __tablename__ = "index_measurement"

    space: str = Field(sa_column=Column(Text, primary_key=True), description="descriptor name@version")
    kind: str
    rows: int = Field(sa_column=Column(BigInteger, nullable=False))
    build_s: float
    recall_at_10: float = Field(description="against exact search, over a sample of stored vectors")
    sample: int
    measured_at: datetime = Field(default=None, sa_column=_timestamp(default_now=True, nullable=False))


class ApiKey(SQLModel, table=True):
    """A caller's key. Only its SHA-256 is stored: the key itself has 256 random bits, so a slow hash adds nothing."""

    __tablename__ = "api_key"

    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(always=False), primary_key=True))
    name: str = Field(unique=True)
    hash: bytes = Field(unique=True)
    scopes: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    rate_limit: int | None = Field(default=None, description="requests a minute; None is unlimited")
    created_at: datetime = Field(default=None, sa_column=_timestamp(default_now=True, nullable=False))
    expires_at: datetime | None = Field(default=None, sa_column=_timestamp())
    revoked_at: datetime | None = Field(default=None, sa_column=_timestamp())


class RateWindow(SQLModel, table=True):
    """Requests of one key in one minute."""

    __tablename__ = "rate_window"

    key_id: int = Field(
        sa_column=Column("key_id", BigInteger, ForeignKey("api_key.id", ondelete="CASCADE"), primary_key=True)
    )
    minute: datetime = Field(sa_column=Column(DateTime(timezone=True), primary_key=True))
    requests: int


class IdempotencyRecord(SQLModel, table=True):
    """The first answer to an Idempotency-Key of one API key."""

    __tablename__ = "idempotency"

    key_id: int = Field(
        sa_column=Column("key_id", BigInteger, ForeignKey("api_key.id", ondelete="CASCADE"), primary_key=True)
    )
    idempotency_key: str = Field(primary_key=True)
    image_id: int = Field(sa_column=_image_reference("image_id", primary_key=False))
    request_hash: bytes = Field(
        description="SHA-256 over name, model_name and file: the key may not be reused for another request"
    )
    created_at: datetime = Field(default=None, sa_column=_timestamp(default_now=True, nullable=False))


class QueuePoll(SQLModel, table=True):
    """When a queue was last asked for work: shows misspelt names."""

    __tablename__ = "queue_poll"

    model_name: str = Field(primary_key=True)
    last_polled_at: datetime = Field(sa_column=_timestamp(nullable=False))


class WriterFence(SQLModel, table=True):
    """Who may write vectors: only the holder of the newest epoch."""

    __tablename__ = "writer_fence"

    name: str = Field(primary_key=True)
    epoch: int = Field(sa_column=Column(BigInteger, nullable=False))
    holder: str


class AuditEntry(SQLModel, table=True):
    """What was done, by whom; survives the deletion of its subject. Written by ``storage.audit`` only, never changed."""

    __tablename__ = "audit"
    __table_args__ = (
        CheckConstraint("octet_length(previous_hash) = 32 AND octet_length(hash) = 32", name="audit_hashes_whole"),
        Index("audit_subject", "subject", "sequence"),
        Index("audit_action", "action", "sequence"),
    )

    sequence: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    at: datetime = Field(sa_column=_timestamp(nullable=False))
    actor: str
    action: str
    subject: str
    detail: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False))
    previous_hash: bytes
    hash: bytes
