"""Views for plain SQL clients."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

VIEWS = {
    "current_calibration": """
        SELECT c.id AS calibration_id, c.set_name, c.file_id, f.name AS file_name, f.type, f.instrument, f.detector,
               f.band, c.valid_from, c.valid_until, c.maturity, c.at, c.who, c.why
        FROM calibration AS c JOIN file AS f ON f.id = c.file_id
        WHERE c.id = (SELECT max(l.id) FROM calibration AS l WHERE l.file_id = c.file_id AND l.set_name = c.set_name)
    """,
    "file_location": """
        SELECT f.id AS file_id, f.name AS file_name, f.type, f.origin, f.size_bytes, f.sha256, s.name AS store,
               s.url AS store_url, r.path, r.state, r.verified_at
        FROM file AS f LEFT JOIN replica AS r ON r.file_id = f.id LEFT JOIN store AS s ON s.id = r.store_id
    """,
    "job_status": """
        SELECT j.id AS job_id, c.name AS campaign, j.stage, j.unit, j.state, j.stale, j.attempts, a.number AS attempt,
               a.result, a.state AS attempt_state, a.fate, a.failed_step, a.evidence, a.host, a.issued_at, a.began_at,
               a.ended_at
        FROM job AS j JOIN campaign AS c ON c.id = j.campaign_id
        LEFT JOIN attempt AS a ON a.job_id = j.id AND a.number = j.attempts
    """,
    "step_cost": """
        SELECT e.id AS execution_id, c.name AS campaign, j.stage, j.unit, a.number AS attempt, e.step, e.state, e.host,
               e.began_at, e.ended_at, e.exit_code, e.signal, e.wall_seconds, e.user_seconds, e.system_seconds,
               e.max_rss_bytes, e.read_bytes, e.written_bytes
        FROM execution AS e JOIN attempt AS a ON a.id = e.attempt_id JOIN job AS j ON j.id = a.job_id
        JOIN campaign AS c ON c.id = j.campaign_id
    """,
    "lineage": """
        SELECT u.file_id AS used_file_id, i.name AS used_file, u.role AS used_as, e.id AS execution_id, e.step,
               a.number AS attempt, g.file_id AS generated_file_id, o.name AS generated_file, g.role AS generated_as
        FROM input_use AS u JOIN execution AS e ON e.id = u.execution_id JOIN attempt AS a ON a.id = e.attempt_id
        JOIN file AS i ON i.id = u.file_id
        LEFT JOIN generation AS g ON g.execution_id = e.id LEFT JOIN file AS o ON o.id = g.file_id
    """,
}


def upgrade() -> None:
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")


def downgrade() -> None:
    for name in VIEWS:
        op.execute(f"DROP VIEW {name}")
