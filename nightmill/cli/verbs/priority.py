"""``nightmill priority``: say how urgent a campaign is."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from nightmill.cli.shape import CampaignName, SiteFolder, Why

EXAMPLES: Final = ('nightmill priority first 10 --why "the telescope waits for it"',)


def priority(
    campaign: CampaignName,
    value: Annotated[int, typer.Argument(metavar="N", help="The higher, the sooner; it begins with 0.")],
    why: Why = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say how urgent a campaign is, before it is carried out or while it is.

    Where jobs wait for cores of a host, those of the campaign with the highest priority get them first.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.steering import show_priority
    from nightmill.operations.steering import prioritise

    with open_without_types(site) as opened:
        show_priority(prioritise(opened, campaign, value, why=why), as_json=as_json)
