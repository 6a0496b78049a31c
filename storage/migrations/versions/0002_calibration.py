"""Thresholds measured on the user's own pictures; recall of the approximate indexes.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "calibration",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("networks", sa.Text(), nullable=False),
        sa.Column("relation", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("threshold", sa.Float(), nullable=False),
        sa.Column("wanted_precision", sa.Float(), nullable=False),
        sa.Column("precision", sa.Float(), nullable=False),
        sa.Column("recall", sa.Float(), nullable=False),
        sa.Column("pictures", sa.Integer(), nullable=False),
        sa.Column("queries", sa.Integer(), nullable=False),
        sa.Column("would_add", sa.Integer(), server_default="0", nullable=False),
        sa.Column("would_drop", sa.Integer(), server_default="0", nullable=False),
        sa.CheckConstraint("mode IN ('active','shadow','past')", name="calibration_mode_known"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "calibration_current", "calibration", ["model_name", "relation", "mode"], unique=True,
        postgresql_where=sa.text("mode <> 'past'"),
    )  # fmt: skip
    op.create_table(
        "index_measurement",
        sa.Column("space", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("build_s", sa.Float(), nullable=False),
        sa.Column("recall_at_10", sa.Float(), nullable=False),
        sa.Column("sample", sa.Integer(), nullable=False),
        sa.Column("measured_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("space"),
    )


def downgrade() -> None:
    op.drop_table("index_measurement")
    op.drop_index("calibration_current", table_name="calibration", postgresql_where=sa.text("mode <> 'past'"))
    op.drop_table("calibration")
