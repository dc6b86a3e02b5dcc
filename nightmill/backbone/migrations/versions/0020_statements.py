"""What workers signed: statements, the heads of their chains, and the keys of sites."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "signing_key",
        sa.Column("keyid", sa.String(64), nullable=False),
        sa.Column("public_key", sa.String(64), nullable=False),
        sa.Column("site_id", KEY, nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_signing_key_site_id_site")),
        sa.PrimaryKeyConstraint("keyid", name=op.f("pk_signing_key")),
    )
    op.create_table(
        "statement",
        sa.Column("attempt_id", KEY, nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("keyid", sa.String(64), nullable=False),
        sa.Column("signature", sa.Text(), nullable=False),
        sa.Column("journal", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("previous_sha256", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempt.id"], name=op.f("fk_statement_attempt_id_attempt")),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_statement")),
        sa.UniqueConstraint("journal", "number", name=op.f("uq_statement_journal_number")),
    )
    op.create_index(op.f("ix_statement_sha256"), "statement", ["sha256"])
    op.create_table(
        "chain",
        sa.Column("journal", sa.Text(), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.Column("head_sha256", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("journal", name=op.f("pk_chain")),
    )


def downgrade() -> None:
    for table in ("chain", "statement", "signing_key"):
        op.drop_table(table)
