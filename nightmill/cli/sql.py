"""``nightmill sql``: ad-hoc queries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from nightmill.cli._shape import SiteFolder
from nightmill.errors import RequestRefused

EXAMPLES: Final = (
    "nightmill sql 'SELECT stage, state, count(*) FROM job_status GROUP BY 1, 2'",
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
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print an object a row, as JSON.")] = False,
) -> None:
    """Query any table of the backbone.

    Temporary tables are allowed; nothing else can be changed, the database itself sees to that.
    """
    from nightmill.backbone.adhoc import run_sql
    from nightmill.cli._opening import open_without_types
    from nightmill.cli._output import print_json, print_table

    with open_without_types(site) as opened:
        answer = run_sql(opened.database, statement, reader_file=opened.reader_file, uploads=_uploads(upload or []))
    if as_json:
        print_json([dict(zip(answer.columns, row, strict=True)) for row in answer.rows])
    elif answer.columns:
        print_table(answer.columns, answer.rows)


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
