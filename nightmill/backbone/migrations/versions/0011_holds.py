"""What holds a job that is held, and why."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("job", sa.Column("held_by", sa.String(16), nullable=True))
    op.add_column("job", sa.Column("held_why", sa.Text(), nullable=True))
    # Nothing but exclusions held jobs until now.
    why = "it reads what was excluded since it was planned"
    op.execute(f"UPDATE job SET held_by = 'exclusion', held_why = '{why}' WHERE state = 'held'")


def downgrade() -> None:
    # What holds them is looked at as they are issued, or nobody would release them.
    op.execute("UPDATE job SET state = 'ready' WHERE state = 'held' AND held_by <> 'exclusion'")
    for column in ("held_why", "held_by"):  # in place: views ask of the table
        op.execute(f"ALTER TABLE job DROP COLUMN {column}")
