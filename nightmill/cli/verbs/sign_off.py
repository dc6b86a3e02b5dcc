"""``nightmill sign-off``: let a campaign go on that waits at a breakpoint."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from nightmill.cli.shape import CampaignName, SiteFolder, Why

EXAMPLES: Final = (
    'nightmill sign-off first --why "the pilot looks right"',
    'nightmill sign-off first --reject --why "the sky is not flat"',
)


def sign_off(
    campaign: CampaignName,
    breakpoint_: Annotated[
        str, typer.Option("--breakpoint", metavar="NAME", help="This one alone; by default all that are reached.")
    ] = "",
    reject: Annotated[bool, typer.Option("--reject", help="Cancel the campaign instead.")] = False,
    why: Why = "",
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say on record that what a campaign made up to a breakpoint is right: it goes on."""
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.steering import show_signed_off
    from nightmill.operations.conductor import conductor_of
    from nightmill.operations.sign_off import sign_off as sign_off_campaign

    with open_without_types(site) as opened:
        signed = sign_off_campaign(
            opened, campaign, why=why, breakpoint=breakpoint_, reject=reject, conductor=conductor_of(opened)
        )
        show_signed_off(signed, as_json=as_json)
