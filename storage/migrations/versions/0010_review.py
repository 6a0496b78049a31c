"""Finds what a reviewer holds without reading the queue.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "moderation_held", "moderation", ["reviewer"], unique=False, postgresql_where=sa.text("reviewer IS NOT NULL")
    )


def downgrade() -> None:
    op.drop_index("moderation_held", table_name="moderation", postgresql_where=sa.text("reviewer IS NOT NULL"))
