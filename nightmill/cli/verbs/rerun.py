"""``nightmill rerun``: run jobs again, those that failed or others, as they were or changed."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from nightmill.cli.completing import campaigns
from nightmill.cli.render.output import echo
from nightmill.cli.shape import AsSubmitted, Diff, Edited, Exclude, Overrides, Settings, SiteFolder

EXAMPLES: Final = (
    'nightmill rerun first --why "the disk is repaired" --watch',
    "nightmill rerun first --where 'exposure == 12' --from-step measure --set parameters.sigma=4 --dry-run",
)


def rerun(
    campaign: Annotated[
        str, typer.Argument(metavar="CAMPAIGN", help="Name of the campaign.", autocompletion=campaigns)
    ],
    failed: Annotated[bool, typer.Option("--failed", help="Jobs that failed; the default.")] = False,
    stale: Annotated[
        bool, typer.Option("--stale", help="Jobs whose inputs would be others now; they get these.")
    ] = False,
    whole: Annotated[bool, typer.Option("--whole", help="Every job that is at its end, done ones too.")] = False,
    where: Annotated[
        str, typer.Option(metavar="EXPR", help="Of units that fulfil this expression; alone, done ones too.")
    ] = "",
    stage: Annotated[str, typer.Option(metavar="STAGE", help="Of this stage alone.")] = "",
    from_step: Annotated[
        str, typer.Option(metavar="STEP", help="Begin with this step, and take what those before it made.")
    ] = "",
    from_failure: Annotated[
        bool, typer.Option("--from-failure", help="Begin each job with the step that it failed in.")
    ] = False,
    downstream: Annotated[
        bool, typer.Option("--downstream", help="Then also done jobs of later stages that read what these made.")
    ] = False,
    engine: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The engine of the site that carries out its jobs from now on; with --stage, of that stage.",
        ),
    ] = "",
    settings: Settings = None,
    overrides: Overrides = None,
    exclude: Exclude = None,
    why: Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with the act.")] = "",
    edited: Edited = False,
    as_submitted: AsSubmitted = False,
    diff: Diff = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would run again, and how.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until it has ended, and show how far it is.")] = False,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the campaign and its flow run as JSON.")] = False,
) -> None:
    """Run jobs of a campaign again: by default those that failed, with the inputs that were sealed with them.

    That is the same as Retry in the Prefect UI, and as submitting the campaign again. Exactly the jobs that are shown
    run. A job that is done keeps its result until the new attempt publishes.
    """
    from nightmill.cli.documents.work import NotBegun
    from nightmill.cli.render.conduct import follow
    from nightmill.cli.render.edited import show_diff, wanted_folder
    from nightmill.cli.render.output import print_json
    from nightmill.cli.render.reruns import print_foreseen, show_foreseen
    from nightmill.errors import RequestRefused
    from nightmill.operations.conductor import conductor_of
    from nightmill.operations.rerun import rerun as rerun_campaign
    from nightmill.operations.site import open_site
    from nightmill.operations.wanted import Wanted, Which
    from nightmill.planning.problems import counted

    if failed + stale + whole > 1:
        raise RequestRefused("--failed, --stale and --whole exclude each other", remedy="say one of them")
    wanted = Wanted(
        which=Which.STALE if stale else Which.WHOLE if whole or (where and not failed) else Which.FAILED,
        where=where,
        stage=stage,
        settings=tuple(settings or ()),
        overrides=tuple(overrides or ()),
        exclude=tuple(exclude or ()),
        from_step=from_step,
        from_failure=from_failure,
        downstream=downstream,
        engine=engine,
    )
    with open_site(site) as opened:
        folder = wanted_folder(edited=edited, as_submitted=as_submitted)
        if diff:
            show_diff(opened, campaign)
            return
        conductor = conductor_of(opened)
        begun = rerun_campaign(
            opened,
            campaign,
            wanted=wanted,
            why=why,
            folder=folder,
            conductor=conductor,
            show=lambda told: None if as_json or (wanted.is_plain and not dry_run) else show_foreseen(told),
            dry_run=dry_run,
        )
        if dry_run:
            if as_json:
                print_foreseen(begun.foreseen)
            else:
                echo("nothing was done" if begun.foreseen.jobs else "no job runs again")
            return
        if begun.run is None:
            if as_json:
                print_json(NotBegun(campaign=campaign, left=begun.left, paused=begun.paused))
            elif begun.paused:
                echo(f"campaign {campaign} is {begun.paused}: these wait for 'nightmill resume {campaign}'")
            elif begun.foreseen.jobs or wanted.is_plain:
                echo(f"campaign {campaign}: every job is done, nothing to run again")
            else:
                echo(f"campaign {campaign}: no job runs again, nothing was done")
            return
        follow(
            opened,
            conductor,
            campaign,
            begun.run,
            begun="goes on" if begun.left is None else f"goes on with {counted(begun.left, 'job')}",
            stay=watch,
            as_json=as_json,
        )
