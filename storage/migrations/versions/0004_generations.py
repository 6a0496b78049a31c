"""Generations: a model's descriptor can be replaced, and each descriptor has links and calibrations of its own.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_RANK = "CASE {0}.relation WHEN 'exact' THEN 0 WHEN 'copy' THEN 1 WHEN 'external' THEN 2 ELSE 3 END"
_BETTER = (
    f"({_RANK.format('better')}, -better.score, better.descriptor)"
    f" < ({_RANK.format('held')}, -held.score, held.descriptor)"
)


def upgrade() -> None:
    op.create_table(
        "generation",
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("descriptor", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("state IN ('live','building','previous')", name="generation_state_known"),
        sa.PrimaryKeyConstraint("model_name", "state"),
    )
    op.create_index(
        "generation_other", "generation", ["model_name"], unique=True, postgresql_where=sa.text("state <> 'live'")
    )
    op.add_column("image_match", sa.Column("descriptor", sa.Text(), server_default="", nullable=False))
    op.execute(
        "UPDATE image_match SET descriptor = evidence->'descriptor'->>'name'"
        " WHERE relation IN ('copy','semantic') AND evidence->'descriptor'->>'name' IS NOT NULL"
    )
    op.drop_constraint("image_match_pkey", "image_match", type_="primary")
    op.create_primary_key("image_match_pkey", "image_match", ["image_a", "image_b", "descriptor"])
    op.drop_index("image_match_reverse", table_name="image_match")
    op.create_index("image_match_reverse", "image_match", ["image_b", "image_a", "descriptor"])
    op.drop_index("calibration_current", table_name="calibration", postgresql_where=sa.text("mode <> 'past'"))
    op.create_index(
        "calibration_current", "calibration", ["model_name", "networks", "relation", "mode"], unique=True,
        postgresql_where=sa.text("mode <> 'past'"),
    )  # fmt: skip


def downgrade() -> None:
    op.execute(
        "UPDATE calibration AS old SET mode = 'past' FROM calibration AS newer WHERE old.mode <> 'past'"
        " AND newer.mode = old.mode AND newer.model_name = old.model_name AND newer.relation = old.relation"
        " AND newer.id > old.id"
    )
    op.drop_index("calibration_current", table_name="calibration", postgresql_where=sa.text("mode <> 'past'"))
    op.create_index(
        "calibration_current", "calibration", ["model_name", "relation", "mode"], unique=True,
        postgresql_where=sa.text("mode <> 'past'"),
    )  # fmt: skip
    # Links of descriptors that are live nowhere were not shown; of the others the best one of a pair stays.
    op.execute(
        "DELETE FROM image_match WHERE descriptor IN (SELECT descriptor FROM generation WHERE state <> 'live')"
        " AND descriptor NOT IN (SELECT descriptor FROM generation WHERE state = 'live')"
    )
    op.execute(
        "DELETE FROM image_match AS held USING image_match AS better"
        f" WHERE better.image_a = held.image_a AND better.image_b = held.image_b AND {_BETTER}"
    )
    op.drop_index("image_match_reverse", table_name="image_match")
    op.create_index("image_match_reverse", "image_match", ["image_b", "image_a"])
    op.drop_constraint("image_match_pkey", "image_match", type_="primary")
    op.create_primary_key("image_match_pkey", "image_match", ["image_a", "image_b"])
    op.drop_column("image_match", "descriptor")
    op.drop_index("generation_other", table_name="generation", postgresql_where=sa.text("state <> 'live'"))
    op.drop_table("generation")
