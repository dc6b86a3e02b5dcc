"""How many jobs of a campaign run at a time, and on which hosts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("campaign", sa.Column("most_jobs", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("campaign", sa.Column("hosts", JSON, nullable=True))
    op.add_column("campaign", sa.Column("limited_by", sa.Text(), nullable=True))
    op.add_column("campaign", sa.Column("limited_why", sa.Text(), nullable=True))


def downgrade() -> None:
    for column in ("limited_why", "limited_by", "hosts", "most_jobs"):  # in place: views ask of the table
        op.execute(f"ALTER TABLE campaign DROP COLUMN {column}")
