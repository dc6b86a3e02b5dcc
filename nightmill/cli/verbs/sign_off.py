"""``nightmill sign-off``: let a campaign go on that waits at a breakpoint."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from nightmill.cli.completing import campaigns
from nightmill.cli.shape import CampaignName, SiteFolder, Why

EXAMPLES: Final = (
    "nightmill sign-off first --show --against reference",
    'nightmill sign-off first --why "the pilot looks right"',
    'nightmill sign-off first --reject --why "the sky is not flat"',
)


def sign_off(
    campaign: CampaignName,
    breakpoint_: Annotated[
        str, typer.Option("--breakpoint", metavar="NAME", help="This one alone; by default all that are reached.")
    ] = "",
    reject: Annotated[bool, typer.Option("--reject", help="Cancel the campaign instead.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Only show what it made: nothing is signed off.")] = False,
    against: Annotated[
        str,
        typer.Option(
            metavar="CAMPAIGN", help="With --show: compare it with what this campaign made.", autocompletion=campaigns
        ),
    ] = "",
    why: Why = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say on record that what a campaign made up to a breakpoint is right: it goes on; or look at it before."""
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.steering import show_samples, show_signed_off
    from nightmill.errors import RequestRefused
    from nightmill.operations.conductor import conductor_of
    from nightmill.operations.samples import look
    from nightmill.operations.sign_off import sign_off as sign_off_campaign

    if (show and (why or reject)) or (against and not show):
        told = "--show signs nothing off" if show else "--against is for --show, which signs nothing off"
        raise RequestRefused(told, remedy="look first, then sign off without both")
    with open_without_types(site) as opened:
        if show:
            show_samples(look(opened, campaign, breakpoint=breakpoint_, against=against), as_json=as_json)
            return
        signed = sign_off_campaign(
            opened, campaign, why=why, breakpoint=breakpoint_, reject=reject, conductor=conductor_of(opened)
        )
        show_signed_off(signed, as_json=as_json)
