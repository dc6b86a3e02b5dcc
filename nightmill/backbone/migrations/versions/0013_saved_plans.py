"""Saved plans: what somebody saw, to be submitted as it was seen."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "saved_plan",
        sa.Column("id", KEY, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("campaign", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_plan")),
        sa.UniqueConstraint("sha256", name=op.f("uq_saved_plan_sha256")),
    )
    op.create_index(op.f("ix_saved_plan_campaign"), "saved_plan", ["campaign"])
    op.create_index(op.f("ix_saved_plan_number"), "saved_plan", ["number"])


def downgrade() -> None:
    op.drop_table("saved_plan")
