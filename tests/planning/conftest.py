"""Fixtures of the tests of planning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nightmill.backbone.database import Database
from tests.planning.world import World


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[World]:
    """Give an empty observatory, once on SQLite and once on PostgreSQL."""
    database = Database(database_url)
    database.create()
    yield World(database, tmp_path)
    database.close()


@pytest.fixture
def small_world(tmp_path: Path) -> Iterator[World]:
    """Give an empty observatory on SQLite, for what no database decides."""
    database = Database(f"sqlite:///{tmp_path / 'small.db'}")
    database.create()
    yield World(database, tmp_path)
    database.close()
