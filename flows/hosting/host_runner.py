"""A runner beside that of a site's server: it serves the work pool from a host where no server need run.

It carries out the site's deployments alone, as nightmill declares them: of the server it learns their IDs, and follows
nothing else that is said there. Nothing here imports Prefect; its process does, which is ``python -m
flows.hosting.host_runner``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final
from uuid import UUID

from flows.hosting import server, service
from flows.hosting.access import read_secret, require_private, secret_file
from flows.hosting.api import PrefectApi
from flows.hosting.daemon import Daemon, clean_environment
from flows.hosting.declared import load_deployments
from flows.hosting.listener import refuse_strangers, require_own
from flows.hosting.runners import NAME, POOL, RunnerStatus, daemon_of, name_of, one, queues_of
from nightmill import __version__
from nightmill.config.site import SITE_VARIABLE, SiteConfig
from nightmill.errors import RequestRefused, guess
from nightmill.execution.owner import host_name, is_alive
from nightmill.operations.lost_hosts import declare_lost, hosts_with_open_work
from nightmill.operations.site import Site, open_site

SLICES: Final = "slices"
SECRET_VARIABLE: Final = "NIGHTMILL_SERVER_SECRET"  # noqa: S105 - a name
"""``user:password`` of a server, where no file has it."""


@dataclass(frozen=True)
class HostRunner:
    """What a runner serves, and where its server is.

    Parameters
    ----------
    name
        Its name among the runners of its host.
    queues
        Flow runs at a time, for each work queue that it serves; 0 for as many as the site says.
    server_url
        Where its server is reached from here; by default as the site's own folder says.
    secret_file
        What has the server's ``user:password``; by default :data:`SECRET_VARIABLE`, else the site's own folder.
    is_alone
        Whether no other process of the site runs under the name of this host: what was begun under it is dead.
    """

    name: str = NAME
    queues: Mapping[str, int] = field(default_factory=lambda: {SLICES: 0})
    server_url: str = ""
    secret_file: Path | None = None
    is_alone: bool = False


def start(config: SiteConfig, options: HostRunner) -> RunnerStatus:
    """Start a runner on this host unless it runs already, and wait until it takes flow runs.

    Raises
    ------
    RequestRefused
        Where it does not fit: its queues, the version of its nightmill or of the database, a database that other hosts
        cannot share, the folder of the site.
    ServerAway, DatabaseAway
        Where one of both cannot be reached, or the runner does not come up, with the end of its log.
    """
    runner = daemon_of(config.directory, options.name)
    with runner.locked():
        if not _runs(runner, options):
            argv, environment = _prepared(config, options)
            written = runner.new_log()
            runner.spawn(argv, environment, _details(config, options))
            service.wait_until_ready(runner, written, verb="runner")
    return one(config.directory, options.name)


def become(config: SiteConfig, options: HostRunner) -> None:
    """Turn this process into a runner, as a container or systemd wants it; it does not return.

    Raises
    ------
    RequestRefused, ServerAway, DatabaseAway
        As :func:`start`; and where it runs already.
    """
    runner = daemon_of(config.directory, options.name)
    with runner.locked():
        if _runs(runner, options):
            raise RequestRefused(
                f"the runner {options.name!r} of this host runs already", remedy="give this one another --name"
            )
        argv, environment = _prepared(config, options)
        runner.become(_details(config, options))
        os.execve(argv[0], argv, environment)  # noqa: S606 - this very Python


def deployments_for(api: PrefectApi, site: Path, queues: Mapping[str, int]) -> dict[UUID, str]:
    """Return the deployments that a runner carries out: IDs as the server has them, entry points as nightmill says.

    Raises
    ------
    RequestRefused
        Where the server has others: of another nightmill, of another site, or none.
    ServerAway
        Where it cannot be reached.
    """
    there = api.deployments_of(POOL)
    found = {}
    for spec in load_deployments().deployments:
        if spec.work_pool.work_queue_name not in queues:
            continue
        deployed = there.get(spec.name)
        if deployed is None or deployed.entrypoint != spec.entrypoint:
            raise RequestRefused(
                f"the Prefect server at {api.url} has no deployment {spec.name!r} as nightmill makes it",
                remedy="is it the site's server? `nightmill server start` makes its deployments",
            )
        if deployed.version != __version__:
            raise RequestRefused(
                f"the deployments of the site's server are of nightmill {deployed.version or 'unknown'}, and this is "
                f"nightmill {__version__}",
                remedy="install the same version on all hosts; then start the server anew, and its runners after it",
            )
        if (its := deployed.parameters.get("site")) and Path(its).resolve() != site.resolve():
            raise RequestRefused(
                f"the Prefect server at {api.url} conducts the site {its}, and this is {site}",
                remedy="have the site's folder under the same path on all hosts",
            )
        found[UUID(deployed.id)] = spec.entrypoint
    return found


def _prepared(config: SiteConfig, options: HostRunner) -> tuple[list[str], dict[str, str]]:
    """Return what a runner is started with, once it is known to fit."""
    limits = _limits(config, options.queues)
    folder = daemon_of(config.directory, options.name).folder
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = _environment(config, options, folder)
    conductor = server.daemon(service.folder_of(config.directory))
    record = conductor.record()
    is_here = record is not None and record.owner.host == host_name()
    with open_site(config.directory, need_types=False) as site:
        if site.database.file is not None and not is_here:
            raise RequestRefused(
                f"the site's server runs on {record.owner.host if record else 'another host'!r}, and its catalogue is "
                f"SQLite ({site.database.file}), which hosts cannot share",
                remedy="move it to PostgreSQL: see the guide 'Use PostgreSQL'",
            )
        says_itself = not options.server_url
        with PrefectApi(
            environment["PREFECT_API_URL"],
            environment.get("PREFECT_API_AUTH_STRING", ""),
            guard=partial(require_own, conductor) if says_itself else lambda: None,
            if_refused=f"give the runner what the server's host has in {secret_file(conductor.folder)}",
        ) as api:
            deployments_for(api, config.directory, limits)
        if options.is_alone:
            _end_what_was(site)
    argv = [sys.executable, "-m", "flows.hosting.host_runner", str(config.directory), "--folder", str(folder)]
    argv += ["--name", name_of(config.directory, options.name)]
    argv += [part for queue, limit in limits.items() for part in ("--queue", f"{queue}={limit}")]
    argv += ["--alone"] if options.is_alone else []
    argv += ["--watch-server"] if is_here and says_itself else []
    return argv, environment


def _environment(config: SiteConfig, options: HostRunner, folder: Path) -> dict[str, str]:
    """Return the environment of a runner's process."""
    shared = service.folder_of(config.directory)
    url = _api_url(options.server_url) if options.server_url else server.api_environment(shared)["PREFECT_API_URL"]
    secret = read_secret(shared)
    if options.secret_file is not None:
        secret = require_private(options.secret_file)
    elif SECRET_VARIABLE in os.environ:
        secret = os.environ[SECRET_VARIABLE]
    environment = clean_environment(
        {
            **server.shipped_settings("client"),
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_API_URL": url,
            **({"PREFECT_API_AUTH_STRING": secret} if secret else {}),
            SITE_VARIABLE: str(config.directory),
        }
    )
    environment.pop(SECRET_VARIABLE, None)  # one name for it is enough
    return environment


