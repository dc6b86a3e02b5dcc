"""Ad-hoc SQL of operators: any table, temporary tables, uploaded lists, and no way to change the backbone.

That nothing can be changed is the database's doing, not that of a look at the text. SQLite opens the file read-only and
asks an authorizer before it compiles a statement, since ``ATTACH`` would open another file for writing. PostgreSQL sees
a login role of the site's own that may SELECT and make temporary tables, one statement at a time, each in a transaction
that is read-only but for the definition of temporary tables: what the role could do to itself is refused there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nightmill.backbone.adhoc import sqlite
from nightmill.backbone.adhoc.answer import Answer, Limit
from nightmill.backbone.adhoc.upload import read_upload
from nightmill.backbone.database import Database
from nightmill.errors import RequestRefused


@contextmanager
def asked(
    database: Database, text: str, *, reader_file: Path, uploads: Mapping[str, Path] | None = None, seconds: float
) -> Iterator[Answer]:
    """Run one statement or several, and give the answer of the last; its rows come as they are read, and only here.

    Parameters
    ----------
    database
        The backbone.
    text
        SQL of the database at hand, statements separated by semicolons, each a transaction of its own.
    reader_file
        Where :func:`ensure_reader` keeps the role that PostgreSQL is asked as; SQLite has no need of it.
    uploads
        Names of temporary tables to CSV files (the first line names the columns) or lists of values (``.txt``, one a
        line, in the column ``value``) that fill them.
    seconds
        How long all of it may take, until the last row is read. Whoever reads no further ends it.

    Raises
    ------
    RequestRefused
        Here or while rows are read: where the database refuses the statement (it would write, it is wrong, or it takes
        more time or temporary disk than it may), or where an upload cannot be read.
    DatabaseAway
        Where the database cannot be reached.
    """
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text):
        raise RequestRefused("the SQL holds bytes that are not UTF-8, or zero bytes", remedy="write it in UTF-8")
    tables = [read_upload(name, path) for name, path in (uploads or {}).items()]
    limit = Limit(seconds)
    if database.is_sqlite:
        with sqlite.asked(database, text, tables, limit) as answer:
            yield answer
        return
    from nightmill.backbone.adhoc import postgresql

    with postgresql.asked(database, text, tables, limit, reader_file) as answer:
        yield answer


def run_sql(
    database: Database, text: str, *, reader_file: Path, uploads: Mapping[str, Path] | None = None, seconds: float
) -> Answer:
    """Run statements as :func:`asked` does, and return all rows at once: for answers that are known to be small."""
    with asked(database, text, reader_file=reader_file, uploads=uploads, seconds=seconds) as answer:
        return Answer(answer.columns, [*answer.rows])


def ensure_reader(database: Database, reader_file: Path) -> None:
    """Make sure that ad-hoc SQL has its role on PostgreSQL, with its password in a file that others cannot read.

    Raises
    ------
    RequestRefused
        Where the database's user may not create roles; the message holds what an administrator has to run.
    """
    if not database.is_sqlite:
        from nightmill.backbone.adhoc import postgresql

        postgresql.ensure_reader(database, reader_file)


__all__ = ["Answer", "asked", "ensure_reader", "run_sql"]
