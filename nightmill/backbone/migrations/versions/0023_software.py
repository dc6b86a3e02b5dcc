"""Stacks without their bundles, verdicts on them, and the files that were written for executions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0023"
down_revision = "0022"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
REFERENCES = {"site_id": "site", "software_id": "software", "attempt_id": "attempt"}


def upgrade() -> None:
    op.add_column("software", sa.Column("bare_sha256", sa.String(64), nullable=True))
    op.create_index(op.f("ix_software_bare_sha256"), "software", ["bare_sha256"])
    op.add_column("execution", sa.Column("files_sha256", sa.String(64), nullable=True))
    op.create_table(
        "regression",
        sa.Column("id", KEY, nullable=False),
        *(sa.Column(name, KEY, nullable=name == "attempt_id") for name in REFERENCES),
        sa.Column("how", sa.String(16), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("differences", JSON, nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        *(
            sa.ForeignKeyConstraint([name], [f"{table}.id"], name=op.f(f"fk_regression_{name}_{table}"))
            for name, table in REFERENCES.items()
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_regression")),
    )
    for name in ("software_id", "attempt_id"):
        op.create_index(op.f(f"ix_regression_{name}"), "regression", [name])


def downgrade() -> None:
    op.drop_table("regression")
    op.drop_column("execution", "files_sha256")
    op.drop_index(op.f("ix_software_bare_sha256"), "software")
    op.drop_column("software", "bare_sha256")
