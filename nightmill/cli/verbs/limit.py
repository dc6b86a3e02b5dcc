"""``nightmill limit``: say how many jobs of a campaign run at a time, and on which hosts."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from nightmill.cli.shape import CampaignName, SiteFolder, Why

EXAMPLES: Final = (
    'nightmill limit first --jobs 4 --why "the archive is slow"',
    'nightmill limit first --avoid-host "node3*" --why "their disks fail"',
)


def limit(
    campaign: CampaignName,
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
    why: Why = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say how many jobs of a campaign run at a time, and on which hosts, before it is carried out or while it is.

    What runs goes on to its end. What is not given stays as it is.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.steering import show_limited
    from nightmill.operations.limits import limit as limit_campaign

    none: list[str] | None = [] if any_host else None
    with open_without_types(site) as opened:
        limited = limit_campaign(opened, campaign, why=why, jobs=jobs, use=use_host or none, avoid=avoid_host or none)
        show_limited(limited, as_json=as_json)
