"""Ad-hoc SQL of operators: any table, temporary tables, uploaded lists, and no way to change the backbone.

That nothing can be changed is the database's doing, not that of a look at the text. SQLite opens the file read-only and
asks an authorizer before it compiles a statement, since ``ATTACH`` would open another file for writing. PostgreSQL sees
a login role of the site's own that may SELECT and make temporary tables: a read-only transaction would refuse those,
and ``COMMIT;`` leaves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nightmill.backbone.adhoc import sqlite
from nightmill.backbone.adhoc.answer import Answer
from nightmill.backbone.adhoc.upload import read_upload
from nightmill.backbone.database import Database


def run_sql(database: Database, text: str, *, reader_file: Path, uploads: Mapping[str, Path] | None = None) -> Answer:
    """Run one statement or several, and return the answer of the last that has one.

    Parameters
    ----------
    database
        The backbone.
    text
        SQL of the database at hand, statements separated by semicolons.
    reader_file
        Where :func:`ensure_reader` keeps the role that PostgreSQL is asked as; SQLite has no need of it.
    uploads
        Names of temporary tables to CSV files (the first line names the columns) or lists of values (``.txt``, one a
        line, in the column ``value``) that fill them.

    Raises
    ------
    RequestRefused
        Where the database refuses the statement: it would write, or it is wrong; or where an upload cannot be read.
    DatabaseAway
        Where the database cannot be reached.
    """
    tables = [read_upload(name, path) for name, path in (uploads or {}).items()]
    if database.is_sqlite:
        return sqlite.run(database, text, tables)
    from nightmill.backbone.adhoc import postgresql

    return postgresql.run(database, text, tables, reader_file)


def ensure_reader(database: Database, reader_file: Path) -> None:
    """Make sure that ad-hoc SQL has its role on PostgreSQL, with its password in a file that only its owner reads.

    Raises
    ------
    RequestRefused
        Where the database's user may not create roles; the message holds what an administrator has to run.
    """
    if not database.is_sqlite:
        from nightmill.backbone.adhoc import postgresql

        postgresql.ensure_reader(database, reader_file)


__all__ = ["Answer", "ensure_reader", "run_sql"]
