"""``nightmill runner``: what conducts slices of a site on further hosts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nightmill.cli.render.output import print_facts, print_json, text
from nightmill.cli.shape import SiteFolder, examples, group
from nightmill.errors import RequestRefused

if TYPE_CHECKING:
    from flows.hosting.runners import RunnerStatus

app = group(help="Start and stop a runner on this host, beside the one of the site's server.")

AsJson = Annotated[bool, typer.Option("--json", help="Print how it is as JSON.")]
Name = Annotated[str, typer.Option(metavar="NAME", help="Which of this host's runners of the site.")]


@app.command(
    epilog=examples(
        "nightmill runner start",
        "nightmill runner start --queue slices=8",
        "nightmill runner start --server https://nightmill.example.org --secret-file ~/server-secret",
    )
)
def start(
    name: Name = "runner",
    queue: Annotated[
        list[str] | None,
        typer.Option(
            metavar="QUEUE[=N]",
            help="A work queue to serve, and flow runs at a time; slices as server.slices says by default. May be "
            "given again.",
        ),
    ] = None,
    server: Annotated[
        str, typer.Option(metavar="URL", help="Where the site's server is reached, if not where it says itself.")
    ] = "",
    secret_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What has the server's user:password, for you alone; NIGHTMILL_SERVER_SECRET, else the site's folder "
            "has it by default.",
        ),
    ] = None,
    alone: Annotated[
        bool,
        typer.Option(
            "--alone",
            help="Nothing else of the site runs under this host's name, as in a container that has its own: what was "
            "begun under it before is dead.",
        ),
    ] = False,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Become the runner, for containers and systemd; it logs to stdout.")
    ] = False,
    site: SiteFolder = None,
    as_json: AsJson = False,
) -> None:
    """Start a runner on this host, and wait until it takes slices.

    The server has one; another conducts slices of the same campaigns.

    It needs the site's folder under the same path as its server, and PostgreSQL where that is another host. Its
    nightmill must be of the server's version. One that runs already is left as it is.
    """
    from flows.hosting.host_runner import SLICES, HostRunner, become
    from flows.hosting.host_runner import start as start_runner
    from nightmill.config.site import load_site

    config = load_site(site, need_types=False)
    options = HostRunner(name, _queues(queue or [SLICES]), server, secret_file, alone)
    if foreground:
        become(config, options)
    _tell(start_runner(config, options), as_json=as_json)


@app.command()
def stop(name: Name = "runner", site: SiteFolder = None, as_json: AsJson = False) -> None:
    """Stop a runner of this host, which ends its flow runs.

    Submit again to go on with what nobody else takes.
    """
    from flows.hosting.runners import one
    from flows.hosting.runners import stop as stop_runner
    from nightmill.config.site import load_site

    config = load_site(site, need_types=False)
    stop_runner(config.directory, name)
    _tell(one(config.directory, name), as_json=as_json)


@app.command()
def status(name: Name = "runner", site: SiteFolder = None, as_json: AsJson = False) -> None:
    """Tell how a runner of this host is; 'nightmill server status' tells of all runners.

    Exit code 3 where its process is gone, or hangs. A server that is away is waited for.
    """
    from flows.hosting.runners import one
    from nightmill.config.site import load_site
    from nightmill.errors import ServerAway

    found = one(load_site(site, need_types=False).directory, name)
    _tell(found, as_json=as_json)
    if not found.healthy:
        raise typer.Exit(ServerAway.exit_code)


def _queues(given: Sequence[str]) -> dict[str, int]:
    queues = {}
    for each in given:
        queue, separator, limit = each.partition("=")
        if separator and not (limit.isdecimal() and int(limit) > 0):
            raise RequestRefused(f"--queue {each}: {limit!r} is not a number of flow runs", remedy="write QUEUE=N")
        queues[queue] = int(limit or 0)
    return queues


def _tell(status: RunnerStatus, *, as_json: bool) -> None:
    from nightmill.cli.documents import told
    from nightmill.cli.documents.sites import Runner

    if as_json:
        print_json(told(Runner, status))
        return
    print_facts(
        [
            ("runner", status.name),
            ("state", status.state + (f" (pid {status.pid})" if status.pid else "")),
            ("queues", text(status.queues)),
            ("flow runs", status.flow_runs or None),
            ("last turn", status.turn_at if status.pid else None),
            ("log", status.log),
        ]
    )
