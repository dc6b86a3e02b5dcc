"""``nightmill resume``: have a paused campaign go on."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from nightmill.cli.shape import CampaignName, SiteFolder, Why

EXAMPLES: Final = ('nightmill resume first --why "there is room again"',)


def resume(
    campaign: CampaignName,
    why: Why = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Have a paused campaign go on where it stands.

    One that was cancelled is taken up with ``nightmill rerun``.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.steering import show_steered
    from nightmill.operations.conductor import conductor_of
    from nightmill.operations.steering import resume as resume_campaign

    with open_without_types(site) as opened:
        show_steered(resume_campaign(opened, campaign, why=why, conductor=conductor_of(opened)), as_json=as_json)
