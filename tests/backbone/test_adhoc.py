from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import func, inspect, select, text

from nightmill.backbone.adhoc import Answer, ensure_reader, run_sql
from nightmill.backbone.database import Database
from nightmill.backbone.schema import Base, FileRow
from nightmill.errors import DatabaseAway, RequestRefused
from nightmill.model.access import Access
from tests.backbone.files import add_files, new_file
from tests.support.postgres import PostgresServer


class Console:
    """What an operator has: the database, and a role of its own to ask it as."""

    seconds = 100.0

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.reader_file = folder / ".nightmill" / "reader.json"
        ensure_reader(database, self.reader_file)

    def __call__(self, statement: str, **lists: Path) -> Answer:
        return run_sql(self.database, statement, reader_file=self.reader_file, uploads=lists, seconds=self.seconds)

    def rows(self, statement: str, **lists: Path) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self(statement, **lists).rows]


@pytest.fixture
def sql(database: Database, tmp_path: Path) -> Console:
    with database.writing() as session:
        add_files(session, [new_file(f"{n}.fits", data_id={"exposure": n}) for n in range(1, 6)])
    return Console(database, tmp_path)


@pytest.mark.req("B26", "B57")
def test_any_table_and_any_view_can_be_asked(sql: Console) -> None:
    inspector = inspect(sql.database.engine)
    names = [*inspector.get_table_names(), *inspector.get_view_names()]
    assert {*Base.metadata.tables, "file_location", "lineage", "current_calibration", "job_status"} <= set(names)
    for name in names:
        assert sql(f"SELECT count(*) AS n FROM {name}").columns == ["n"]
    answer = sql("SELECT file_name, store, path FROM file_location WHERE file_name = '3.fits'")
    assert answer.columns == ["file_name", "store", "path"]
    assert [tuple(row) for row in answer.rows] == [("3.fits", "backbone", "raw/3.fits")]


@pytest.mark.req("B56")
def test_temporary_tables_and_several_statements(sql: Console) -> None:
    assert sql.rows(
        "CREATE TEMP TABLE wanted AS SELECT exposure FROM file WHERE exposure > 3;\n"
        "INSERT INTO wanted VALUES (1); -- a comment; with a semicolon\n"
        "SELECT name FROM file JOIN wanted USING (exposure) WHERE name <> ';' ORDER BY name"
    ) == [("1.fits",), ("4.fits",), ("5.fits",)]
    assert sql("CREATE TEMP TABLE empty (a INTEGER)").columns == ()


@pytest.mark.req("B56")
def test_a_long_list_is_joined(sql: Console, tmp_path: Path) -> None:
    exposures = tmp_path / "exposures.txt"
    exposures.write_text("".join(f"{number}\n" for number in range(4, 100_004)))
    assert sql.rows("SELECT count(*), min(value), max(value) FROM l", l=exposures) == [(100_000, 4, 100_003)]
    assert sql.rows("SELECT name FROM file JOIN l ON exposure = value ORDER BY 1", l=exposures) == [
        ("4.fits",),
        ("5.fits",),
    ]


def test_columns_of_a_list_have_the_types_of_their_values(sql: Console, tmp_path: Path) -> None:
    table = tmp_path / "seeing.csv"
    table.write_text('exposure,seeing,note,code\n1,0.7,"good, clear",007\n2,,,12\n')
    assert sql.rows("SELECT name, seeing + 1, note, code FROM file JOIN t USING (exposure) ORDER BY 1", t=table) == [
        ("1.fits", 1.7, "good, clear", "007"),
        ("2.fits", None, None, "12"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no-name", "a\n1\n", "'no-name' cannot name a table"),
        ("file", "a\n1\n", "the backbone has a table 'file' of its own"),
        ("File_Location", "a\n1\n", "the backbone has a table 'File_Location' of its own"),
        ("t", "", "is empty"),
        ("t", "a,b c\n1,2\n", "'b c' cannot name a column"),
        ("t", "a,A\n1,2\n", "names a column twice"),
        ("t", "a,b\n1,2\n3\n", "row 3 has 1 values for 2 columns"),
        ("t", None, "cannot be read"),
    ],
)
def test_a_bad_list_is_refused(sql: Console, tmp_path: Path, name: str, content: str | None, message: str) -> None:
    table = tmp_path / "table.csv"
    if content is not None:
        table.write_text(content)
    with pytest.raises(RequestRefused, match=message):
        sql("SELECT 1", **{name: table})


