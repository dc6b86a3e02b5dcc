"""Ad-hoc SQL ends in time, holds no more than is read, and tells no secret."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
from sqlalchemy import text

from nightmill.backbone.adhoc import asked
from nightmill.backbone.adhoc.statements import split
from nightmill.backbone.database import Database
from nightmill.errors import RequestRefused
from tests.backbone.test_adhoc import Console, sql, unchanging
from tests.support.postgres import running_server

__all__ = ["sql", "unchanging"]


def test_the_server_sees_no_password(tmp_path: Path) -> None:
    with running_server({"log_statement": "all", "log_min_error_statement": "error"}) as server:
        database = Database(server.url(server.create()))
        database.create()
        console = Console(database, tmp_path)
        assert console("SELECT 1").rows == [(1,)]
        log = (server.socket_directory / "log").read_text()
        database.close()
    assert "PASSWORD 'SCRAM-SHA-256$" in log
    assert json.loads(console.reader_file.read_text())["password"] not in log


LONG = {
    "sqlite": [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        "CREATE TEMP TABLE t AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
    ],
    "postgresql": [
        "SELECT pg_sleep(100)",
        "SET statement_timeout = 0; SELECT pg_sleep(100)",
        "SELECT set_config('statement_timeout', '0', true), pg_sleep(100)",
        "DO $$ BEGIN PERFORM set_config('statement_timeout', '0', false); PERFORM pg_sleep(100); END $$",
        "SELECT pg_sleep(1); SELECT pg_sleep(1); SELECT pg_sleep(1); SELECT pg_sleep(100)",
        "SELECT generate_series(1, 1000000000)",
        "CREATE TEMP TABLE t AS SELECT generate_series(1, 1000000000)",
    ],
}


@pytest.mark.parametrize(
    ("unchanging", "statement"),
    [(name, statement) for name, statements in LONG.items() for statement in statements],
    indirect=["unchanging"],
)
def test_no_statement_outlasts_its_time(unchanging: Console, statement: str) -> None:
    with (
        pytest.raises(RequestRefused, match=r"took longer than 1.5 seconds.*with --seconds"),
        asked(unchanging.database, statement, reader_file=unchanging.reader_file, seconds=1.5) as answer,
    ):
        for _ in answer.rows:
            pass


@pytest.mark.req("B26")
def test_rows_come_as_they_are_read(sql: Console) -> None:
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n LIMIT 100000000"
    if not sql.database.is_sqlite:
        numbers = "SELECT generate_series(1, 100000000)"
    with asked(sql.database, numbers, reader_file=sql.reader_file, seconds=1000) as answer:
        assert [row[0] for row in islice(answer.rows, 1000)] == [*range(1, 1001)]
    assert sql("SELECT name FROM file WHERE name = 'none'; -- nothing more;").columns == ["name"]


@pytest.mark.parametrize("unchanging", ["sqlite", "postgresql"], indirect=True)
def test_temporary_files_have_a_limit(unchanging: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    if unchanging.database.is_sqlite:
        monkeypatch.setattr("nightmill.backbone.adhoc.sqlite.TEMPORARY_BYTES", 2**20)
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 10000000) SELECT i FROM n"
        big = f"SELECT printf('%0100d', i) AS t FROM ({numbers}) ORDER BY 1 DESC"
        with pytest.raises(RequestRefused, match="too big"):
            unchanging("SELECT zeroblob(1000000000)")
    else:
        [[role, limit]] = unchanging("SELECT current_user, current_setting('temp_file_limit')").rows
        assert limit == "10GB"
        with unchanging.database.writing() as session:
            session.execute(text(f"ALTER ROLE {role} SET temp_file_limit = '1MB'"))
        big = "SELECT lpad(i::text, 100) AS t FROM generate_series(1, 1000000) AS n(i) ORDER BY 1"
    with pytest.raises(RequestRefused, match=r"temporary (disk|file size)"):
        unchanging(big)


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("", []),
        (" ; -- a;b\n/* ;/* ; */;*/ ;", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT ';'; SELECT \";\"", ["SELECT ';'", ' SELECT ";"']),
        ("SELECT 'it''s;'; x", ["SELECT 'it''s;'", " x"]),
        (r"SELECT E'\';'; x", [r"SELECT E'\';'", " x"]),
        (r"SELECT size'\'; x", [r"SELECT size'\'", " x"]),
        ("DO $$ a; $b$ c; $$; x", ["DO $$ a; $b$ c; $$", " x"]),
        ("DO $é$ a; $$ c; $é$; x", ["DO $é$ a; $$ c; $é$", " x"]),
        ("SELECT a$b$ , $1; x$b$", ["SELECT a$b$ , $1", " x$b$"]),
        ("SELECT 'never ends; x", ["SELECT 'never ends; x"]),
        ("SELECT 1 /* never ; /* ends */", ["SELECT 1 /* never ; /* ends */"]),
    ],
)
def test_postgresql_is_split_where_statements_end(text: str, statements: list[str]) -> None:
    assert split(text) == statements