def _api_url(url: str) -> str:
    """Return the address of a server's API, given that of the server, or the address itself."""
    if not url.startswith(("http://", "https://")):
        raise RequestRefused(f"{url!r} is not the address of a server", remedy="write http://HOST:PORT")
    plain = url.rstrip("/")
    return plain if plain.endswith("/api") else f"{plain}/api"


def _limits(config: SiteConfig, queues: Mapping[str, int]) -> dict[str, int]:
    known = {**load_deployments().definitions.work_queues, SLICES: config.server.slices}
    for queue in queues:
        if queue not in known:
            raise RequestRefused(
                f"{queue!r} is not a work queue{guess(queue, list(known))}", remedy=f"the site has {', '.join(known)}"
            )
    return {queue: limit or known[queue] for queue, limit in queues.items()}


def _end_what_was(site: Site) -> None:
    """Declare dead what processes began under the name of this host that cannot be seen from here."""
    if host_name() in hosts_with_open_work(site):
        declare_lost(site, host_name(), why="a runner was started that is alone under the name of its host")


def _runs(runner: Daemon, options: HostRunner) -> bool:
    """Whether a runner runs on this host; one that is alone sees all that does."""
    record = runner.record()
    if record is None or record.stopped:
        return False
    alive = is_alive(record.owner)
    return bool(alive) if options.is_alone else alive is not False


def _details(config: SiteConfig, options: HostRunner) -> dict[str, str]:
    limits = _limits(config, options.queues)
    return {
        "name": name_of(config.directory, options.name),
        "queues": " ".join(f"{queue}={limit}" for queue, limit in limits.items()),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the work pool of a site, in the environment that :func:`start` gives."""
    parser = argparse.ArgumentParser(prog="python -m flows.hosting.host_runner", description=main.__doc__)
    parser.add_argument("site", type=Path, help="the site's folder")
    parser.add_argument("--folder", type=Path, required=True, help="where it keeps what it needs")
    parser.add_argument("--name", required=True, help="as the UI shows it")
    parser.add_argument("--queue", action="append", required=True, help="a work queue, =, and flow runs at a time")
    parser.add_argument("--alone", action="store_true", help="no other process runs under the name of this host")
    parser.add_argument("--watch-server", action="store_true", help="its server is on this host")
    given = parser.parse_args(arguments)

    from flows.hosting import runner

    if given.watch_server:
        refuse_strangers(server.daemon(service.folder_of(given.site)))
    limits = queues_of(given.queue)
    with PrefectApi.of_flow() as api:
        deployments = deployments_for(api, given.site, limits)
    for module in (*service.WARM, *(entrypoint.rpartition(".")[0] for entrypoint in deployments.values())):
        import_module(module)
    told_to_stop = runner.serve(
        runner.RunnerOptions(
            name=given.name,
            pool=POOL,
            limits=limits,
            deployments=deployments,
            folder=given.folder,
            version=__version__,
            is_alone=given.alone,
        )
    )
    if told_to_stop:  # by a signal, as from systemd or Kubernetes: nobody else would say that nothing is amiss
        Daemon(given.folder, NAME).ended()


if __name__ == "__main__":
    main()
