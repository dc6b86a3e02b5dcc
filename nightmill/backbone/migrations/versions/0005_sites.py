"""Sites share a catalogue: stores, campaigns, leases and acts are of a site; which values there are, the code knows."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from nightmill.backbone.migrations import views

revision = "0005"
down_revision = "0004"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OF_A_SITE = ("store", "campaign", "lease", "audit")
VALUES = {
    ("file", "origin"): ("raw", "manual", "batch"),
    ("replica", "state"): ("present", "missing", "corrupt"),
    ("calibration", "maturity"): ("draft", "certified", "withdrawn"),
    ("job", "state"): ("planned", "held", "ready", "active", "done", "failed", "cancelled"),
    ("attempt", "state"): (
        "issued", "staging_in", "running", "checking", "publishing", "published", "failed", "cancelled", "lost",
    ),
    ("execution", "state"): ("running", "succeeded", "failed", "lost"),
}  # fmt: skip
KNOWN_BEFORE = {
    ("file", "origin"): "CASE WHEN attempt_id IS NULL THEN 'raw' ELSE 'batch' END",
    ("replica", "state"): "'missing'",
    ("calibration", "maturity"): "'draft'",
}
"""What stands for a value that was unknown until now; elsewhere it is 'failed'."""
LOCATION = """
    CREATE VIEW file_location AS
    SELECT f.id AS file_id, f.name AS file_name, f.type, f.origin, f.size_bytes, f.sha256, {site}s.name AS store,
           s.url AS store_url, r.path, r.state, r.verified_at
    FROM file AS f LEFT JOIN replica AS r ON r.file_id = f.id LEFT JOIN store AS s ON s.id = r.store_id {join}
"""


def upgrade() -> None:
    op.execute("DROP VIEW file_location")
    with views.set_aside():
        _upgrade()
    op.execute(LOCATION.format(site="t.name AS site, ", join="LEFT JOIN site AS t ON t.id = s.site_id"))


def _upgrade() -> None:
    site = op.create_table(
        "site",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("first_seen", sa.DateTime(timezone=True), nullable=False),
        sa.Column("outdated", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_site")),
        sa.UniqueConstraint("name", name=op.f("uq_site_name")),
        sa.UniqueConstraint("key", name=op.f("uq_site_key")),
    )
    # Nobody can tell yet which site this is: the first that comes takes the row as its own.
    op.bulk_insert(site, [{"name": "", "key": None, "first_seen": datetime.now(UTC), "outdated": ""}])
    for table in OF_A_SITE:
        op.add_column(table, sa.Column("site_id", KEY, nullable=True))
        op.execute(f"UPDATE {table} SET site_id = (SELECT id FROM site)")
        with op.batch_alter_table(table) as changed:
            changed.alter_column("site_id", existing_type=KEY, nullable=False)
            changed.create_foreign_key(op.f(f"fk_{table}_site_id_site"), "site", ["site_id"], ["id"])
            if table == "store":
                changed.drop_constraint(op.f("uq_store_name"), type_="unique")
                changed.create_unique_constraint(op.f("uq_store_site_id_name"), ["site_id", "name"])
    for table, column in VALUES:
        with op.batch_alter_table(table) as changed:
            changed.drop_constraint(op.f(f"ck_{table}_{column}"), type_="check")


def downgrade() -> None:
    op.execute("DROP VIEW file_location")
    with views.set_aside():
        _downgrade()
    op.execute(LOCATION.format(site="", join=""))


def _downgrade() -> None:
    for (table, column), values in VALUES.items():
        known = f"{column} IN ({', '.join(repr(value) for value in values)})"
        op.execute(
            f"UPDATE {table} SET {column} = {KNOWN_BEFORE.get((table, column), repr('failed'))} WHERE NOT ({known})"
        )
        with op.batch_alter_table(table) as changed:
            changed.create_check_constraint(op.f(f"ck_{table}_{column}"), known)
    # Until now, a store had its name to itself: those of further sites keep theirs with the site's before it.
    op.execute(
        "UPDATE store SET name = (SELECT site.name FROM site WHERE site.id = store.site_id) || ':' || name"
        " WHERE site_id > (SELECT min(id) FROM site)"
    )
    for table in reversed(OF_A_SITE):
        with op.batch_alter_table(table) as changed:
            if table == "store":
                changed.drop_constraint(op.f("uq_store_site_id_name"), type_="unique")
                changed.create_unique_constraint(op.f("uq_store_name"), ["name"])
            changed.drop_constraint(op.f(f"fk_{table}_site_id_site"), type_="foreignkey")
            changed.drop_column("site_id")
    op.drop_table("site")