def test_wrong_sql_is_said_to_be_wrong(sql: Console) -> None:
    with pytest.raises(RequestRefused, match=r"cannot carry out the SQL.*nam"):
        sql("SELECT nam FROM file")
    with pytest.raises(RequestRefused, match="cannot carry out the SQL"):
        sql("SELEKT 1")
    for odd in ("SELECT '\udcff'", "SELECT 1\0; DELETE FROM file"):
        with pytest.raises(RequestRefused, match="bytes that are not UTF-8, or zero bytes"):
            sql(odd)


EVERYWHERE = [
    "DELETE FROM file",
    "INSERT INTO audit (id, at, who, verb, subject, why, detail) VALUES (1, '2026-01-01', 'x', 'x', 'x', '', '{}')",
    "UPDATE file SET name = 'x'",
    "DROP TABLE replica",
    "DROP VIEW lineage",
    "COMMIT; DROP TABLE replica",
    "ROLLBACK; DELETE FROM replica",
    "BEGIN; DELETE FROM replica; COMMIT",
    "CREATE TABLE mine (a INTEGER)",
    "CREATE INDEX mine ON file (name)",
    "CREATE VIEW mine AS SELECT 1",
    "CREATE TEMP TABLE trap (a INTEGER); WITH gone AS (SELECT 1) DELETE FROM replica",
]
SQLITE = [
    "ATTACH '{folder}/mine.db' AS mine; CREATE TABLE mine.t (a)",
    "ATTACH 'file:{file}?mode=rw' AS again; DELETE FROM again.replica",
    "VACUUM INTO '{folder}/mine.db'",
    "PRAGMA writable_schema = 1; UPDATE sqlite_master SET sql = ''",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA temp_store_directory = '/'",
    "PRAGMA user_version = 7",
    "SELECT load_extension('{folder}/mine.so')",
    "SELECT fts3_tokenizer('simple', x'00')",
    "CREATE VIRTUAL TABLE temp.mine USING fts5(a)",
    "DETACH main",
    "CREATE TEMP TABLE t (a); CREATE TEMP TRIGGER e AFTER INSERT ON t BEGIN DELETE FROM replica; END;"
    " INSERT INTO t VALUES (1)",
    "CREATE TEMP VIEW v AS SELECT * FROM replica; CREATE TEMP TRIGGER e INSTEAD OF DELETE ON v"
    " BEGIN DELETE FROM main.replica WHERE id = OLD.id; END; DELETE FROM v",
]
POSTGRESQL = [
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres; DROP TABLE replica",
    "RESET ROLE; DROP TABLE replica",
    "RESET SESSION AUTHORIZATION; DROP TABLE replica",
    "SET default_transaction_read_only = off; SET transaction_read_only = off; DELETE FROM replica",
    "CREATE FUNCTION mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION pg_temp.mine() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM public.replica';"
    " SELECT pg_temp.mine()",
    "DO $$ BEGIN DELETE FROM replica; END $$",
    "CREATE FUNCTION pg_temp.e() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN DELETE FROM replica; RETURN 1; END $$;"
    " CREATE TEMP TABLE t (a INTEGER DEFAULT pg_temp.e(), b INTEGER); INSERT INTO t (b) VALUES (1)",
    "COPY file TO '{folder}/mine.csv'",
    "COPY file TO PROGRAM 'cat > {folder}/mine.csv'",
    "COPY replica FROM PROGRAM 'true'",
    "SELECT lo_import('/etc/hostname')",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT lo_create(0)",
    "SELECT nextval('file_id_seq')",
    "SELECT setval('file_id_seq', 1)",
    "CREATE SCHEMA mine",
    "CREATE EXTENSION hstore",
    "TRUNCATE replica",
    "SELECT * FROM file FOR UPDATE",
    "LOCK TABLE file",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "ALTER TABLE file OWNER TO CURRENT_USER",
    "ALTER SYSTEM SET fsync = off",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT rolpassword FROM pg_authid",
    "PREPARE gone AS DELETE FROM replica; EXECUTE gone",
    "VACUUM",
    "DISCARD ALL",
    "GRANT ALL ON file TO PUBLIC",
    "DROP OWNED BY CURRENT_USER",
    "REASSIGN OWNED BY CURRENT_USER TO CURRENT_USER",
    "ALTER ROLE CURRENT_USER PASSWORD 'other'",
    "ALTER USER CURRENT_USER WITH ENCRYPTED PASSWORD NULL",
    "ALTER ROLE CURRENT_USER SET search_path = pg_temp",
    "ALTER ROLE CURRENT_USER IN DATABASE postgres SET statement_timeout = 1",
    "ALTER ROLE CURRENT_USER RESET ALL",
    "COMMIT; ALTER ROLE CURRENT_USER PASSWORD 'other'",
    "COMMIT AND CHAIN; ROLLBACK; BEGIN READ WRITE; ALTER ROLE CURRENT_USER PASSWORD 'other'; COMMIT",
    "SET TRANSACTION READ WRITE",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; ALTER ROLE CURRENT_USER PASSWORD 'other'",
    "SET transaction_read_only = off; ALTER ROLE CURRENT_USER PASSWORD 'other'",
    "SELECT set_config('transaction_read_only', 'off', true)",
    "DO $$ BEGIN CREATE TEMP TABLE t (a INTEGER); ALTER ROLE CURRENT_USER PASSWORD 'other'; END $$",
    "DO $$ BEGIN COMMIT; ALTER ROLE CURRENT_USER PASSWORD 'other'; END $$",
    "DO $$ BEGIN EXECUTE 'ALTER ROLE CURRENT_USER PASSWORD NULL'; END $$",
    "CREATE FUNCTION pg_temp.e() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN"
    " ALTER ROLE CURRENT_USER PASSWORD 'other'; RETURN 1; END $$; CREATE TEMP TABLE t AS SELECT pg_temp.e()",
    "CREATE PROCEDURE pg_temp.e() LANGUAGE sql AS 'SELECT 1'",
    "SELECT query_to_xml('ALTER ROLE CURRENT_USER PASSWORD NULL', true, true, 'x')",
    "CREATE TEMP TABLE t AS SELECT lo_create(0)",
    "CREATE TEMP TABLE t (a OID); INSERT INTO t VALUES (lo_creat(-1))",
    "DO $$ BEGIN PERFORM lo_from_bytea(0, 'x'); END $$",
    "CREATE TEMP VIEW pg_largeobject_metadata AS SELECT 1 AS lomowner; SELECT lo_create(0)",
    "EXPLAIN ANALYZE SELECT lo_create(0)",
    "COPY (SELECT 1) TO STDOUT",
    "COMMENT ON TABLE file IS 'mine'",
    "SECURITY LABEL ON ROLE CURRENT_USER IS 'x'",
    "CREATE SUBSCRIPTION s CONNECTION 'x' PUBLICATION p",
    "CREATE EVENT TRIGGER e ON sql_drop EXECUTE FUNCTION f()",
]


