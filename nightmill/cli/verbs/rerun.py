"""``nightmill rerun``: run again what is not published."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from nightmill.cli.completing import campaigns
from nightmill.cli.render.output import echo
from nightmill.cli.shape import AsSubmitted, Diff, Edited, SiteFolder

EXAMPLES: Final = ('nightmill rerun first --why "the disk is repaired" --watch',)


def rerun(
    campaign: Annotated[
        str, typer.Argument(metavar="CAMPAIGN", help="Name of the campaign.", autocompletion=campaigns)
    ],
    why: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with the act.")] = "",
    edited: Edited = False,
    as_submitted: AsSubmitted = False,
    diff: Diff = False,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until it has ended, and show how far it is.")] = False,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the campaign and its flow run as JSON.")] = False,
) -> None:
    """Run again the jobs of a campaign that are not published.

    They get the inputs that were sealed with them. The same as Retry in the Prefect UI, and as submitting the campaign
    again.
    """
    from nightmill.cli.documents.work import NothingLeft
    from nightmill.cli.render.conduct import follow
    from nightmill.cli.render.edited import show_diff, wanted_folder
    from nightmill.cli.render.output import print_json
    from nightmill.operations.conductor import conductor_of
    from nightmill.operations.rerun import rerun as rerun_campaign
    from nightmill.operations.site import open_site

    with open_site(site) as opened:
        folder = wanted_folder(edited=edited, as_submitted=as_submitted)
        if diff:
            show_diff(opened, campaign)
            return
        conductor = conductor_of(opened)
        begun = rerun_campaign(opened, campaign, why=why, folder=folder, conductor=conductor)
        if begun.run is None:
            if as_json:
                print_json(NothingLeft(campaign=campaign, left=0))
            else:
                echo(f"campaign {campaign}: every job is done, nothing to run again")
            return
        follow(
            opened,
            conductor,
            campaign,
            begun.run,
            begun="goes on" if begun.left is None else f"goes on with {begun.left} jobs",
            stay=watch,
            as_json=as_json,
        )
