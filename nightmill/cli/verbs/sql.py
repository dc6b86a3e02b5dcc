"""``nightmill sql``: ad-hoc queries."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Final, TypeVar

import typer

from nightmill.cli.render.output import echo
from nightmill.cli.shape import SiteFolder
from nightmill.errors import RequestRefused

Row = TypeVar("Row")

SECONDS: Final = 300.0
TERMINAL_ROWS: Final = 1000
"""A table on a terminal is drawn when its last row is there; nobody reads a longer one."""

EXAMPLES: Final = (
    "nightmill sql 'SELECT stage, state, count(*) FROM job_status GROUP BY 1, 2'",
    "nightmill sql 'SELECT name, sha256 FROM file' --json --seconds 3600 > files.json",
    "nightmill sql 'SELECT * FROM file JOIN wanted ON name = value' --upload wanted=names.txt",
)


def sql(
    statement: Annotated[str, typer.Argument(metavar="SQL", help="One statement or several, in the database's SQL.")],
    upload: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE", help="Make a temporary table of a list: CSV with a first line of names, or .txt."
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=0, metavar="ROWS", help="Print so many rows; 0 for all. By default 1000 on a terminal."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=1, help="How long it may take, until the last row is printed.")
    ] = SECONDS,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print an object a row, as JSON.")] = False,
) -> None:
    """Query any table of the backbone.

    Temporary tables are allowed; nothing else can be changed, the database itself sees to that. Rows are printed as
    they come, but for a table on a terminal.
    """
    from nightmill.backbone.adhoc import asked
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.output import print_json_rows, print_table

    if limit is None and not as_json and sys.stdout.isatty():
        limit = TERMINAL_ROWS
    lists = _uploads(upload or [])
    with (
        open_without_types(site) as opened,
        asked(opened.database, statement, reader_file=opened.reader_file, uploads=lists, seconds=seconds) as answer,
    ):
        rows = _at_most(limit, answer.rows) if limit else answer.rows
        if as_json:
            print_json_rows(dict(zip(answer.columns, row, strict=True)) for row in rows)
        elif answer.columns:
            print_table(answer.columns, rows)


def _at_most(limit: int, rows: Iterable[Row]) -> Iterator[Row]:
    """Give so many rows, and say on stderr where there are more."""
    for number, row in enumerate(rows):
        if number == limit:
            echo(f"nightmill: there are more than these {limit} rows; --limit 0 prints all of them", err=True)
            return
        yield row


def _uploads(texts: list[str]) -> dict[str, Path]:
    uploads: dict[str, Path] = {}
    for text in texts:
        name, separator, path = text.partition("=")
        if not (name and separator and path):
            raise RequestRefused(f"--upload {text!r} names no table and file", remedy="write --upload wanted=list.csv")
        if name in uploads:
            raise RequestRefused(f"--upload names the table {name!r} twice", remedy="give each list a name of its own")
        uploads[name] = Path(path)
    return uploads
