"""``nightmill bring-home``: fetch what other sites made for this one."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from nightmill.cli.completing import campaigns
from nightmill.cli.shape import SiteFolder

EXAMPLES: Final = ("nightmill bring-home --dry-run", "nightmill bring-home first")


def bring_home(
    campaign: Annotated[
        str, typer.Argument(metavar="CAMPAIGN", help="Of this campaign alone.", autocompletion=campaigns)
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would come, and do nothing.")] = False,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what came as JSON.")] = False,
) -> None:
    """Fetch the results of campaigns of other sites that name this site as their home, each file once.

    The server does it every quarter of an hour. What came is a further copy of the same file, verified and on record as
    a transfer.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.transfers import show_brought
    from nightmill.operations.transport.home import bring_home as bring

    with open_without_types(site) as opened:
        found = bring(opened, campaign, dry_run=dry_run)
    show_brought(found, dry_run=dry_run, as_json=as_json)
    if any(each.failed for each in found):
        raise typer.Exit(1)
