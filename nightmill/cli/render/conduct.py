"""What submit and rerun have in common: say what began, and stay with it when asked."""

from __future__ import annotations

from collections.abc import Sequence

import typer
from rich.console import Console

from nightmill.backbone.catalogue.file_warnings import warned_in
from nightmill.backbone.work.campaigns import JobLine, campaign_named, jobs, progress
from nightmill.cli.documents import told
from nightmill.cli.documents.work import Submitted, Watched
from nightmill.cli.render.knowledge import show_warned
from nightmill.cli.render.output import echo, print_json, secho
from nightmill.cli.render.watch import summary, watch
from nightmill.model.conducting import CampaignRun
from nightmill.model.ports import Conductor
from nightmill.model.states import JobState
from nightmill.operations.site import Site

MOST_FAILURES = 20


def follow(
    site: Site, conductor: Conductor, name: str, run: CampaignRun, *, begun: str, stay: bool, as_json: bool
) -> None:
    """Say that a campaign was handed to its conductor; with ``stay``, watch it to its end.

    Raises
    ------
    typer.Exit
        With code 1 where it was watched and some of its jobs are not done.
    """
    console = Console(stderr=as_json)
    if not as_json:
        echo(f"campaign {name} {begun}: {run.link}")
    if not stay:
        if as_json:
            print_json(told(Submitted, run, campaign=name))
        else:
            echo(f"see how far it is with: nightmill status {name}")
        return
    state = watch(site, conductor, name, run, console)
    with site.database.reading() as session:
        campaign_id = campaign_named(session, name).id
        stages = progress(session, campaign_id)
        failed = list(jobs(session, campaign_id, states=[JobState.FAILED]))
        by_checks = warned_in(session, [campaign_id]).get(campaign_id, {})
    if as_json:
        counts = {stage.stage: dict(stage.counts) for stage in stages}
        print_json(
            told(Watched, run, campaign=name, state=state.type, stages=counts, failed=[str(job) for job in failed])
        )
    else:
        for stage in stages:
            echo(summary(stage))
        show_warned(by_checks)
        if failed:
            _tell_failures(name, failed)
    if state.type != "COMPLETED":
        if not failed:
            echo(f"the campaign's flow run ended {state.name}: {state.message}", err=True)
        raise typer.Exit(1)


def _tell_failures(name: str, failed: Sequence[JobLine]) -> None:
    for job in failed[:MOST_FAILURES]:
        secho("failed ", fg="red", nl=False)
        echo(f"{name}/{job}")
    if len(failed) > MOST_FAILURES:
        echo(f"... and {len(failed) - MOST_FAILURES} more: nightmill status {name}")
    echo(f"look into one: nightmill show {name}/{failed[0].name}")
    echo(f"when its cause is mended: nightmill rerun {name}")
