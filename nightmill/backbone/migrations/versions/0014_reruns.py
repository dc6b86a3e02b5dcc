"""Reruns that choose jobs, change them, and take files of earlier attempts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSON(), "postgresql")


def upgrade() -> None:
    for column in ("passed_over", "renew"):
        op.add_column("job", sa.Column(column, sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("attempt", sa.Column("job_detail", JSON, nullable=True))
    op.add_column("attempt", sa.Column("replaced_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "taken",
        sa.Column("attempt_id", KEY, nullable=False),
        sa.Column("file_id", KEY, nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempt.id"], name=op.f("fk_taken_attempt_id_attempt")),
        sa.ForeignKeyConstraint(["file_id"], ["file.id"], name=op.f("fk_taken_file_id_file")),
        sa.PrimaryKeyConstraint("attempt_id", "file_id", name=op.f("pk_taken")),
    )
    op.create_index(op.f("ix_taken_file_id"), "taken", ["file_id"])


def downgrade() -> None:
    op.drop_table("taken")
    # A job that runs again although it has a result is done as far as the release before can tell.
    op.execute(
        "UPDATE job SET state = 'done' WHERE state IN ('ready', 'failed', 'held')"
        " AND id IN (SELECT job_id FROM attempt WHERE result)"
    )
    for table, column in (
        ("attempt", "replaced_at"),
        ("attempt", "job_detail"),
        ("job", "renew"),
        ("job", "passed_over"),
    ):
        op.execute(f"ALTER TABLE {table} DROP COLUMN {column}")  # in place: views ask of the tables
