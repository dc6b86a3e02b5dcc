"""``nightmill status``: how campaigns stand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def status(
    campaign: Annotated[str | None, typer.Argument(help="Name of a campaign; by default all of them.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it every two seconds, until no job is open.")] = False,
    site: Annotated[Path | None, typer.Option(help="Folder of the site.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show how campaigns stand: their stages, and of one campaign the jobs that failed, with reasons.

    What dead processes left in the spool is recorded first, so that nothing is shown as running that is not.
    """
    from nightmill.cli._standing import show_status
    from tasks.site import open_site

    with open_site(site) as opened:
        show_status(opened, campaign, watch=watch, as_json=as_json)
