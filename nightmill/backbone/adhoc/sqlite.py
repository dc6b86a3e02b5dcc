"""Ad-hoc SQL on SQLite: the file is opened read-only, and what would open another one is not compiled."""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from nightmill.backbone.adhoc.answer import TEMPORARY_BYTES, Answer, Limit, refused
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


_COMMENTS: Final = re.compile(r"\s+|--[^\n]*(?=\n|;$)|/\*.*?\*/", re.DOTALL)
_LONGEST_BYTES: Final = 64 * 2**20
"""Of one value: ``zeroblob(1e9)`` would be made in memory."""
_STEPS: Final = 100_000
"""Of SQLite's machine between two looks at the limits: some milliseconds."""


@contextmanager
def asked(database: Database, text: str, uploads: Sequence[Upload], limit: Limit) -> Iterator[Answer]:
    """Run statements on a read-only connection of their own; see :func:`nightmill.backbone.adhoc.asked`."""
    file = Path(database.address.database or "").absolute()
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
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_BYTES)
            connection.set_progress_handler(lambda: _exceeds(limit), _STEPS)
            connection.set_authorizer(_authorize)
            yield _answer(connection, text)
        except (sqlite3.Error, sqlite3.Warning) as error:
            if limit.left <= 0:
                raise limit.refused() from error
            said = str(error)
            if said == "interrupted":
                said = f"it needs more than {TEMPORARY_BYTES / 2**30:g} GiB of temporary disk; narrow it"
            raise refused(said, forbidden="not authorized" in said or "readonly" in said) from error


def _exceeds(limit: Limit) -> bool:
    """Whether a request has to be ended."""
    return limit.left <= 0 or _temporary_bytes() > TEMPORARY_BYTES


def _temporary_bytes() -> int:
    """Return what this process holds in temporary files of SQLite's, which have no name any more once they are open."""
    total = 0
    for number in os.listdir("/proc/self/fd"):  # noqa: PTH208 - at 1 kHz
        with suppress(OSError):
            if "/etilqs_" in os.readlink(f"/proc/self/fd/{number}"):  # noqa: PTH115
                total += os.fstat(int(number)).st_size
    return total


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
    connection.executemany(f'INSERT INTO temp."{upload.name}" VALUES ({places})', upload.rows)  # noqa: S608 - a checked name
    connection.execute("COMMIT")


def _answer(connection: sqlite3.Connection, text: str) -> Answer:
    answer = Answer((), ())
    for statement in _statements(text):
        for _ in answer.rows:
            pass
        cursor = connection.execute(statement)
        described = cursor.description
        answer = Answer([column[0] for column in described], cursor) if described else Answer((), ())
    return answer


def _statements(text: str) -> Iterator[str]:
    """Split at the semicolons that end a statement, and not at those inside of text, comments or triggers."""
    statement = ""
    for part in text.split(";"):
        statement += part + ";"
        if sqlite3.complete_statement(statement):
            if _says_something(statement):
                yield statement
            statement = ""
    if _says_something(statement):
        yield statement[:-1]


def _says_something(statement: str) -> bool:
    return _COMMENTS.sub("", statement) not in ("", ";")
