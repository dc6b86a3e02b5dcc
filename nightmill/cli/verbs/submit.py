"""``nightmill submit``: put a campaign into the backbone and have it conducted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from nightmill.cli.shape import AsSubmitted, Diff, Edited, EngineName, Exclude, Overrides, Settings, SiteFolder

EXAMPLES: Final = ("nightmill submit first.yaml --watch", "nightmill submit --plan 1f0c22a94be1")


def submit(
    campaign: Annotated[Path | None, typer.Argument(metavar="CAMPAIGN", help="The campaign's YAML file.")] = None,
    plan: Annotated[
        str, typer.Option(metavar="DIGEST", help="In place of a file: what nightmill plan --save kept, or nothing.")
    ] = "",
    settings: Settings = None,
    overrides: Overrides = None,
    exclude: Exclude = None,
    engine: EngineName = "",
    edited: Edited = False,
    as_submitted: AsSubmitted = False,
    diff: Diff = False,
    priority: Annotated[
        int | None, typer.Option(metavar="N", help="How urgent it is, as 'nightmill priority' says.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until it has ended, and show how far it is.")] = False,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the campaign and its flow run as JSON.")] = False,
) -> None:
    """Plan a campaign, seal its first stages, and hand it to Prefect.

    The same campaign submitted again is taken up where it stands: what is published is not run again. A saved plan is
    submitted as it was seen: where anything of it has changed since, that is shown, and nothing is done.
    """
    from nightmill.cli.render.conduct import follow
    from nightmill.cli.render.edited import show_diff, wanted_folder
    from nightmill.cli.render.output import echo, working
    from nightmill.config.campaign import load_campaign
    from nightmill.errors import RequestRefused
    from nightmill.operations.conductor import conductor_of
    from nightmill.operations.saved_plans import find
    from nightmill.operations.site import open_site
    from nightmill.operations.submit import submit as submit_campaign

    settings = [*(settings or ()), *([] if priority is None else [f"execution.priority={priority}"])]
    if (campaign is None) == (not plan):
        raise RequestRefused("submit takes a campaign's YAML file or --plan DIGEST", remedy="give one of them")
    if plan and (settings or overrides or exclude or engine):
        raise RequestRefused(
            "--plan submits what was seen, and --set, --override, --exclude and --engine would change it",
            remedy="give them to 'nightmill plan --save', and submit that",
        )
    with open_site(site) as opened:
        if campaign is None:
            saved = find(opened, plan)
            described = saved.load()
        else:
            saved = None
            described = load_campaign(
                campaign,
                settings or (),
                exclude or (),
                overrides=overrides or (),
                defaults=opened.config.defaults,
                engine=engine,
            )
        folder = wanted_folder(edited=edited, as_submitted=as_submitted)
        if diff:
            show_diff(opened, described.name)
            return
        conductor = conductor_of(opened)
        with working(f"Planning {described.name}"):
            short: list[str] = []
            submitted = submit_campaign(
                opened, described, folder=folder, conductor=conductor, saved=saved, tell=short.append
            )
        for sentence in short:
            echo(f"nightmill: {sentence}", err=True)
        assert submitted.run is not None  # it has a conductor
        begun = "taken up where it stood" if submitted.resumed else "submitted"
        follow(opened, conductor, submitted.name, submitted.run, begun=begun, stay=watch, as_json=as_json)
