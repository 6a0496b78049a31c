"""Dead look-backs and the oldest waiting deliveries are found without reading the whole table.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("look_back_dead", "look_back", ["id"], postgresql_where=sa.text("state = 'dead'"))
    op.create_index("delivery_begun", "delivery", ["begun_at"], postgresql_where=sa.text("state = 'waiting'"))


def downgrade() -> None:
    op.drop_index("delivery_begun", table_name="delivery")
    op.drop_index("look_back_dead", table_name="look_back")
