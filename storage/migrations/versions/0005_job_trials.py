"""Trials of bulk jobs, so that a picture that kills its worker is known; why uploads wait for a descriptor.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "job_trial",
        sa.Column("job_id", sa.BigInteger(), sa.ForeignKey("job.id", ondelete="CASCADE"), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("first", sa.Integer(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("deaths", sa.Integer(), server_default="0", nullable=False),
        sa.Column("worker", sa.Uuid(), nullable=True),
        sa.Column("runner", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("job_id", "number", "stage", "first", "size"),
    )
    op.add_column("generation", sa.Column("held_up", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("generation", "held_up")
    op.drop_table("job_trial")
