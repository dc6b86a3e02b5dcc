"""What checks say of files that they do not hold back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.create_table(
        "file_warning",
        sa.Column("file_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("check_name", sa.Text(), nullable=False),
        sa.Column("reason", sa.String(40), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["file_id"], ["file.id"], name=op.f("fk_file_warning_file_id_file")),
        sa.PrimaryKeyConstraint("file_id", "number", name=op.f("pk_file_warning")),
    )
    op.create_index(op.f("ix_file_warning_check_name"), "file_warning", ["check_name"])


def downgrade() -> None:
    op.drop_table("file_warning")
