"""``nightmill status``: how campaigns stand."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from nightmill.cli.completing import campaigns
from nightmill.cli.shape import SiteFolder

EXAMPLES: Final = (
    "nightmill status",
    "nightmill status first --watch",
)


def status(
    campaign: Annotated[
        str | None,
        typer.Argument(
            metavar="CAMPAIGN",
            help="Name of a campaign; by default those under way and the last 20.",
            autocompletion=campaigns,
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every campaign, also those that ended long ago.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing it, on a screen of its own; q leaves.")] = False,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show how campaigns stand.

    Their stages, and of one campaign the jobs that failed, with reasons. What dead processes left in the spool is
    recorded first, and Prefect's states are made to agree, so that nothing is shown as running that is not.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.standing import show_status, show_waiting
    from nightmill.config.site import load_site
    from nightmill.errors import DatabaseAway
    from nightmill.operations.conductor import conductor_of

    try:
        with open_without_types(site) as opened:
            if watch and not as_json:
                from nightmill.cli.render.screen import watch_status

                if not watch_status(opened, conductor_of(opened), campaign, everything=everything):
                    return
            show_status(opened, campaign, everything=everything, watch=watch and as_json, as_json=as_json)
    except DatabaseAway:
        show_waiting(load_site(site, need_types=False).spool)
        raise
