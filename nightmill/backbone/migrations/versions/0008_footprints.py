"""Which part of the sky each file covers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "footprint",
        sa.Column("file_id", BIG, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("vertices", JSON, nullable=False),
        sa.Column("radius_deg", sa.Float(), nullable=False),
        sa.Column("x", sa.Float(), nullable=False),
        sa.Column("y", sa.Float(), nullable=False),
        sa.Column("z", sa.Float(), nullable=False),
        sa.Column("cap_deg", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["file_id"], ["file.id"], name=op.f("fk_footprint_file_id_file")),
        sa.PrimaryKeyConstraint("file_id", "number", name=op.f("pk_footprint")),
    )
    op.create_index(op.f("ix_footprint_z"), "footprint", ["z"])
    op.create_index(op.f("ix_footprint_cap_deg"), "footprint", ["cap_deg"])


def downgrade() -> None:
    op.drop_table("footprint")
