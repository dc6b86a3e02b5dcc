"""``nightmill submit``: put a campaign into the backbone and have it conducted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from nightmill.cli.shape import AsSubmitted, Diff, Edited, Exclude, Overrides, Settings, SiteFolder

EXAMPLES: Final = ("nightmill submit first.yaml --watch",)


def submit(
    campaign: Annotated[Path, typer.Argument(metavar="CAMPAIGN", help="The campaign's YAML file.")],
    settings: Settings = None,
    overrides: Overrides = None,
    exclude: Exclude = None,
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

    The same campaign submitted again is taken up where it stands: what is published is not run again.
    """
    from nightmill.cli.render.conduct import follow
    from nightmill.cli.render.edited import show_diff, wanted_folder
    from nightmill.cli.render.output import echo, working
    from nightmill.config.campaign import load_campaign
    from nightmill.operations.conductor import conductor_of
    from nightmill.operations.site import open_site
    from nightmill.operations.submit import submit as submit_campaign

    urgent = [] if priority is None else [f"execution.priority={priority}"]
    with open_site(site) as opened:
        described = load_campaign(
            campaign,
            [*(settings or ()), *urgent],
            exclude or (),
            overrides=overrides or (),
            defaults=opened.config.defaults,
        )
        folder = wanted_folder(edited=edited, as_submitted=as_submitted)
        if diff:
            show_diff(opened, described.name)
            return
        conductor = conductor_of(opened)
        with working(f"Planning {described.name}"):
            short: list[str] = []
            submitted = submit_campaign(opened, described, folder=folder, conductor=conductor, tell=short.append)
        for sentence in short:
            echo(f"nightmill: {sentence}", err=True)
        assert submitted.run is not None  # it has a conductor
        begun = "taken up where it stood" if submitted.resumed else "submitted"
        follow(opened, conductor, submitted.name, submitted.run, begun=begun, stay=watch, as_json=as_json)
