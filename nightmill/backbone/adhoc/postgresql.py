"""Ad-hoc SQL on PostgreSQL: asked as a login role that may read every table and make temporary ones, and no more."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from nightmill.backbone.adhoc.answer import Answer, refused
from nightmill.backbone.adhoc.upload import Upload
from nightmill.backbone.database import Database, safe_url
from nightmill.errors import DatabaseAway, RequestRefused

_LARGE_OBJECTS: Final = (
    "lo_creat(integer)",
    "lo_create(oid)",
    "lo_from_bytea(oid, bytea)",
    "lo_put(oid, bigint, bytea)",
    "lowrite(integer, bytea)",
)
"""Functions with which anybody may fill the database, unless they are taken from everybody."""
_FORBIDDEN: Final = (psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported)


@dataclass(frozen=True)
class Reader:
    """The role that ad-hoc SQL is asked as."""

    role: str
    password: str


def run(database: Database, text: str, uploads: Sequence[Upload], reader_file: Path) -> Answer:
    """Run statements as the reader; see :func:`nightmill.backbone.adhoc.run_sql`."""
    reader = _read(reader_file)
    if reader is None:
        raise RequestRefused(
            f"ad-hoc SQL has no role to ask {safe_url(database.url)} as: there is no {reader_file}",
            remedy="run 'nightmill init' in the site's folder",
        )
    with _connected(database, reader) as connection:
        try:
            for upload in uploads:
                _load(connection, upload)
            return _answer(connection.execute(text.encode()))
        except psycopg.Error as error:
            if connection.broken:
                raise
            said = error.diag.message_primary or str(error)
            raise refused(said, forbidden=isinstance(error, _FORBIDDEN)) from error


def ensure_reader(database: Database, reader_file: Path) -> None:
    """Make the site's reader, or mend it; see :func:`nightmill.backbone.adhoc.ensure_reader`."""
    reader = _read(reader_file)
    if reader is None:
        reader = Reader(f"nightmill_reader_{secrets.token_hex(4)}", secrets.token_urlsafe(24))
        _write(reader_file, reader)
    elif _works(database, reader):
        return
    with _connected(database, None) as connection:
        statements = _statements(connection, reader)
        try:
            with connection.transaction():
                for statement in statements:
                    connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege as error:
            lines = "".join(f"\n    {statement.as_string(connection)};" for statement in statements)
            raise RequestRefused(
                f"the user {connection.info.user!r} may not make the role that ad-hoc SQL is asked as: "
                f"{error.diag.message_primary}; an administrator of the database can, with{lines}\n",
                remedy="then run 'nightmill init' again; all but 'nightmill sql' works without it",
            ) from error


def _statements(connection: psycopg.Connection[Any], reader: Reader) -> list[sql.Composed]:
    """Write what lets the reader read today's tables and tomorrow's; may be carried out again."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s), has_schema_privilege('public', 'public', 'CREATE'), "
        "(SELECT rolsuper FROM pg_roles WHERE rolname = current_user)",
        (reader.role,),
    ).fetchone()
    exists, open_to_all, is_administrator = row or (False, False, False)
    texts = [
        "{verb} ROLE {role} LOGIN NOINHERIT PASSWORD {password}",
        "GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role}",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT SELECT ON TABLES TO {role}",
    ]
    if open_to_all:  # as databases were before PostgreSQL 15
        texts.append("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    if is_administrator:
        texts += [f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC" for function in _LARGE_OBJECTS]
    return [
        sql.SQL(text).format(
            verb=sql.SQL("ALTER" if exists else "CREATE"),
            role=sql.Identifier(reader.role),
            password=sql.Literal(reader.password),
            database=sql.Identifier(connection.info.dbname),
            owner=sql.Identifier(connection.info.user),
        )
        for text in texts
    ]


def _works(database: Database, reader: Reader) -> bool:
    try:
        with _connected(database, reader) as connection:
            row = connection.execute(
                "SELECT bool_and(has_table_privilege(c.oid, 'SELECT')) "
                "AND has_database_privilege(current_database(), 'TEMPORARY') "
                "FROM pg_class AS c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v')"
            ).fetchone()
            return row == (True,)
    except DatabaseAway:
        return False


def _load(connection: psycopg.Connection[Any], upload: Upload) -> None:
    taken = connection.execute(
        "SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace AND lower(relname) = lower(%s)",
        (upload.name,),
    )
    if taken.rowcount:
        raise RequestRefused(
            f"the backbone has a table {upload.name!r} of its own", remedy="give the list another name"
        )
    connection.execute(upload.definition.encode())
    with connection.cursor().copy(sql.SQL("COPY pg_temp.{} FROM STDIN").format(sql.Identifier(upload.name))) as copy:
        for row in upload.rows:
            copy.write_row(row)


def _answer(cursor: psycopg.Cursor[Any]) -> Answer:
    answer = Answer((), ())
    while True:
        if cursor.description is not None:
            answer = Answer([column.name for column in cursor.description], cursor.fetchall())
        if not cursor.nextset():
            return answer


@contextmanager
def _connected(database: Database, reader: Reader | None) -> Iterator[psycopg.Connection[Any]]:
    """Connect as the reader, or as the backbone's own user, each statement a transaction of its own."""
    url = make_url(database.url)
    if reader is not None:
        url = url.set(username=reader.role, password=reader.password)
    _, options = url.get_dialect()().create_connect_args(url)
    try:
        with psycopg.connect(**options, autocommit=True) as connection:
            yield connection
    except psycopg.OperationalError as error:
        mend = "" if reader is None else ", or run 'nightmill init' in the site's folder, which mends the role"
        raise DatabaseAway(
            f"the database {safe_url(str(url))} cannot be used now: {str(error).strip()}",
            remedy=f"try again when it is back{mend}",
        ) from error


def _read(path: Path) -> Reader | None:
    try:
        return Reader(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise RequestRefused(
            f"{path} does not name a role and its password: {error}", remedy="remove it and run 'nightmill init'"
        ) from error


def _write(path: Path, reader: Reader) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(asdict(reader), stream)
