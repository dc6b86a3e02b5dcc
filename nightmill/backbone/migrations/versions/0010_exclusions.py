"""Exclusions: files that must not be inputs, and that an exclusion was lifted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "exclusion",
        sa.Column("id", KEY, nullable=False),
        sa.Column("campaign", sa.Text(), nullable=False),
        sa.Column("expression", sa.Text(), nullable=False),
        sa.Column("written", sa.Text(), nullable=False),
        sa.Column("types", JSON, nullable=False),
        sa.Column("part", sa.Text(), nullable=False),
        sa.Column("up_to", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("ticket", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exclusion")),
    )
    op.create_index(op.f("ix_exclusion_campaign"), "exclusion", ["campaign"])
    op.create_table(
        "exclusion_lift",
        sa.Column("id", KEY, nullable=False),
        sa.Column("exclusion_id", KEY, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["exclusion_id"], ["exclusion.id"], name=op.f("fk_exclusion_lift_exclusion_id_exclusion")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exclusion_lift")),
        sa.UniqueConstraint("exclusion_id", name=op.f("uq_exclusion_lift_exclusion_id")),
    )


def downgrade() -> None:
    # Jobs that an exclusion holds are as good as planned where there are none.
    op.execute("UPDATE job SET state = 'planned' WHERE state = 'held'")
    op.drop_table("exclusion_lift")
    op.drop_table("exclusion")
