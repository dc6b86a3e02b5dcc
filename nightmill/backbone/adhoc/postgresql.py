"""Ad-hoc SQL on PostgreSQL: asked as a login role that may read every table and make temporary ones, and no more.

A role has some rights that cannot be taken from it: to its own password and settings, and to large objects before
PostgreSQL 16. So every statement goes to the server by itself, which refuses two in one, and in a read-only transaction
that no statement can leave for another one. Where the server refuses because the statement defines something, and says
that it is one of the definitions that temporary tables need, it is carried out in a transaction that is not read-only.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psycopg
from psycopg import sql

from nightmill.backbone.adhoc.answer import TEMPORARY_BYTES, Answer, Limit, refused
from nightmill.backbone.adhoc.statements import split
from nightmill.backbone.adhoc.upload import Upload
from nightmill.backbone.database import Database, safe_url
from nightmill.errors import DatabaseAway, RequestRefused

_TEMPORARY: Final = re.compile(
    "CREATE (TABLE( AS)?|VIEW|INDEX)|SELECT INTO|(ALTER|DROP|TRUNCATE) TABLE|DROP (VIEW|INDEX)",
)
"""Commands that may be carried out though they are not read-only: the reader has the right to them in pg_temp alone."""
_COMMAND: Final = re.compile("[A-Z]{2,}( [A-Z]{2,})*")
_HAS_LARGE_OBJECTS: Final = (
    "SELECT FROM pg_catalog.pg_largeobject_metadata WHERE pg_catalog.pg_get_userbyid(lomowner) = current_user LIMIT 1"
)
"""Before PostgreSQL 16 anybody may make some, in a read-only transaction, too."""
_FORBIDDEN: Final = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.ReadOnlySqlTransaction,
)


@dataclass(frozen=True)
class Reader:
    """The role that ad-hoc SQL is asked as."""

    role: str
    password: str


@contextmanager
def asked(
    database: Database, text: str, uploads: Sequence[Upload], limit: Limit, reader_file: Path
) -> Iterator[Answer]:
    """Run statements as the reader; see :func:`nightmill.backbone.adhoc.asked`."""
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
            answer = _answer(connection, text, limit)
            try:
                yield answer
            finally:
                if isinstance(answer.rows, Generator):
                    answer.rows.close()  # what nobody reads is ended
        except psycopg.errors.QueryCanceled as error:
            raise limit.refused() from error
        except psycopg.Error as error:
            if connection.broken:
                raise
            said = error.diag.message_primary or str(error)
            raise refused(said, forbidden=isinstance(error, _FORBIDDEN)) from error


def _answer(connection: psycopg.Connection[Any], text: str, limit: Limit) -> Answer:
    answer = Answer((), ())
    for statement in split(text):
        for _ in answer.rows:
            pass
        answer = _carry_out(connection, statement.encode(), limit)
    return answer


def _carry_out(connection: psycopg.Connection[Any], statement: bytes, limit: Limit) -> Answer:
    """Carry out one statement; where it has rows, when they are read.

    The time that is left is set anew each time: a statement can change that of the next one, never its own.
    """
    milliseconds = max(1, round(limit.left * 1000))
    connection.execute("SELECT pg_catalog.set_config('statement_timeout', %s, false)", (str(milliseconds),))
    if columns := _columns(connection, statement):
        return Answer(columns, _rows(connection, statement))
    try:
        with _alone(connection, "READ ONLY"):
            connection.execute(statement, prepare=True)
    except psycopg.errors.ReadOnlySqlTransaction as error:
        command = _COMMAND.search(error.diag.message_primary or "")
        if error.diag.context or not (command and _TEMPORARY.fullmatch(command[0])):
            raise  # it has a context where it comes from inside of a DO or a function
        with _alone(connection, "READ WRITE"):
            connection.execute(statement, prepare=True)
    return Answer((), ())


def _columns(connection: psycopg.Connection[Any], statement: bytes) -> list[str]:
    """Let the server say which columns a statement will have; none where it cannot be read, or is more than one."""
    if connection.pgconn.prepare(b"", statement).status != psycopg.pq.ExecStatus.COMMAND_OK:
        return []
    described = connection.pgconn.describe_prepared(b"")
    return [(described.fname(number) or b"").decode() for number in range(described.nfields)]


def _rows(connection: psycopg.Connection[Any], statement: bytes) -> Generator[Sequence[Any]]:
    with _alone(connection, "READ ONLY"), connection.cursor() as cursor:
        yield from cursor.stream(statement)


@contextmanager
def _alone(connection: psycopg.Connection[Any], access: str) -> Iterator[None]:
    """Open a transaction for one statement, and keep what it did to temporary tables; large objects are undone."""
    connection.execute(f"BEGIN {access}".encode())
    try:
        connection.execute("SELECT")  # after a first query, read-only cannot be changed to read-write
        yield
        if connection.execute(_HAS_LARGE_OBJECTS).rowcount:
            raise refused("it makes large objects", forbidden=True)
        connection.execute("COMMIT")
    finally:
        if connection.info.transaction_status is not psycopg.pq.TransactionStatus.IDLE and not connection.closed:
            connection.execute("ROLLBACK")


def ensure_reader(database: Database, reader_file: Path) -> None:
    """Make the site's reader, or mend it; see :func:`nightmill.backbone.adhoc.ensure_reader`."""
    reader = _read(reader_file)
    if reader is None:
        reader = Reader(f"nightmill_reader_{secrets.token_hex(4)}", secrets.token_urlsafe(24))
        _write(reader_file, reader)
    elif _works(database, reader):
        return
    with _connected(database, None) as connection:
        try:
            with connection.transaction():
                for statement in _statements(connection, reader):
                    connection.execute(statement)
        except psycopg.errors.InsufficientPrivilege as error:
            statements = _statements(connection, reader, administrator=True)
            lines = "".join(f"\n    {statement.as_string(connection)};" for statement in statements)
            raise RequestRefused(
                f"the user {connection.info.user!r} may not make the role that ad-hoc SQL is asked as: "
                f"{error.diag.message_primary}; an administrator of the database can, with{lines}\n",
                remedy="then run 'nightmill init' again; all but 'nightmill sql' works without it",
            ) from error


