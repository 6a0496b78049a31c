"""images, links, detections, keys, audit"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:

    op.create_table(
        "api_key",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("rate_limit", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("hash"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("detail", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "image",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("s3_path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("uploaded_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("processed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_token", sa.Uuid(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.CheckConstraint("status IN ('UPLOADED','PROCESSING','PROCESSED','FAILED')", name="image_status_known"),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("s3_path"),
    )
    op.create_index(
        "image_claim",
        "image",
        ["model_name", "id"],
        unique=False,
        postgresql_where=sa.text("status = 'UPLOADED' AND uploaded_at IS NOT NULL"),
    )
    op.create_index(
        "image_lease", "image", ["lease_expires_at"], unique=False, postgresql_where=sa.text("status = 'PROCESSING'")
    )
    op.create_index(
        "image_listing", "image", ["status", "id"], unique=False, postgresql_where=sa.text("uploaded_at IS NOT NULL")
    )
    op.create_index("image_sha256", "image", ["sha256"], unique=False)
    op.create_index(
        "image_unstored", "image", ["created_at"], unique=False, postgresql_where=sa.text("uploaded_at IS NULL")
    )
    op.create_table(
        "queue_poll",
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("last_polled_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("model_name"),
    )
    op.create_table(
        "writer_fence",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "content_score",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "model"),
    )
    op.create_table(
        "detection",
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("x0", sa.Float(), nullable=False),
        sa.Column("y0", sa.Float(), nullable=False),
        sa.Column("x1", sa.Float(), nullable=False),
        sa.Column("y1", sa.Float(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_id", "ordinal"),
    )
    op.create_table(
        "idempotency",
        sa.Column("key_id", sa.BigInteger(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("image_id", sa.BigInteger(), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["image.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["key_id"], ["api_key.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("key_id", "idempotency_key"),
    )
    op.create_table(
        "image_match",
        sa.Column("image_a", sa.BigInteger(), nullable=False),
        sa.Column("image_b", sa.BigInteger(), nullable=False),
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("score", sa.Float(), nullable=False),
        sa.Column("threshold", sa.Float(), nullable=False),
        sa.Column("evidence", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("image_a < image_b", name="image_match_ordered"),
        sa.ForeignKeyConstraint(["image_a"], ["image.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["image_b"], ["image.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("image_a", "image_b"),
    )
    op.create_index("image_match_reverse", "image_match", ["image_b", "image_a"], unique=False)
    op.create_table(
        "rate_window",
        sa.Column("key_id", sa.BigInteger(), nullable=False),
        sa.Column("minute", sa.DateTime(timezone=True), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["api_key.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("key_id", "minute"),
    )


def downgrade() -> None:

    op.drop_table("rate_window")
    op.drop_index("image_match_reverse", table_name="image_match")
    op.drop_table("image_match")
    op.drop_table("idempotency")
    op.drop_table("detection")
    op.drop_table("content_score")
    op.drop_table("writer_fence")
    op.drop_table("queue_poll")
    op.drop_index("image_unstored", table_name="image", postgresql_where=sa.text("uploaded_at IS NULL"))
    op.drop_index("image_sha256", table_name="image")
    op.drop_index("image_listing", table_name="image", postgresql_where=sa.text("uploaded_at IS NOT NULL"))
    op.drop_index("image_lease", table_name="image", postgresql_where=sa.text("status = 'PROCESSING'"))
    op.drop_index(
        "image_claim", table_name="image", postgresql_where=sa.text("status = 'UPLOADED' AND uploaded_at IS NOT NULL")
    )
    op.drop_table("image")
    op.drop_table("audit")
    op.drop_table("api_key")
