"""Fixtures that all tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support import prefect_database
from tests.support.backbone import create_schema
from tests.support.postgres import PostgresServer, PostgresUnavailable, StoppableServer, running_server
from tests.support.seaweed import SeaweedServer, SeaweedUnavailable, running_seaweed
from tests.support.servers import given
from tests.support.slurm import Slurm, SlurmUnavailable, running_slurm
from tests.support.sshd import Sshd, running_sshd
from tests.support.web import Web, running_web

hypothesis.settings.register_profile("nightmill", deadline=None)  # no test depends on how fast the machine is
hypothesis.settings.load_profile("nightmill")
pytest_plugins = ["tests.support.requirements_plugin", "tests.support.scheduling_plugin"]


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Give back the umask, which is another one once a site was opened."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Give the session's PostgreSQL server, started when a test first asks for it."""
    with given(running_server(), PostgresUnavailable) as server:
        yield server


@pytest.fixture(scope="session")
def seaweed() -> Iterator[SeaweedServer]:
    """Give the session's server of S3, started when a test first asks for it."""
    with given(running_seaweed(), SeaweedUnavailable) as server:
        yield server


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[Slurm]:
    """Give the session's Slurm, started when a test first asks for it."""
    with given(running_slurm(), SlurmUnavailable) as cluster:
        yield cluster


@pytest.fixture
def cluster(running_cluster: Slurm, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """Give that Slurm, whose commands are on the PATH."""
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, running_cluster.environment[name])
    return running_cluster


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """Give an SSH server of the test's own."""
    with running_sshd(tmp_path / "sshd") as server:
        yield server


@pytest.fixture
def web() -> Iterator[Web]:
    """Give a web server of the test's own."""
    with running_web() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """Give the name of a database that has the whole schema and no row: tests get copies of it."""
    name = postgres.create()
    create_schema(postgres.url(name))
    return name


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give an SQLite file that has the whole schema and no row: tests get copies of it."""
    path: Path = tmp_path_factory.mktemp("template") / "nightmill.db"
    create_schema(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def prefect_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a database of Prefect's server that was migrated and has no row; see :func:`prefect_database.give`."""
    return prefect_database.migrated(tmp_path_factory)


@pytest.fixture
def postgres_url(postgres: PostgresServer, postgres_template: str) -> Iterator[str]:
    """Give the SQLAlchemy URL of a PostgreSQL database with the schema and no row, which only this test sees."""
    database = postgres.create(postgres_template)
    yield postgres.url(database)
    postgres.drop(database)


@pytest.fixture
def empty_postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """Give the SQLAlchemy URL of a PostgreSQL database with nothing in it, which only this test sees."""
    database = postgres.create()
    yield postgres.url(database)
    postgres.drop(database)


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """Give the SQLAlchemy URL of an SQLite database with the schema and no row, which only this test sees."""
    return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / 'nightmill.db')}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Give the SQLAlchemy URL of a database with the schema and no row: once SQLite, once PostgreSQL."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the SQLAlchemy URL of a database with nothing in it: once SQLite, once PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'nightmill.db'}"
    url: str = request.getfixturevalue("empty_postgres_url")
    return url


@pytest.fixture
def own_server() -> Iterator[StoppableServer]:
    """Give a server that nobody else uses."""
    with given(running_server(), PostgresUnavailable) as server:
        stoppable = StoppableServer(server)
        yield stoppable
        stoppable.stop()
