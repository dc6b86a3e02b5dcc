"""A bench, and an empty backbone of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nightmill.backbone.database import Database
from tests.support.orders import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give stores, scratch and spool of the test's own."""
    return Bench(tmp_path)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Give an empty backbone that only this test sees: once on SQLite, once on PostgreSQL."""
    database = Database(database_url)
    yield database
    database.close()
