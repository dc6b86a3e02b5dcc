from __future__ import annotations

import psycopg
import pytest
import sqlalchemy

from tests.support import postgres as module
from tests.support.postgres import PostgresServer, PostgresUnavailable, find_binaries, running_server


def test_each_test_gets_an_empty_database(empty_database_url: str) -> None:
    engine = sqlalchemy.create_engine(empty_database_url)
    with engine.begin() as connection:
        assert sqlalchemy.inspect(connection).get_table_names() == []
        connection.execute(sqlalchemy.text("CREATE TABLE left_behind (n INTEGER)"))
    engine.dispose()


def test_database_is_a_copy_of_its_template(postgres: PostgresServer) -> None:
    template = postgres.create()
    with psycopg.connect(host=str(postgres.socket_directory), dbname=template, user="postgres") as connection:
        connection.execute("CREATE TABLE filled AS SELECT 42 AS n")
    copy = postgres.create(template)
    with psycopg.connect(host=str(postgres.socket_directory), dbname=copy, user="postgres") as connection:
        assert connection.execute("SELECT n FROM filled").fetchone() == (42,)
    postgres.drop(copy)
    postgres.drop(template)


def test_server_and_its_folder_are_gone_afterwards(postgres: PostgresServer) -> None:
    with running_server() as server:
        assert server.socket_directory != postgres.socket_directory
        database = server.create()
    assert not server.socket_directory.exists()
    with pytest.raises(psycopg.OperationalError, match="No such file or directory"):
        psycopg.connect(host=str(server.socket_directory), dbname=database, user="postgres")


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEBIAN_PROGRAMS", module.DEBIAN_PROGRAMS / "missing")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(PostgresUnavailable, match="apt-get install postgresql"):
        find_binaries()
