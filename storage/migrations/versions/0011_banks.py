"""Banks: pages of members, the members that were released from quarantine, and how often members match new images.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("bank_member", sa.Column("released_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("bank_member_listing", "bank_member", ["bank_id", "id"])
    op.create_index("decision_first", "decision", ["at"], postgresql_where=sa.text("previous IS NULL"))
    op.create_index(
        "decision_first_matched",
        "decision",
        ["at"],
        postgresql_where=sa.text("previous IS NULL AND facts -> 'matches' <> '[]'::jsonb"),
    )


def downgrade() -> None:
    op.drop_index("decision_first_matched", table_name="decision")
    op.drop_index("decision_first", table_name="decision")
    op.drop_index("bank_member_listing", table_name="bank_member")
    op.drop_column("bank_member", "released_at")
