"""Files are found by the names that they came with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    brought = sa.text("original_name IS NOT NULL")
    op.create_index("ix_file_original_name", "file", ["original_name"], sqlite_where=brought, postgresql_where=brought)
    # Until now, raw files kept their names, and said no more.
    op.execute("UPDATE file SET original_name = name WHERE origin = 'raw' AND original_name IS NULL")


def downgrade() -> None:
    op.drop_index("ix_file_original_name", "file")
