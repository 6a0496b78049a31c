"""The content filter: banks and their members, policies, decisions, what holds for each image, look-backs.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "bank",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("disabled_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("relations", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("pdq_distance", sa.Integer(), nullable=False),
        sa.Column("copy_score", sa.Float(), nullable=True),
        sa.Column("semantic_score", sa.Float(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('unacceptable','allowed')", name="bank_kind_known"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("bank_name", "bank", ["name"], unique=True, postgresql_where=sa.text("removed_at IS NULL"))
    op.create_table(
        "bank_version",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "decision",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("previous", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("severity", sa.Integer(), nullable=False),
        sa.Column("fired", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("policy_id", sa.Integer(), nullable=True),
        sa.Column("engine", sa.Integer(), nullable=False),
        sa.Column("facts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("facts_digest", sa.Text(), nullable=False),
        sa.CheckConstraint("verdict IN ('allow','review','block')", name="decision_verdict_known"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("decision_of_image", "decision", ["image_id", "id"], unique=False)
    op.create_table(
        "look_back",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="waiting", nullable=False),
        sa.Column("bank_id", sa.BigInteger(), nullable=True),
        sa.Column("first_member", sa.BigInteger(), nullable=True),
        sa.Column("last_member", sa.BigInteger(), nullable=True),
        sa.Column("cause", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("cursor", postgresql.JSONB(astext_type=sa.Text()), server_default="{}", nullable=False),
        sa.Column("members_done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("images_done", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("verdicts_changed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.CheckConstraint("kind IN ('members','bank','judge')", name="look_back_kind_known"),
        sa.CheckConstraint("state IN ('waiting','done','dead','cancelled')", name="look_back_state_known"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "look_back_waiting", "look_back", ["id"], unique=False, postgresql_where=sa.text("state = 'waiting'")
    )
    op.create_table(
        "policy_version",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("active", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("policy_active", "policy_version", ["active"], unique=True, postgresql_where=sa.text("active"))
    op.create_table(
        "bank_member",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("bank_id", sa.BigInteger(), nullable=False),
        sa.Column("image_id", sa.BigInteger(), nullable=True),
        sa.Column("pdq", sa.LargeBinary(), nullable=True),
        sa.Column("sha256", sa.LargeBinary(), nullable=True),
        sa.Column("note", sa.Text(), server_default="", nullable=False),
        sa.Column("source", sa.Text(), server_default="", nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("added_by", sa.Text(), nullable=False),
        sa.Column("quarantined_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("quarantine_reason", sa.Text(), nullable=True),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "image_id IS NOT NULL OR pdq IS NOT NULL OR sha256 IS NOT NULL", name="bank_member_something"
        ),
        sa.CheckConstraint("image_id IS NULL OR (pdq IS NULL AND sha256 IS NULL)", name="bank_member_one_form"),
        sa.CheckConstraint("octet_length(pdq) = 32", name="bank_member_pdq_length"),
        sa.CheckConstraint("octet_length(sha256) = 32", name="bank_member_sha256_length"),
        sa.ForeignKeyConstraint(["bank_id"], ["bank.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint(
            "bank_id", "image_id", "pdq", "sha256", name="bank_member_once", postgresql_nulls_not_distinct=True
        ),
    )
    op.create_index(
        "bank_member_by_image",
        "bank_member",
        ["image_id"],
        unique=False,
        postgresql_where=sa.text("image_id IS NOT NULL"),
    )
    op.create_index(
        "bank_member_by_sha256", "bank_member", ["sha256"], unique=False, postgresql_where=sa.text("sha256 IS NOT NULL")
    )
    op.create_table(
        "moderation",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("severity", sa.Integer(), nullable=False),
        sa.Column("decision_id", sa.BigInteger(), nullable=False),
        sa.Column("human_id", sa.BigInteger(), nullable=True),
        sa.Column("rule", sa.Text(), nullable=True),
        sa.Column("policy_id", sa.Integer(), nullable=True),
        sa.Column("facts_digest", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("reviewer", sa.Text(), nullable=True),
        sa.Column("review_token", sa.Uuid(), nullable=True),
        sa.Column("review_until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("verdict IN ('allow','review','block')", name="moderation_verdict_known"),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id"),
    )
    op.create_index("moderation_by_verdict", "moderation", ["verdict", "image_id"], unique=False)
    op.create_index(
        "moderation_queue",
        "moderation",
        [sa.literal_column("severity DESC"), "image_id"],
        unique=False,
        postgresql_where=sa.text("verdict = 'review'"),
    )
    op.create_table(
        "hash_finding",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("member_id", sa.BigInteger(), nullable=False),
        sa.Column("distance", sa.Integer(), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["member_id"], ["bank_member.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "member_id"),
    )
    op.create_index("hash_finding_member", "hash_finding", ["member_id", "image_id"], unique=False)
    op.execute("INSERT INTO bank_version (id, version) VALUES (1, 0)")


def downgrade() -> None:

    op.drop_index("hash_finding_member", table_name="hash_finding")
    op.drop_table("hash_finding")
    op.drop_index("moderation_queue", table_name="moderation", postgresql_where=sa.text("verdict = 'review'"))
    op.drop_index("moderation_by_verdict", table_name="moderation")
    op.drop_table("moderation")
    op.drop_index("bank_member_by_sha256", table_name="bank_member", postgresql_where=sa.text("sha256 IS NOT NULL"))
    op.drop_index("bank_member_by_image", table_name="bank_member", postgresql_where=sa.text("image_id IS NOT NULL"))
    op.drop_table("bank_member")
    op.drop_index("policy_active", table_name="policy_version", postgresql_where=sa.text("active"))
    op.drop_table("policy_version")
    op.drop_index("look_back_waiting", table_name="look_back", postgresql_where=sa.text("state = 'waiting'"))
    op.drop_table("look_back")
    op.drop_index("decision_of_image", table_name="decision")
    op.drop_table("decision")
    op.drop_table("bank_version")
    op.drop_index("bank_name", table_name="bank", postgresql_where=sa.text("removed_at IS NULL"))
    op.drop_table("bank")
