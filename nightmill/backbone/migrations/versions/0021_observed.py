"""What is known of steps beside what they did: how they were confined, what they opened and what they told."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0021"
down_revision = "0020"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
COLUMNS = {
    "level": sa.String(16),
    "confined": JSON,
    "witness": sa.String(8),
    "told": sa.Boolean(),
    "reached": JSON,
}
RUN = """
    FROM execution AS e JOIN attempt AS a ON a.id = e.attempt_id JOIN job AS j ON j.id = a.job_id
    JOIN campaign AS c ON c.id = j.campaign_id
"""
LINEAGE = """
    SELECT u.file_id AS used_file_id, i.name AS used_file, u.role AS used_as, e.id AS execution_id, e.step,
           a.number AS attempt, g.file_id AS generated_file_id, o.name AS generated_file, g.role AS generated_as{more}
    FROM input_use AS u JOIN execution AS e ON e.id = u.execution_id JOIN attempt AS a ON a.id = e.attempt_id
    JOIN file AS i ON i.id = u.file_id
    LEFT JOIN generation AS g ON g.execution_id = e.id LEFT JOIN file AS o ON o.id = g.file_id
"""
MORE = """,
           u.planned, u.opened, u.contributed, u.reason,
           CASE WHEN g.told THEN EXISTS (
               SELECT 1 FROM derivation AS d WHERE d.file_id = g.file_id AND d.from_id = u.file_id
           ) END AS derived
"""
VIEWS = {
    "step_observed": f"""
        SELECT e.id AS execution_id, c.name AS campaign, j.stage, j.unit, a.number AS attempt, a.result, e.step,
               e.level, e.witness, e.told,
               (SELECT count(DISTINCT u.file_id) FROM input_use AS u WHERE u.execution_id = e.id AND u.planned)
                   AS planned_files,
               (SELECT count(DISTINCT u.file_id) FROM input_use AS u WHERE u.execution_id = e.id AND u.opened)
                   AS opened_files,
               (SELECT count(DISTINCT u.file_id) FROM input_use AS u WHERE u.execution_id = e.id AND u.contributed)
                   AS contributed_files,
               (SELECT count(DISTINCT u.file_id) FROM input_use AS u
                   WHERE u.execution_id = e.id AND NOT u.contributed) AS left_out_files,
               (SELECT count(*) FROM difference AS d WHERE d.execution_id = e.id) AS differences
        {RUN}
    """,
    "step_difference": f"""
        SELECT e.id AS execution_id, c.name AS campaign, j.stage, j.unit, a.number AS attempt, a.result, e.step,
               d.kind, d.name, d.file_id, d.detail, d.consequence
        {RUN} JOIN difference AS d ON d.execution_id = e.id
    """,
}


def upgrade() -> None:
    for name, kind in COLUMNS.items():
        op.add_column("execution", sa.Column(name, kind, nullable=True))
    op.add_column("generation", sa.Column("told", sa.Boolean(), nullable=True))
    op.create_table(
        "derivation",
        sa.Column("file_id", KEY, nullable=False),
        sa.Column("from_id", KEY, nullable=False),
        sa.ForeignKeyConstraint(["file_id"], ["file.id"], name=op.f("fk_derivation_file_id_file")),
        sa.ForeignKeyConstraint(["from_id"], ["file.id"], name=op.f("fk_derivation_from_id_file")),
        sa.PrimaryKeyConstraint("file_id", "from_id", name=op.f("pk_derivation")),
    )
    op.create_index(op.f("ix_derivation_from_id"), "derivation", ["from_id"])
    op.create_table(
        "difference",
        sa.Column("execution_id", KEY, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("file_id", KEY, nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("consequence", sa.String(16), nullable=False),
        sa.ForeignKeyConstraint(["execution_id"], ["execution.id"], name=op.f("fk_difference_execution_id_execution")),
        sa.ForeignKeyConstraint(["file_id"], ["file.id"], name=op.f("fk_difference_file_id_file")),
        sa.PrimaryKeyConstraint("execution_id", "number", name=op.f("pk_difference")),
    )
    op.create_index(op.f("ix_difference_file_id"), "difference", ["file_id"])
    op.execute("DROP VIEW lineage")
    op.execute(f"CREATE VIEW lineage AS {LINEAGE.format(more=MORE)}")
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")


def downgrade() -> None:
    for name in (*VIEWS, "lineage"):
        op.execute(f"DROP VIEW {name}")
    op.drop_table("difference")
    op.drop_table("derivation")
    op.execute("ALTER TABLE generation DROP COLUMN told")  # in place: views ask of the tables
    for name in COLUMNS:
        op.execute(f"ALTER TABLE execution DROP COLUMN {name}")
    op.execute(f"CREATE VIEW lineage AS {LINEAGE.format(more='')}")
