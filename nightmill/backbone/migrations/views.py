"""Views while a migration changes tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op


@contextmanager
def set_aside() -> Iterator[None]:
    """Drop the views of SQLite, which makes a table anew to change it and must not find a view of it meanwhile."""
    query = sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'view'")
    is_sqlite = op.get_context().dialect.name == "sqlite"
    found = {name: text for name, text in op.get_bind().execute(query)} if is_sqlite else {}
    for name in found:
        op.execute(f"DROP VIEW {name}")
    yield
    for text in found.values():
        op.execute(text)