@pytest.mark.req("B26")
@pytest.mark.parametrize(
    ("unchanging", "statement"),
    [("sqlite", statement) for statement in EVERYWHERE + SQLITE]
    + [("postgresql", statement) for statement in EVERYWHERE + POSTGRESQL],
    indirect=["unchanging"],
)
def test_nothing_can_be_changed(unchanging: Console, statement: str) -> None:
    sql = unchanging
    before = _everything(sql)
    file = sql.database.engine.url.database
    with pytest.raises(RequestRefused, match=r"the database (refused|cannot carry out the SQL)"):
        sql(statement.format(folder=sql.folder, file=file) if "{f" in statement else statement)
    assert _everything(sql) == before


@pytest.fixture(scope="module")
def unchanging(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """Give one console to many tests, each of which looks that it left everything as it was."""
    folder = tmp_path_factory.mktemp("unchanging")
    if request.param == "sqlite":
        url = f"sqlite:///{folder / 'nightmill.db'}"
    else:
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.url(server.create())
    database = Database(url)
    database.create()
    with database.writing() as session:
        add_files(session, [new_file("1.fits"), new_file("2.fits")])
    yield Console(database, folder)
    database.close()


@pytest.mark.parametrize("statement", ["DELETE FROM file", "CREATE TABLE mine (a INTEGER)"])
def test_a_refusal_says_what_is_allowed(sql: Console, statement: str) -> None:
    with pytest.raises(RequestRefused, match=r"the database refused: .*reads every table and may make temporary ones"):
        sql(statement)


def _everything(sql: Console) -> dict[str, object]:
    """Tables, views and indexes with how many rows they have, files beside the database, and what no table shows."""
    database = sql.database
    inspector = inspect(database.engine)
    with database.reading() as session:
        found: dict[str, object] = {
            name: session.scalar(text(f"SELECT count(*) FROM {name}"))
            for name in [*inspector.get_table_names(), *inspector.get_view_names()]
        }
        found["here"] = sorted(sql.folder.iterdir())
        found["names"] = list(session.scalars(select(FileRow.name)))
        found["indexes"] = [
            index["name"] for name in inspector.get_table_names() for index in inspector.get_indexes(name)
        ]
        if not database.is_sqlite:
            found["roles"] = list(session.scalars(text("SELECT rolname FROM pg_roles WHERE rolsuper ORDER BY 1")))
            own = "SELECT rolname, a.rolpassword, rolconfig FROM pg_authid a JOIN pg_roles USING (rolname) ORDER BY 1"
            found["passwords and settings"] = [tuple(row) for row in session.execute(text(own))]
            found["settings"] = session.scalar(text("SELECT count(*) FROM pg_db_role_setting"))
            found["large objects"] = session.scalar(select(func.count()).select_from(text("pg_largeobject_metadata")))
            found["functions"] = session.scalar(text("SELECT count(*) FROM pg_proc"))
            found["rights"] = session.scalar(text("SELECT string_agg(relname || relacl::text, ' ') FROM pg_class"))
    return found


def test_the_reader_is_secret_and_made_once(postgres_url: str, tmp_path: Path) -> None:
    os.umask(Access.PRIVATE.umask)  # as whoever opens a site has it
    database = Database(postgres_url)
    database.create()
    console = Console(database, tmp_path)
    first = console.reader_file.read_text()
    assert console.reader_file.stat().st_mode & 0o777 == 0o600
    with database.writing() as session:
        session.execute(text("CREATE TABLE later (a INTEGER)"))
    ensure_reader(database, console.reader_file)
    assert console.reader_file.read_text() == first
    assert console("SELECT count(*) FROM later").rows == [(0,)]
    [[role]] = console("SELECT current_user").rows
    assert role.startswith("nightmill_reader_")
    database.close()


def test_a_reader_whose_role_is_gone_is_mended(postgres_url: str, tmp_path: Path) -> None:
    database = Database(postgres_url)
    database.create()
    console = Console(database, tmp_path)
    [[role]] = console("SELECT current_user").rows
    with database.writing() as session:
        session.execute(text(f"DROP OWNED BY {role}"))
        session.execute(text(f"DROP ROLE {role}"))
    with pytest.raises(DatabaseAway, match=rf"(?s){role}.*run 'nightmill init'"):
        console("SELECT 1")
    ensure_reader(database, console.reader_file)
    assert console("SELECT count(*) FROM file").rows == [(0,)]
    database.close()


def test_without_the_right_to_make_roles_the_administrator_is_told_what_to_run(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    admin, name = postgres.url("postgres").replace("+psycopg", ""), postgres.create()
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute("CREATE ROLE plain LOGIN")
        connection.execute(f"ALTER DATABASE {name} OWNER TO plain")
    database = Database(postgres.url(name, "plain"))
    database.create()
    reader_file = tmp_path / "reader.json"
    with pytest.raises(RequestRefused, match="the user 'plain' may not make the role") as caught:
        ensure_reader(database, reader_file)
    statements = [line.strip() for line in str(caught.value).splitlines() if line.startswith("    ")]
    assert statements[0].startswith('CREATE ROLE "nightmill_reader_')
    with psycopg.connect(postgres.url(name).replace("+psycopg", ""), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())
    ensure_reader(database, reader_file)
    assert run_sql(database, "SELECT count(*) FROM file", reader_file=reader_file, seconds=100).rows == [(0,)]
    database.close()
    postgres.drop(name)


def test_without_a_reader_postgresql_is_not_asked(postgres_url: str, tmp_path: Path) -> None:
    with pytest.raises(RequestRefused, match=r"no role to ask postgresql.*run 'nightmill init'"):
        run_sql(Database(postgres_url), "SELECT 1", reader_file=tmp_path / "reader.json", seconds=100)


def test_a_database_that_is_not_there_is_away_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(DatabaseAway, match=r"none\.db cannot be opened"):
        run_sql(
            Database(f"sqlite:///{tmp_path / 'none.db'}"), "SELECT 1", reader_file=tmp_path / "reader.json", seconds=100
        )
    assert not (tmp_path / "none.db").exists()
    (tmp_path / "other.db").write_bytes(b"not a database" * 100)
    with pytest.raises((RequestRefused, sqlite3.DatabaseError), match="not a database"):
        run_sql(
            Database(f"sqlite:///{tmp_path / 'other.db'}"),
            "SELECT 1",
            reader_file=tmp_path / "reader.json",
            seconds=100,
        )
