"""``nightmill cancel``: end a campaign."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from nightmill.cli.shape import CampaignName, SiteFolder, Why

EXAMPLES: Final = ('nightmill cancel first --why "the wrong flats"',)


def cancel(
    campaign: CampaignName,
    why: Why = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """End a campaign: its jobs that are not at their end are cancelled, and what runs is ended.

    It returns when that is so. What was published stays; ``nightmill rerun`` takes up the rest.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.steering import show_steered
    from nightmill.operations.conductor import conductor_of
    from nightmill.operations.steering import cancel as cancel_campaign

    with open_without_types(site) as opened:
        show_steered(cancel_campaign(opened, campaign, why=why, conductor=conductor_of(opened)), as_json=as_json)
