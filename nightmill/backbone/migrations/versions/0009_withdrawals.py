"""Files that are not any more taken for what their rows say: withdrawn, or described anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op

from nightmill.backbone.migrations import views

revision = "0009"
down_revision = "0008"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
HOLDS = "NOT EXISTS (SELECT 1 FROM withdrawal AS w WHERE w.file_id = f.id)"
VIEWS = {
    "current_calibration": (
        """
        SELECT c.id AS calibration_id, c.set_name, c.file_id, f.name AS file_name, f.type, f.instrument, f.detector,
               f.band, c.valid_from, c.valid_until, c.maturity, c.at, c.who, c.why
        FROM calibration AS c JOIN file AS f ON f.id = c.file_id
        WHERE c.id = (SELECT max(l.id) FROM calibration AS l WHERE l.file_id = c.file_id AND l.set_name = c.set_name)
        """,
        " AND ",
    ),
    "file_location": (
        """
        SELECT f.id AS file_id, f.name AS file_name, f.type, f.origin, f.size_bytes, f.sha256, t.name AS site,
               s.name AS store, s.url AS store_url, r.path, r.state, r.verified_at
        FROM file AS f LEFT JOIN replica AS r ON r.file_id = f.id LEFT JOIN store AS s ON s.id = r.store_id
        LEFT JOIN site AS t ON t.id = s.site_id
        """,
        " WHERE ",
    ),
    "membership": (
        """
        SELECT f.id AS file_id, f.name AS file_name, f.type, r.number, r.data
        FROM file AS f JOIN file_attachment AS fa ON fa.file_id = f.id
        JOIN attachment AS a ON a.id = fa.attachment_id AND a.kind = 'membership'
        JOIN attached_row AS r ON r.attachment_id = a.id
        """,
        " WHERE ",
    ),
}
"""Views of what files are, and what joins a condition to them."""


def upgrade() -> None:
    op.create_table(
        "withdrawal",
        sa.Column("id", KEY, nullable=False),
        sa.Column("file_id", KEY, nullable=False),
        sa.Column("replaced_by", KEY, nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["file_id"], ["file.id"], name=op.f("fk_withdrawal_file_id_file")),
        sa.ForeignKeyConstraint(["replaced_by"], ["file.id"], name=op.f("fk_withdrawal_replaced_by_file")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_withdrawal")),
        sa.UniqueConstraint("replaced_by", name=op.f("uq_withdrawal_replaced_by")),
    )
    op.create_index(op.f("ix_withdrawal_file_id"), "withdrawal", ["file_id"])
    with views.set_aside(), key_indexes_set_aside():
        op.add_column("file", sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
        with op.batch_alter_table("file") as file:
            file.alter_column("version", existing_type=sa.Integer(), existing_nullable=False, server_default=None)
            file.drop_constraint(op.f("uq_file_name_compression"), type_="unique")
            file.create_unique_constraint(op.f("uq_file_name_compression_version"), ["name", "compression", "version"])
    for name, (query, joined) in VIEWS.items():
        op.execute(f"DROP VIEW {name}")
        op.execute(f"CREATE VIEW {name} AS {query}{joined}{HOLDS}")


def downgrade() -> None:
    for name, (query, _) in VIEWS.items():
        op.execute(f"DROP VIEW {name}")
        op.execute(f"CREATE VIEW {name} AS {query}")
    # Until now, a name had one row: that of a file which was retyped says what it is taken for now, as no job had
    # read it before.
    earlier = (
        "(SELECT o.id FROM file AS o JOIN file AS f ON f.name = o.name AND f.compression = o.compression"
        " AND f.version > o.version)"
    )
    op.drop_table("withdrawal")
    roles = f"SELECT id FROM calibration WHERE file_id IN {earlier}"
    op.execute(f"DELETE FROM context_role WHERE calibration_id IN ({roles})")
    for table in ("calibration", "file_attachment"):
        op.execute(f"DELETE FROM {table} WHERE file_id IN {earlier}")
    op.execute(f"DELETE FROM file WHERE id IN {earlier}")
    with views.set_aside(), key_indexes_set_aside(), op.batch_alter_table("file") as file:
        file.drop_constraint(op.f("uq_file_name_compression_version"), type_="unique")
        file.create_unique_constraint(op.f("uq_file_name_compression"), ["name", "compression"])
        file.drop_column("version")


@contextmanager
def key_indexes_set_aside() -> Iterator[None]:
    """Drop the indexes of metadata keys on SQLite, which cannot tell of them what it must know to make a table anew."""
    query = sa.text(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'file' AND sql LIKE '%json%'"
    )
    is_sqlite = op.get_context().dialect.name == "sqlite"
    found = {name: text for name, text in op.get_bind().execute(query)} if is_sqlite else {}
    for name in found:
        op.execute(f'DROP INDEX "{name}"')
    yield
    for text in found.values():
        op.execute(text.replace(":", "\\:"))
