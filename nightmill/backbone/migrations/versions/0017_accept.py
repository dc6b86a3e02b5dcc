"""Rules of errors that accept exit codes: what an attempt was issued with, and what was accepted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0017"
down_revision = "0016"

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
BEFORE = """
        SELECT e.id AS execution_id, c.name AS campaign, j.stage, j.unit, a.number AS attempt, e.step, e.state, e.host,
               e.began_at, e.ended_at, e.exit_code, e.signal, e.wall_seconds, e.user_seconds, e.system_seconds,
               e.max_rss_bytes, e.read_bytes, e.written_bytes
        FROM execution AS e JOIN attempt AS a ON a.id = e.attempt_id JOIN job AS j ON j.id = a.job_id
        JOIN campaign AS c ON c.id = j.campaign_id
    """
NOW = BEFORE.replace("e.written_bytes", "e.written_bytes, r.name AS accepted") + (
    "LEFT JOIN error_rule AS r ON r.id = e.accepted_id"
)


def upgrade() -> None:
    op.add_column("attempt", sa.Column("rule_ids", JSON, nullable=True))
    # SQLite takes a reference only together with its column, and views ask of the table: it is not made anew
    name = op.f("fk_execution_accepted_id_error_rule")
    op.execute(f"ALTER TABLE execution ADD COLUMN accepted_id BIGINT CONSTRAINT {name} REFERENCES error_rule (id)")
    op.execute("DROP VIEW step_cost")
    op.execute(f"CREATE VIEW step_cost AS {NOW}")


def downgrade() -> None:
    # Code of before does not know the action: such a rule names failures, and leaves them to their stages.
    sqlite = op.get_bind().dialect.name == "sqlite"
    without, action = (
        ("json_remove(definition, '$.action')", "json_extract(definition, '$.action')")
        if sqlite
        else ("definition - 'action'", "definition ->> 'action'")
    )
    op.execute(f"UPDATE error_rule SET definition = {without} WHERE {action} = 'accept'")
    op.execute("UPDATE attempt SET error_id = NULL WHERE state = 'published'")
    op.execute("DROP VIEW step_cost")
    op.execute("ALTER TABLE execution DROP COLUMN accepted_id")  # in place: views ask of the tables
    op.execute("ALTER TABLE attempt DROP COLUMN rule_ids")
    op.execute(f"CREATE VIEW step_cost AS {BEFORE}")
