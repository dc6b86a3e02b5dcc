"""``nightmill server``: the conductor of a site."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nightmill.cli.render.output import echo, print_facts, print_json, secho
from nightmill.cli.shape import SiteFolder, group

if TYPE_CHECKING:
    from flows.hosting.service import ServiceStatus
    from nightmill.config.site import SiteConfig

app = group(help="Start and stop the conductor of a site: its Prefect server and its runner.")

AsJson = Annotated[bool, typer.Option("--json", help="Print how they are as JSON.")]


@app.command()
def start(site: SiteFolder = None, as_json: AsJson = False) -> None:
    """Start what does not run yet: the Prefect server, then the runner.

    A catalogue that this release cannot work with is refused; one that is away is waited for by what is started.
    """
    from contextlib import closing, suppress

    from flows.hosting.growth import prefect_settings
    from flows.hosting.service import start as start_service
    from nightmill.config.site import load_site
    from nightmill.errors import DatabaseAway
    from nightmill.operations.site import database_of

    config = load_site(site, need_types=False)
    with suppress(DatabaseAway), closing(database_of(config)) as database:
        database.check_revision()
    settings = prefect_settings(config.retention)
    _tell(config, start_service(config.directory, config.server, settings=settings), as_json=as_json)


@app.command()
def stop(site: SiteFolder = None, as_json: AsJson = False) -> None:
    """Stop the runner, which ends its flow runs, and the server.

    Submit again to go on.
    """
    from flows.hosting.service import status as service_status
    from flows.hosting.service import stop as stop_service
    from nightmill.config.site import load_site

    config = load_site(site, need_types=False)
    stop_service(config.directory)
    _tell(config, service_status(config.directory), as_json=as_json)


@app.command()
def status(site: SiteFolder = None, as_json: AsJson = False) -> None:
    """Tell how they are.

    Exit code 3 where flow runs would not be carried out.
    """
    from flows.hosting.service import status as service_status
    from nightmill.config.site import load_site
    from nightmill.errors import ServerAway

    config = load_site(site, need_types=False)
    told = service_status(config.directory)
    _tell(config, told, as_json=as_json)
    if not told.healthy:
        raise typer.Exit(ServerAway.exit_code)


def _tell(config: SiteConfig, status: ServiceStatus, *, as_json: bool) -> None:
    from flows.hosting.listener import unusable
    from flows.hosting.runners import all_runners
    from flows.hosting.server import daemon, link
    from flows.hosting.service import folder_of
    from nightmill.cli.documents import told
    from nightmill.cli.documents.sites import Service
    from nightmill.cli.render.sinks import standing
    from nightmill.config.server import NO_AUTH
    from nightmill.operations.log_shipping.shipping import backlog

    folder = folder_of(config.directory)
    if status.server.pid and not status.server.healthy:
        echo(unusable(daemon(folder)), err=True)
    if config.server.auth == NO_AUTH:
        what = f"server.auth is {NO_AUTH!r}: every user of this host can have the runner run commands as you"
        secho(f"warning: {what}", fg=typer.colors.YELLOW, err=True)
    runners = all_runners(config.directory)
    if as_json:
        print_json(told(Service, status, runners=runners))
        return
    server = f"{status.server.state} and answers" if status.server.healthy else str(status.server.state)
    print_facts(
        [
            ("server", server + (f" (pid {status.server.pid})" if status.server.pid else "")),
            ("runner", status.runner + (f" (pid {status.runner_pid})" if status.runner_pid else "")),
            ("flow runs", status.flow_runs or None),
            *(("beside it", each) for each in runners),
            ("UI", link(folder) if status.server.healthy else status.server.ui_url),
            ("log", status.server.log),
            *((f"sink {each.sink}", standing(each)) for each in backlog(config)),
        ]
    )
