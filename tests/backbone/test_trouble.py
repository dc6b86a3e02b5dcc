"""What is the matter with a database is told from what its driver says: each with its own remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError

from nightmill.backbone.database import Database
from nightmill.errors import (
    DatabaseAway,
    DatabaseDenied,
    DatabaseFull,
    DatabaseIncomplete,
    DatabaseReadOnly,
    ServiceError,
)
from tests.support.postgres import PostgresServer

FULL = (
    "DO $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$"
)


def run(database: Database, *statements: str) -> None:
    with database.writing() as session:
        for statement in statements:
            session.execute(text(statement))


def error_of(database: Database, *statements: str) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        run(database, *statements)
    return caught.value


def on_connect(database: Database, statement: str) -> None:
    def told(connection: Any, _record: object) -> None:
        connection.execute(statement)

    event.listen(database.engine, "connect", told)


def test_a_table_that_is_not_there_is_no_reason_to_wait(database: Database) -> None:
    run(database, "DROP TABLE audit")
    error = error_of(database, "SELECT * FROM audit")
    assert type(error) is DatabaseIncomplete
    assert not error.retry_may_help
    assert "lacks something or is damaged:" in error.message
    assert "audit" in error.message
    assert "run 'nightmill init'" in error.remedy


def test_no_room_and_read_only_are_told_apart_on_sqlite(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'nightmill.db'}"
    made = Database(url)
    made.create()
    made.close()
    for pragma, kind, told in (
        ("PRAGMA max_page_count = 1", DatabaseFull, "has no room left: database or disk is full"),
        ("PRAGMA query_only = 1", DatabaseReadOnly, "cannot be written: attempt to write a readonly database"),
    ):
        database = Database(url)
        on_connect(database, pragma)
        error = error_of(database, "CREATE TABLE more (x)", "INSERT INTO more VALUES (zeroblob(1000000))")
        database.close()
        assert (type(error), told in error.message, error.exit_code) == (kind, True, 3), error
        assert "nothing was written" in error.remedy


def test_no_room_and_read_only_are_told_apart_on_postgresql(postgres_url: str) -> None:
    database = Database(postgres_url)
    assert type(error_of(database, FULL)) is DatabaseFull
    database.close()
    database = Database(f"{postgres_url}&options=-c%20default_transaction_read_only%3Don")
    error = error_of(database, "CREATE TABLE more (x int)")
    assert type(error) is DatabaseReadOnly
    assert "name the primary" in error.remedy
    database.close()


@pytest.mark.parametrize(
    ("change", "kind", "told"),
    [
        ({"database": "gone"}, DatabaseIncomplete, 'database "gone" does not exist'),
        ({"username": "stranger"}, DatabaseDenied, 'role "stranger" does not exist'),
        ({"username": "crowd"}, DatabaseAway, "too many connections for role"),
        ({"username": "guest"}, DatabaseDenied, "permission denied for table kept"),
    ],
)
def test_who_is_not_let_in_does_not_wait_and_who_finds_no_place_does(
    postgres: PostgresServer, postgres_url: str, change: dict[str, str], kind: type[ServiceError], told: str
) -> None:
    administrator = Database(postgres_url)
    user = change.get("username", "")
    if user in ("crowd", "guest"):
        limit = "CONNECTION LIMIT 0" if user == "crowd" else ""
        run(administrator, f"CREATE ROLE {user} LOGIN {limit}", "CREATE TABLE kept (x int)")
    database = Database(
        administrator.engine.url.set(**change).render_as_string(hide_password=False)  # type: ignore[arg-type]
    )
    error = error_of(database, "SELECT * FROM kept")
    assert type(error) is kind
    assert told in error.message
    database.close()
    if user in ("crowd", "guest"):
        run(administrator, f"DROP ROLE {user}")
    administrator.close()


def test_a_wrong_password_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    said = 'connection failed: FATAL:  password authentication failed for user "ada"'
    database = Database("postgresql+psycopg://ada:secret@host/nightmill")

    def refuse() -> None:
        raise OperationalError("", {}, Exception(said))

    monkeypatch.setattr(database.engine, "connect", refuse)
    error = error_of(database)
    assert type(error) is DatabaseDenied
    assert "ada:***@host" in error.message


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    file = tmp_path / "nightmill.db"
    file.write_text("these are notes, and no database at all\n" * 100)
    database = Database(f"sqlite:///{file}")
    error = error_of(database, "SELECT 1")
    assert (type(error), "file is not a database" in error.message) == (DatabaseIncomplete, True)
    database.close()


def test_a_defect_of_the_program_is_not_taken_for_trouble(database: Database) -> None:
    with pytest.raises(Exception, match="syntax error"):
        run(database, "SELEC 1")
    database.close()


def test_a_server_that_does_not_answer_is_not_waited_for_by_the_minute() -> None:
    database = Database("postgresql+psycopg://ada@host/nightmill?connect_timeout=3")
    _, given = database.engine.dialect.create_connect_args(database.engine.url)
    assert given["connect_timeout"] == "3"
