"""Ad-hoc SQL on SQLite: the file is opened read-only, and what would open another one is not compiled."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from sqlalchemy.engine import make_url

from nightmill.backbone.adhoc.answer import Answer, refused
from nightmill.backbone.adhoc.upload import Upload
from nightmill.backbone.database import Database
from nightmill.errors import DatabaseAway, RequestRefused

_FORBIDDEN_ACTIONS: Final = {sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_CREATE_VTABLE}
"""Each opens files, or hands memory to what does; ``VACUUM INTO`` is an ATTACH in disguise."""
_PRAGMAS: Final = {
    "database_list",
    "foreign_key_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "table_info",
    "table_list",
    "table_xinfo",
}
"""Those that only tell; any other may change the file, the schema, or what the connection is allowed."""
_FORBIDDEN_FUNCTIONS: Final = {"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"}


def run(database: Database, text: str, uploads: Sequence[Upload]) -> Answer:
    """Run statements on a read-only connection of their own; see :func:`nightmill.backbone.adhoc.run_sql`."""
    file = Path(make_url(database.url).database or "").absolute()
    try:
        connection = sqlite3.connect(
            f"{file.as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=database.busy_seconds
        )
        try:
            connection.execute("SELECT count(*) FROM sqlite_master")
        except sqlite3.Error:
            connection.close()
            raise
    except sqlite3.OperationalError as error:
        raise DatabaseAway(f"the database {file} cannot be opened: {error}") from error
    with closing(connection):
        try:
            for upload in uploads:
                _load(connection, upload)
            connection.set_authorizer(_authorize)
            return _run(connection, text)
        except (sqlite3.Error, sqlite3.Warning) as error:
            said = str(error)
            raise refused(said, forbidden="not authorized" in said or "readonly" in said) from error


def _authorize(action: int, first: str | None, second: str | None, _database: str | None, _trigger: str | None) -> int:
    if action in _FORBIDDEN_ACTIONS:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_PRAGMA and first not in _PRAGMAS:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION and second in _FORBIDDEN_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _load(connection: sqlite3.Connection, upload: Upload) -> None:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE lower(name) = lower(?)", (upload.name,)).fetchone():
        raise RequestRefused(
            f"the backbone has a table {upload.name!r} of its own", remedy="give the list another name"
        )
    connection.execute(upload.definition)
    places = ", ".join("?" for _ in upload.columns)
    connection.execute("BEGIN")
    connection.executemany(f'INSERT INTO temp."{upload.name}" VALUES ({places})', upload.rows)
    connection.execute("COMMIT")


def _run(connection: sqlite3.Connection, text: str) -> Answer:
    answer = Answer((), ())
    for statement in _statements(text):
        cursor = connection.execute(statement)
        if cursor.description is not None:
            answer = Answer([column[0] for column in cursor.description], cursor.fetchall())
    return answer


def _statements(text: str) -> Iterator[str]:
    """Split at the semicolons that end a statement, and not at those inside of text, comments or triggers."""
    statement = ""
    for part in text.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip(" \t\r\n;"):
        yield statement[:-1]
