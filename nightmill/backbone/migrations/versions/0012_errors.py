"""Errors that sites know by name, and what a retry changes of its job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012"
down_revision = "0011"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
BEFORE = """
        SELECT j.id AS job_id, c.name AS campaign, j.stage, j.unit, j.state, j.stale, j.attempts, a.number AS attempt,
               a.result, a.state AS attempt_state, a.fate, a.failed_step, a.evidence, a.host, a.issued_at, a.began_at,
               a.ended_at
        FROM job AS j JOIN campaign AS c ON c.id = j.campaign_id
        LEFT JOIN attempt AS a ON a.job_id = j.id AND a.number = j.attempts
    """
NOW = BEFORE.replace("a.ended_at", "a.ended_at, r.name AS error, r.explanation, r.link") + (
    "LEFT JOIN error_rule AS r ON r.id = a.error_id"
)
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
    op.execute("DROP VIEW job_status")
    op.execute(f"CREATE VIEW job_status AS {NOW}")


def downgrade() -> None:
    op.execute("DROP VIEW job_status")
    # Code of before does not know the fate; a killed step is what it was then.
    op.execute("UPDATE attempt SET fate = 'step_killed' WHERE fate = 'out_of_memory'")
    op.drop_index(op.f("ix_attempt_error_id"), "attempt")
    for table, column in reversed(COLUMNS):
        op.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    op.execute(f"CREATE VIEW job_status AS {BEFORE}")
    op.drop_table("error_switch")
    op.drop_table("error_rule")
