"""What sites fetch from each other."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
REFERENCES = {"file_id": "file", "from_id": "store", "to_id": "store", "campaign_id": "campaign"}
VIEW = """
    SELECT t.id AS transfer_id, t.file_id, f.name AS file_name, f.type, c.name AS campaign, t.purpose, t.state,
           fs.name AS from_site, fr.name AS from_store, ts.name AS to_site, r.name AS to_store, t.size_bytes,
           t.began_at, t.wall_seconds, t.tries, t.host, t.evidence
    FROM transfer AS t JOIN file AS f ON f.id = t.file_id JOIN campaign AS c ON c.id = t.campaign_id
    JOIN store AS fr ON fr.id = t.from_id JOIN site AS fs ON fs.id = fr.site_id
    JOIN store AS r ON r.id = t.to_id JOIN site AS ts ON ts.id = r.site_id
"""


def upgrade() -> None:
    op.create_table(
        "transfer",
        sa.Column("id", KEY, nullable=False),
        *(sa.Column(name, KEY, nullable=False) for name in REFERENCES),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("wall_seconds", sa.Double(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        *(
            sa.ForeignKeyConstraint([name], [f"{table}.id"], name=op.f(f"fk_transfer_{name}_{table}"))
            for name, table in REFERENCES.items()
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transfer")),
    )
    for name in ("file_id", "campaign_id"):
        op.create_index(op.f(f"ix_transfer_{name}"), "transfer", [name])
    op.execute(f"CREATE VIEW file_transfer AS {VIEW}")


def downgrade() -> None:
    op.execute("UPDATE job SET held_by = 'exclusion' WHERE held_by = 'shipping'")  # which a rerun looks at again, too
    op.execute("DROP VIEW file_transfer")
    op.drop_table("transfer")
