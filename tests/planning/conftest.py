"""Fixtures of the tests of planning: the schema is made once, each test gets a copy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightmill.backbone.database import Database
from tests.planning.world import World
from tests.support.postgres import PostgresServer


@pytest.fixture(scope="session")
def empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a file with an empty backbone."""
    path: Path = tmp_path_factory.mktemp("backbone") / "empty.db"
    _create(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def empty_postgres(postgres: PostgresServer) -> str:
    """Give the name of a database with an empty backbone."""
    name = postgres.create()
    _create(postgres.url(name))
    return name


def _create(url: str) -> None:
    database = Database(url)
    database.create()
    database.close()


@pytest.fixture
def small_world(empty_sqlite: Path, tmp_path: Path) -> Iterator[World]:
    """Give an empty observatory on SQLite, for what no database decides."""
    path = shutil.copy(empty_sqlite, tmp_path / "nightmill.db")
    yield from _world(f"sqlite:///{path}", tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """Give an empty observatory, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        yield request.getfixturevalue("small_world")
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    name = server.create(request.getfixturevalue("empty_postgres"))
    yield from _world(server.url(name), tmp_path)
    server.drop(name)


def _world(url: str, directory: Path) -> Iterator[World]:
    database = Database(url)
    yield World(database, directory)
    database.close()