def _statements(
    connection: psycopg.Connection[Any], reader: Reader, *, administrator: bool = False
) -> list[sql.Composed]:
    """Write what lets the reader read today's tables and tomorrow's; may be carried out again.

    The server sees a verifier of the password, made here: statements are what it writes to its log.
    """
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s), has_schema_privilege('public', 'public', 'CREATE'), "
        "(SELECT rolsuper FROM pg_roles WHERE rolname = current_user)",
        (reader.role,),
    ).fetchone()
    exists, open_to_all, is_administrator = row or (False, False, False)
    texts = [
        "{verb} ROLE {role} LOGIN NOINHERIT PASSWORD {verifier}",
        "GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {role}",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
        "ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT SELECT ON TABLES TO {role}",
    ]
    if open_to_all:  # as databases were before PostgreSQL 15
        texts.append("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    if is_administrator or administrator:
        texts.append("ALTER ROLE {role} SET temp_file_limit = {temporary}")
    verifier = connection.pgconn.encrypt_password(reader.password.encode(), reader.role.encode(), b"scram-sha-256")
    return [
        sql.SQL(text).format(
            verb=sql.SQL("ALTER" if exists else "CREATE"),
            role=sql.Identifier(reader.role),
            verifier=sql.Literal(verifier.decode()),
            database=sql.Identifier(connection.info.dbname),
            owner=sql.Identifier(connection.info.user),
            temporary=sql.Literal(TEMPORARY_BYTES // 1024),
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


@contextmanager
def _connected(database: Database, reader: Reader | None) -> Iterator[psycopg.Connection[Any]]:
    """Connect as the reader, or as the backbone's own user, each statement a transaction of its own."""
    url = database.address
    if reader is not None:
        url = url.set(username=reader.role, password=reader.password)
    _, options = url.get_dialect()().create_connect_args(url)
    try:
        with psycopg.connect(**options, autocommit=True) as connection:
            yield connection
    except psycopg.OperationalError as error:
        mend = "" if reader is None else ", or run 'nightmill init' in the site's folder, which mends the role"
        raise DatabaseAway(
            f"the database {safe_url(database.url)} cannot be used now: {str(error).strip()}",
            remedy=f"try again when it is back{mend}",
        ) from error


def _read(path: Path) -> Reader | None:
    try:
        return Reader(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RequestRefused(
            f"{path}, which names the role that ad-hoc SQL is asked as, cannot be read: {error.strerror}",
            remedy="its owner can let a group read it, with access: group in nightmill.yaml and 'nightmill init'",
        ) from error
    except (ValueError, TypeError) as error:
        raise RequestRefused(
            f"{path} does not name a role and its password: {error}", remedy="remove it and run 'nightmill init'"
        ) from error


def _write(path: Path, reader: Reader) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(asdict(reader), stream)
