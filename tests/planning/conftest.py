"""Observatories for the tests of planning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nightmill.backbone.database import Database
from tests.planning.world import World


@pytest.fixture
def small_world(sqlite_url: str, tmp_path: Path) -> Iterator[World]:
    """Give an empty observatory on SQLite, for what no database decides."""
    yield from _world(sqlite_url, tmp_path)


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[World]:
    """Give an empty observatory, once on SQLite and once on PostgreSQL."""
    yield from _world(database_url, tmp_path)


def _world(url: str, directory: Path) -> Iterator[World]:
    database = Database(url)
    yield World(database, directory)
    database.close()
