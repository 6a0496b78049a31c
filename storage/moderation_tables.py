"""The SQLModel tables of the content filter: banks and their members, policies, decisions, the state of each image."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel

from storage.columns import moment, number


class Bank(SQLModel, table=True):
    """A named collection of reference pictures: unacceptable ones, or ones that are explicitly allowed."""

    __table_args__ = (
        CheckConstraint("kind IN ('unacceptable','allowed')", name="bank_kind_known"),
        Index("bank_name", "name", unique=True, postgresql_where=text("removed_at IS NULL")),
    )

    id: int | None = Field(default=None, sa_column=number())
    name: str = Field(sa_column=Column(Text, nullable=False))
    kind: str = Field(sa_column=Column(Text, nullable=False), description="see configs.facts.BankKind")
    description: str = Field(default="", sa_column=Column(Text, nullable=False, server_default=""))
    enabled: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    disabled_until: datetime | None = Field(
        default=None, sa_column=moment(), description="in force again from then on; only where enabled is false"
    )
    relations: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False), description="that count as a match")
    pdq_distance: int = Field(description="Hamming bits of 256, for members that are PDQ hashes")
    copy_score: float | None = Field(default=None, description="least score of a copy; None: the threshold of the link")
    semantic_score: float | None = Field(default=None, description="least score of a semantic match; None: that of it")
    created_at: datetime = Field(default=None, sa_column=moment(now=True))
    created_by: str = Field(sa_column=Column(Text, nullable=False))
    removed_at: datetime | None = Field(
        default=None,
        sa_column=moment(),
        description="not in force any more; the row goes when its look-back has ended",
    )


class BankMember(SQLModel, table=True):
    """One reference: a stored image, or a hash (PDQ, SHA-256 or both) without the picture."""

    __tablename__ = "bank_member"
    __table_args__ = (
        CheckConstraint("image_id IS NOT NULL OR pdq IS NOT NULL OR sha256 IS NOT NULL", name="bank_member_something"),
        CheckConstraint("image_id IS NULL OR (pdq IS NULL AND sha256 IS NULL)", name="bank_member_one_form"),
        CheckConstraint("octet_length(pdq) = 32", name="bank_member_pdq_length"),
        CheckConstraint("octet_length(sha256) = 32", name="bank_member_sha256_length"),
        UniqueConstraint(
            "bank_id", "image_id", "pdq", "sha256", name="bank_member_once", postgresql_nulls_not_distinct=True
        ),
        Index("bank_member_by_image", "image_id", postgresql_where=text("image_id IS NOT NULL")),
        Index("bank_member_by_sha256", "sha256", postgresql_where=text("sha256 IS NOT NULL")),
        Index("bank_member_listing", "bank_id", "id"),
    )  # fmt: skip

    id: int | None = Field(default=None, sa_column=number())
    bank_id: int = Field(sa_column=Column(BigInteger, ForeignKey("bank.id", ondelete="CASCADE"), nullable=False))
    image_id: int | None = Field(
        default=None, sa_column=Column(BigInteger, ForeignKey("image.id", ondelete="RESTRICT"), nullable=True)
    )
    pdq: bytes | None = Field(default=None, description="32 bytes")
    sha256: bytes | None = Field(default=None, description="32 bytes of the file")
    note: str = Field(default="", sa_column=Column(Text, nullable=False, server_default=""))
    source: str = Field(
        default="", sa_column=Column(Text, nullable=False, server_default=""), description="of an imported hash list"
    )
    added_at: datetime = Field(default=None, sa_column=moment(now=True))
    added_by: str = Field(sa_column=Column(Text, nullable=False))
    quarantined_at: datetime | None = Field(default=None, sa_column=moment(), description="its matches do not count")
    quarantine_reason: str | None = Field(default=None, sa_column=Column(Text))
    released_at: datetime | None = Field(
        default=None, sa_column=moment(), description="from quarantine; what it matched before counts no more"
    )
    removed_at: datetime | None = Field(
        default=None,
        sa_column=moment(),
        description="does not count any more; the row goes when its look-back has ended",
    )


class BankVersion(SQLModel, table=True):
    """One row that counts the changes of PDQ members, so that whoever holds them in memory knows when to read anew."""

    __tablename__ = "bank_version"

    id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    version: int = Field(sa_column=Column(BigInteger, nullable=False))


class HashFinding(SQLModel, table=True):
    """A stored image whose PDQ hash is near that of a member; other matches are links of ``image_match``."""

    __tablename__ = "hash_finding"
    __table_args__ = (Index("hash_finding_member", "member_id", "image_id"),)

    image_id: int = Field(
        sa_column=Column("image_id", BigInteger, ForeignKey("image.id", ondelete="CASCADE"), primary_key=True)
    )
    member_id: int = Field(
        sa_column=Column("member_id", BigInteger, ForeignKey("bank_member.id", ondelete="CASCADE"), primary_key=True)
    )
    distance: int = Field(description="Hamming bits of 256, of the best of the eight orientations")
    found_at: datetime = Field(default=None, sa_column=moment(now=True))


class PolicyVersion(SQLModel, table=True):
    """A policy as it was applied; at most one is active."""

    __tablename__ = "policy_version"
    __table_args__ = (Index("policy_active", "active", unique=True, postgresql_where=text("active")),)

    id: int | None = Field(default=None, sa_column=number())
    source: str = Field(sa_column=Column(Text, nullable=False), description="the YAML text")
    digest: str = Field(sa_column=Column(Text, nullable=False), description="SHA-256 of the text, hexadecimal")
    note: str = Field(default="", sa_column=Column(Text, nullable=False, server_default=""))
    active: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    created_at: datetime = Field(default=None, sa_column=moment(now=True))
    created_by: str = Field(sa_column=Column(Text, nullable=False))


class Decision(SQLModel, table=True):
    """A verdict on an image with all that it rests on; never changed, and kept when the image is deleted."""

    __table_args__ = (
        CheckConstraint("verdict IN ('allow','review','block')", name="decision_verdict_known"),
        Index("decision_of_image", "image_id", "id"),
        Index("decision_first", "at", postgresql_where=text("previous IS NULL")),
        Index(
            "decision_first_matched",
            "at",
            postgresql_where=text("previous IS NULL AND facts -> 'matches' <> '[]'::jsonb"),
        ),
    )

    id: int | None = Field(default=None, sa_column=number())
    image_id: int = Field(sa_column=Column(BigInteger, nullable=False))
    at: datetime = Field(default=None, sa_column=moment(now=True))
    verdict: str = Field(sa_column=Column(Text, nullable=False))
    previous: str | None = Field(default=None, sa_column=Column(Text), description="the verdict before")
    actor: str = Field(sa_column=Column(Text, nullable=False), description="policy, or the name of a person's key")
    cause: str = Field(sa_column=Column(Text, nullable=False), description="what it was made for")
    rule: str | None = Field(default=None, sa_column=Column(Text))
    reason: str = Field(sa_column=Column(Text, nullable=False))
    severity: int
    fired: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False), description="all rules that were true")
    policy_id: int | None = Field(default=None, description="the version that judged; None of a person")
    engine: int = Field(description="configs.policies.ENGINE when it was made")
    facts: dict[str, Any] = Field(sa_column=Column(JSONB, nullable=False), description="configs.facts.Facts")
    facts_digest: str = Field(sa_column=Column(Text, nullable=False))


class ModerationState(SQLModel, table=True):
    """What holds for an image now, and the lease of the reviewer who looks at it."""

    __tablename__ = "moderation"
    __table_args__ = (
        CheckConstraint("verdict IN ('allow','review','block')", name="moderation_verdict_known"),
        Index("moderation_queue", text("severity DESC"), "image_id", postgresql_where=text("verdict = 'review'")),
        Index("moderation_by_verdict", "verdict", "image_id"),
        Index("moderation_held", "reviewer", postgresql_where=text("reviewer IS NOT NULL")),
    )

    image_id: int = Field(
        sa_column=Column("image_id", BigInteger, ForeignKey("image.id", ondelete="CASCADE"), primary_key=True)
    )
    verdict: str = Field(sa_column=Column(Text, nullable=False))
    severity: int
    decision_id: int = Field(sa_column=Column(BigInteger, nullable=False), description="the decision that holds")
    human_id: int | None = Field(
        default=None, sa_column=Column(BigInteger), description="a person's decision, which beats every policy's"
    )
    rule: str | None = Field(default=None, sa_column=Column(Text))
    policy_id: int | None = None
    facts_digest: str = Field(sa_column=Column(Text, nullable=False))
    changed_at: datetime = Field(default=None, sa_column=moment(now=True))
    reviewer: str | None = Field(
        default=None, sa_column=Column(Text), description="has it, or without a token: gave it back"
    )
    review_token: UUID | None = None
    review_until: datetime | None = Field(default=None, sa_column=moment())
