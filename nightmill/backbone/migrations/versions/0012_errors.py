"""Errors that sites know by name, and what a retry changes of its job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
COLUMNS = (("job", "ready_at"), ("job", "memory_bytes"), ("attempt", "memory_bytes"), ("attempt", "error_id"))


def upgrade() -> None:
    op.create_table(
        "error_rule",
        sa.Column("id", KEY, nullable=False),
        sa.Column("site_id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("explanation", sa.Text(), nullable=False),
        sa.Column("link", sa.Text(), nullable=False),
        sa.Column("definition", JSON, nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_error_rule_site_id_site")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_error_rule")),
        sa.UniqueConstraint("site_id", "name", "version", name=op.f("uq_error_rule_site_id_name_version")),
    )
    op.create_table(
        "error_switch",
        sa.Column("id", KEY, nullable=False),
        sa.Column("error_id", KEY, nullable=False),
        sa.Column("is_on", sa.Boolean(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["error_id"], ["error_rule.id"], name=op.f("fk_error_switch_error_id_error_rule")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_error_switch")),
    )
    op.create_index(op.f("ix_error_switch_error_id"), "error_switch", ["error_id"])
    op.add_column("job", sa.Column("ready_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("job", sa.Column("memory_bytes", sa.BigInteger(), nullable=True))
    op.add_column("attempt", sa.Column("memory_bytes", sa.BigInteger(), nullable=True))
    # SQLite takes a reference only together with its column, and views ask of the table: it is not made anew
    name = op.f("fk_attempt_error_id_error_rule")
    op.execute(f"ALTER TABLE attempt ADD COLUMN error_id BIGINT CONSTRAINT {name} REFERENCES error_rule (id)")
    op.create_index(op.f("ix_attempt_error_id"), "attempt", ["error_id"])


def downgrade() -> None:
    # Code of before does not know the fate; a killed step is what it was then.
    op.execute("UPDATE attempt SET fate = 'step_killed' WHERE fate = 'out_of_memory'")
    op.drop_index(op.f("ix_attempt_error_id"), "attempt")
    for table, column in reversed(COLUMNS):
        op.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    op.drop_table("error_switch")
    op.drop_table("error_rule")
