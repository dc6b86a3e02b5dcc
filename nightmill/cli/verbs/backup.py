"""``nightmill backup``: a copy of the database that was verified."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from nightmill.cli.render.output import echo
from nightmill.cli.shape import SiteFolder, time_of

EXAMPLES: Final = (
    "nightmill backup /backup/nightmill-2026-01-10.db",
    "nightmill backup --elsewhere 'base backup 20260110' --as-of 2026-01-10T02:00:00 --why 'restored and looked into'",
)


def backup(
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="A new file, for the copy.")] = None,
    elsewhere: Annotated[
        str, typer.Option(metavar="TEXT", help="Instead, vouch for a backup that you made by other means and verified.")
    ] = "",
    as_of: Annotated[str, typer.Option(metavar="TIME", help="Of when that one is, UTC.")] = "",
    why: Annotated[str, typer.Option(metavar="TEXT", help="Why, or how it was verified; kept with the act.")] = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the backup as JSON.")] = False,
) -> None:
    """Copy the database to a file while the site works, read the copy, and put the backup on record.

    Journals are kept in the spool until a verified backup holds what they tell. SQLite's copy is a database, to be put
    in the place of the other; PostgreSQL's is an archive of pg_dump, for pg_restore.
    """
    from nightmill.cli.documents import told
    from nightmill.cli.documents.sites import Backup
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.output import print_json, working
    from nightmill.errors import RequestRefused
    from nightmill.operations.backup import back_up, vouch

    if (file is None) == (not elsewhere) or bool(elsewhere) != bool(as_of and why.strip()):
        raise RequestRefused(
            "a backup is made to FILE, or vouched for with --elsewhere, --as-of and --why together",
            remedy="give the one or the other",
        )
    with open_without_types(site) as opened:
        if file is None:
            made = vouch(opened, elsewhere, time_of("--as-of", as_of), why=why)
        else:
            with working("Copying the database"):
                made = back_up(opened, file, why=why)
    if as_json:
        print_json(told(Backup, made))
    else:
        echo(f"on record as verified: {made.where}, as of {made.as_of:%Y-%m-%d %H:%M:%S} UTC")
