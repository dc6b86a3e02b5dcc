"""What files hold row by row."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
VIEW = """
    SELECT f.id AS file_id, f.name AS file_name, f.type, r.number, r.data
    FROM file AS f JOIN file_attachment AS fa ON fa.file_id = f.id
    JOIN attachment AS a ON a.id = fa.attachment_id AND a.kind = 'membership'
    JOIN attached_row AS r ON r.attachment_id = a.id
"""


def upgrade() -> None:
    op.create_table(
        "attachment",
        sa.Column("id", BIG, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("row_count", sa.BigInteger(), nullable=False),
        sa.Column("loaded_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attachment")),
        sa.UniqueConstraint("sha256", name=op.f("uq_attachment_sha256")),
    )
    op.create_table(
        "attached_row",
        sa.Column("attachment_id", BIG, nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.ForeignKeyConstraint(
            ["attachment_id"], ["attachment.id"], name=op.f("fk_attached_row_attachment_id_attachment")
        ),
        sa.PrimaryKeyConstraint("attachment_id", "number", name=op.f("pk_attached_row")),
    )
    op.create_table(
        "file_attachment",
        sa.Column("file_id", BIG, nullable=False),
        sa.Column("attachment_id", BIG, nullable=False),
        sa.ForeignKeyConstraint(
            ["attachment_id"], ["attachment.id"], name=op.f("fk_file_attachment_attachment_id_attachment")
        ),
        sa.ForeignKeyConstraint(["file_id"], ["file.id"], name=op.f("fk_file_attachment_file_id_file")),
        sa.PrimaryKeyConstraint("file_id", "attachment_id", name=op.f("pk_file_attachment")),
    )
    op.create_index(op.f("ix_file_attachment_attachment_id"), "file_attachment", ["attachment_id"])
    op.execute(f"CREATE VIEW membership AS {VIEW}")


def downgrade() -> None:
    op.execute("DROP VIEW membership")
    op.drop_table("file_attachment")
    op.drop_table("attached_row")
    op.drop_table("attachment")
