"""A database of each kind with the whole schema."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nightmill.backbone.database import Database


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Give an empty backbone that only this test sees: once on SQLite, once on PostgreSQL."""
    database = Database(database_url)
    yield database
    database.close()
