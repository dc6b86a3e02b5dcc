"""``nightmill pause``: let no further job of a campaign begin."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from nightmill.cli.shape import CampaignName, SiteFolder, Why

EXAMPLES: Final = ('nightmill pause first --why "the disk is nearly full"',)


def pause(
    campaign: CampaignName,
    now: Annotated[bool, typer.Option("--now", help="Also end what runs; it is run again later.")] = False,
    why: Why = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Let no further job of a campaign begin; what runs goes on to its end.

    It stays so until somebody resumes it, also where Prefect cannot be reached.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.steering import show_steered
    from nightmill.operations.conductor import conductor_of
    from nightmill.operations.steering import pause as pause_campaign

    with open_without_types(site) as opened:
        steered = pause_campaign(opened, campaign, why=why, now=now, conductor=conductor_of(opened))
        show_steered(steered, as_json=as_json)
