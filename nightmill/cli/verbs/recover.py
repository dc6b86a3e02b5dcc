"""``nightmill recover``: what a database that was brought back from a backup does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from nightmill.cli.render.output import echo
from nightmill.cli.shape import SiteFolder

if TYPE_CHECKING:
    from nightmill.operations.recover import Recovery

EXAMPLES: Final = (
    "nightmill recover",
    "nightmill recover --yes --why 'the disk of the database failed; backup of last night'",
)
MOST_SHOWN: Final = 50


def recover(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, it is only told what would be done.")] = False,
    why: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with the act.")] = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found, or done, as JSON.")] = False,
) -> None:
    """Have back from the spool and the stores what the database does not know.

    For a database that was brought back from an older backup: until this was done, nothing is issued. Nothing is moved;
    only files are registered whose bytes are those that a recorded journal declares, all of which are read. May be done
    again. Exit code 1 where it was done, and something could not be had back.
    """
    from nightmill.cli.documents import sites as documents
    from nightmill.cli.documents import told
    from nightmill.cli.render.output import print_json, progress
    from nightmill.errors import RequestRefused
    from nightmill.operations.recover import preview
    from nightmill.operations.recover import recover as recover_site
    from nightmill.operations.site import open_site

    if yes and not why.strip():
        raise RequestRefused("--yes wants to know why", remedy="add --why and what happened; it is kept with the act")
    with open_site(site) as opened, progress("Reading journals") as report:
        if yes:
            found = recover_site(opened, why=why, report=report)
        else:
            found = preview(opened, report=report)
    if as_json:
        print_json(told(documents.Recovery, found, done=yes))
    else:
        _tell(found, done=yes)
    if yes and (found.refused or found.unplanned):
        raise typer.Exit(1)


def _tell(found: Recovery, *, done: bool) -> None:
    if found.is_empty:
        echo("the database knows everything that the spool tells")
        return
    if found.older:
        echo(f"the database is older than its spool: {found.older}")
    verb = "had back" if done else "can be had back"
    for name in found.campaigns:
        echo(f"{verb}: campaign {name}")
    for state, count in sorted(found.attempts.items()):
        echo(f"{verb}: {count} attempts that ended as {state}")
    for name, count in sorted(found.rows.items()):
        echo(f"{'set right' if done else 'can be set right'}: {count} rows ({name})")
    for campaign, count in sorted(found.unplanned.items()):
        echo(
            f"campaign {campaign}: {count} attempts are of jobs that are not on record"
            + (
                "; submit it again, then recover again: their numbers are not given a second time"
                if done
                else ": its stages are planned again first, as far as they can be"
            )
        )
    for place, reason in list(found.refused.items())[:MOST_SHOWN]:
        echo(f"cannot be had back: {place}: {reason}", err=True)
    if len(found.refused) > MOST_SHOWN:
        echo(f"... and {len(found.refused) - MOST_SHOWN} more: see --json", err=True)
    if not done:
        echo("nothing was done; to do it: nightmill recover --yes --why '...'")
