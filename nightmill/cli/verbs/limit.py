"""``nightmill limit``: how many jobs of a campaign run at a time, and where; how many transfers with a store."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from nightmill.cli.completing import campaigns
from nightmill.cli.shape import SiteFolder, Why
from nightmill.errors import RequestRefused

EXAMPLES: Final = (
    'nightmill limit first --jobs 4 --why "the archive is slow"',
    'nightmill limit first --avoid-host "node3*" --why "their disks fail"',
    'nightmill limit --store archive --transfers 2 --why "its disks are slow"',
)


def limit(
    campaign: Annotated[
        str, typer.Argument(metavar="CAMPAIGN", help="Name of the campaign.", autocompletion=campaigns)
    ] = "",
    jobs: Annotated[
        int | None, typer.Option(metavar="N", help="Jobs at a time in all its slices, at most; 0 for no limit.")
    ] = None,
    use_host: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Use only such hosts, and not those said before; may be given again."),
    ] = None,
    avoid_host: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Avoid such hosts, and not those said before; may be given again."),
    ] = None,
    any_host: Annotated[bool, typer.Option("--any-host", help="Use any host but those that are given here.")] = False,
    store: Annotated[str, typer.Option(metavar="NAME", help="Limit a store, or a working area: all campaigns.")] = "",
    transfers: Annotated[
        int | None, typer.Option(metavar="N", help="Transfers with it at a time, from each host; 0 for no limit.")
    ] = None,
    why: Why = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say how many jobs of a campaign run at a time, and on which hosts; or how many transfers with a store.

    It holds at once, also for what is being carried out. What runs goes on to its end. What is not given stays as it
    is. Without a campaign and options, it tells what holds for each store.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.steering import show_limited, show_store_limited, show_store_limits
    from nightmill.operations.limits import limit as limit_campaign
    from nightmill.operations.transfers import limit_transfers, store_limits

    none: list[str] | None = [] if any_host else None
    of_campaign = bool(campaign or use_host or avoid_host or any_host or jobs is not None)
    if store and of_campaign:
        remedy = "limit the store first, and then the campaign"
        raise RequestRefused("a store is limited for all campaigns on all hosts", remedy=remedy)
    if transfers is not None and not store:
        raise RequestRefused("--transfers is about a store", remedy="say which with --store NAME")
    if of_campaign and not campaign:
        raise RequestRefused("--jobs and hosts are about a campaign", remedy="name it")
    with open_without_types(site) as opened:
        if store:
            show_store_limited(limit_transfers(opened, store, transfers, why=why), as_json=as_json)
        elif campaign:
            use, avoid = use_host or none, avoid_host or none
            show_limited(limit_campaign(opened, campaign, why=why, jobs=jobs, use=use, avoid=avoid), as_json=as_json)
        else:
            show_store_limits(store_limits(opened), as_json=as_json)
