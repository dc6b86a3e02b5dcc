"""Units that a plan leaves out, levels of what it chooses, and contexts of calibrations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from nightmill.backbone.migrations.views import set_aside

revision = "0007"
down_revision = "0006"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "left_out",
        sa.Column("id", BIG, nullable=False),
        sa.Column("campaign_id", BIG, nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("types", sa.Text(), nullable=False),
        sa.Column("missing", sa.String(8), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("watermark", sa.BigInteger(), nullable=False),
        sa.Column("planned_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaign.id"], name=op.f("fk_left_out_campaign_id_campaign")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_left_out")),
        sa.UniqueConstraint("campaign_id", "stage", "unit", name=op.f("uq_left_out_campaign_id_stage_unit")),
    )
    op.create_index(op.f("ix_left_out_missing"), "left_out", ["missing"])
    op.create_table(
        "context",
        sa.Column("id", BIG, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_context")),
        sa.UniqueConstraint("name", name=op.f("uq_context_name")),
    )
    op.create_table(
        "context_role",
        sa.Column("context_id", BIG, nullable=False),
        sa.Column("calibration_id", BIG, nullable=False),
        sa.ForeignKeyConstraint(["context_id"], ["context.id"], name=op.f("fk_context_role_context_id_context")),
        sa.ForeignKeyConstraint(
            ["calibration_id"], ["calibration.id"], name=op.f("fk_context_role_calibration_id_calibration")
        ),
        sa.PrimaryKeyConstraint("context_id", "calibration_id", name=op.f("pk_context_role")),
    )
    op.add_column("planned_input", sa.Column("level", sa.Integer(), nullable=True))


def downgrade() -> None:
    with set_aside():
        op.drop_column("planned_input", "level")
    op.drop_table("context_role")
    op.drop_table("context")
    op.drop_table("left_out")
