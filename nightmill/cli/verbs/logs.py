"""``nightmill logs``: the log of a job, wherever it runs or ran."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from nightmill.cli.completing import stages
from nightmill.cli.shape import SiteFolder, job_of
from nightmill.errors import RequestRefused

if TYPE_CHECKING:
    from nightmill.operations.logs import Tried
    from nightmill.operations.site import Site

EXAMPLES: Final = (
    "nightmill logs first/clean/exposure=2,detector=2 -f",
    "nightmill logs first/clean/exposure=2,detector=2 --attempt 1 --step subtract --tail 20",
)


def logs(
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="A job: CAMPAIGN/STAGE/UNIT, or .../a02.", autocompletion=stages)
    ],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on while it is written, and to the next attempt.")
    ] = False,
    attempt: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Of this attempt; by default the last.")
    ] = None,
    step: Annotated[str, typer.Option(metavar="STEP", help="Only what this step wrote.")] = "",
    tail: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Only the last lines of what is there, so many.")
    ] = None,
    site: SiteFolder = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print where the log is as JSON instead.")] = False,
) -> None:
    """Print the log of a job: of an attempt that runs as far as it is, of one that ended from its store.

    Stderr says where it is. With -f the exit code is 0 where the job is published in the end, and 1 where it is not.
    """
    from nightmill.cli.opening import open_without_types
    from nightmill.cli.render.logs import follow_log, show_log
    from nightmill.operations.logs import attempt_of

    named, of_name = job_of(job)
    if named is None:
        raise RequestRefused(
            f"{job!r} is not a job", remedy="write CAMPAIGN/STAGE/UNIT; 'nightmill show CAMPAIGN' lists"
        )
    if of_name is not None and attempt is not None and of_name != attempt:
        raise RequestRefused(f"{job!r} is not attempt {attempt}", remedy="leave --attempt away")
    number = attempt if of_name is None else of_name
    if follow and as_json:
        raise RequestRefused("--json tells where the log is, once", remedy="leave -f away")
    with open_without_types(site) as opened:

        def look(number: int | None) -> Tried | None:
            return attempt_of(opened, *named, number=number)

        if follow:
            if not follow_log(opened, look, number=number, step=step, tail=tail):
                raise typer.Exit(1)
            return
        tried = look(number)
        if tried is None:
            raise RequestRefused(f"{job!r} has no attempt yet", remedy="-f waits for it")
        if as_json:
            _tell(opened, tried)
        elif not show_log(opened, tried, step=step, tail=tail):
            raise typer.Exit(1)


def _tell(site: Site, tried: Tried) -> None:
    from nightmill.cli.documents import told
    from nightmill.cli.documents.logs import Log
    from nightmill.cli.render.output import print_json
    from nightmill.operations.logs import live_path, why_unseen

    path = live_path(site, tried.key)
    copy = tried.stored(site)
    is_live = path.is_file() and (copy is None or not tried.state.ended)
    place = str(path) if is_live else copy.path if copy else None
    print_json(
        told(
            Log,
            tried,
            attempt=str(tried.key),
            state=tried.state.value,
            fate=tried.fate or None,
            host=tried.host or None,
            step=tried.running or None,
            store=copy.store if copy and not is_live else None,
            place=place,
            unseen=None if place else why_unseen(site, tried),
        )
    )
