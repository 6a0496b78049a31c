"""Look-backs say how many members they have, what they skipped and how long they worked.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_COLUMNS = ("members", "skipped", "skips", "worked_s", "worked_at")


def upgrade() -> None:
    op.add_column("look_back", sa.Column("members", sa.BigInteger(), nullable=True))
    op.add_column("look_back", sa.Column("skipped", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column(
        "look_back",
        sa.Column("skips", postgresql.JSONB(astext_type=sa.Text()), server_default="[]", nullable=False),
    )
    op.add_column("look_back", sa.Column("worked_s", sa.Float(), server_default="0", nullable=False))
    op.add_column("look_back", sa.Column("worked_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    for column in _COLUMNS:
        op.drop_column("look_back", column)
