"""What conducts a site: its Prefect server and its warm runner, started, stopped and looked at together.

Nothing here imports Prefect, so that asking takes no time; the runner's process does, which is ``python -m
flows.hosting.service``.
"""

from __future__ import annotations

import argparse
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from flows.hosting import server
from flows.hosting.daemon import Daemon, DaemonState, clean_environment
from flows.hosting.listener import refuse_strangers
from flows.hosting.server import ServerStatus
from nightmill.config.secrets import known_secrets
from nightmill.config.server import ServerConfig
from nightmill.config.site import SECRETS_FILE, load_site
from nightmill.errors import ServerAway
from nightmill.execution.owner import is_alive

RUNNER_START_SECONDS = 120.0
RUNNER_STOP_SECONDS = 40.0
"""Longer than the runner gives its flow runs to end."""
RUNNER_READY = b"Serving work pool"
WARM = (
    "alembic.command",
    "anyio._backends._asyncio",
    "prefect.task_engine",
    "prefect.utilities.visualization",
    "sqlite3",
    "stagers.local",
)
"""What flow runs import only when they come to it: 0.5 s in each of them, unless the runner has done it before."""


@dataclass(frozen=True)
class ServiceStatus:
    """How a site's conductor is.

    Parameters
    ----------
    runner
        Whether the warm runner's process lives.
    flow_runs
        How many flow runs it carries out.
    """

    server: ServerStatus
    runner: DaemonState
    runner_pid: int
    flow_runs: int

    @property
    def healthy(self) -> bool:
        """Whether flow runs that are submitted will be carried out."""
        return self.server.healthy and self.runner is DaemonState.RUNNING


def folder_of(site: Path) -> Path:
    """Return where the server and the runner of a site keep what they need."""
    return site / ".nightmill" / "server"


def start(
    site: Path, config: ServerConfig, *, settings: Mapping[str, str] = {}, deployments: Path | None = None
) -> ServiceStatus:
    """Start what does not run yet, deploy, and wait until flow runs would be carried out.

    Parameters
    ----------
    site
        The site's folder.
    config
        How its server is to be, and how many slices at a time.
    settings
        More settings of the Prefect server.
    deployments
        Another prefect.yaml than the installed one.

    Raises
    ------
    RequestRefused, ServerAway
        As :func:`flows.hosting.server.start`; and where the runner does not come up, with the end of its log.
    """
    folder = folder_of(site)
    config = config.with_secrets(known_secrets(site / SECRETS_FILE))
    runner = _runner(folder)
    with runner.own():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    with runner.locked():  # over the server, too: nobody stops it between its start and the runner's
        started = server.start(folder, config, settings=settings)
        record = runner.record()
        if runner.state() is DaemonState.RUNNING and record and record.details["api_url"] != started.api_url:
            runner.stop(RUNNER_STOP_SECONDS)
        if runner.state() is not DaemonState.RUNNING:
            argv = [sys.executable, "-m", "flows.hosting.service", str(site), "--slices", str(config.slices)]
            argv += ["--deployments", str(deployments)] if deployments else []
            environment = {**server.api_environment(folder), "NIGHTMILL_SITE": str(site)}
            written = runner.new_log()
            runner.spawn(argv, clean_environment(environment), {"api_url": started.api_url})
            wait_until_ready(runner, written)
    return status(site)


def stop(site: Path) -> ServiceStatus:
    """Stop the runner, which ends its flow runs, then the server; return how they were before."""
    before = status(site)
    runner = _runner(folder_of(site))
    with runner.locked():
        runner.stop(RUNNER_STOP_SECONDS)
        server.stop(folder_of(site))
    return before


def status(site: Path) -> ServiceStatus:
    """Tell how the server and the runner are, within a few seconds."""
    folder = folder_of(site)
    runner = _runner(folder)
    state, record = runner.state(), runner.record()
    return ServiceStatus(
        server=server.status(folder),
        runner=state,
        runner_pid=record.owner.pid if record and state is DaemonState.RUNNING else 0,
        flow_runs=len(list((folder / "runs").glob("*.json"))),
    )


def _runner(folder: Path) -> Daemon:
    return Daemon(folder, "runner")


def wait_until_ready(runner: Daemon, written: int, *, verb: str = "server") -> None:
    """Wait until a runner says so in its log, of which ``written`` bytes are of runners before it.

    Parameters
    ----------
    verb
        Which verb of nightmill tells how it is.

    Raises
    ------
    ServerAway
        Where it ends before, or takes too long, with the end of its log.
    """
    record = runner.record()
    assert record is not None  # it was spawned
    deadline = time.monotonic() + RUNNER_START_SECONDS
    while RUNNER_READY not in runner.log.read_bytes()[written:]:
        if is_alive(record.owner) is False:
            raise ServerAway(f"the {runner.name} ended while it started; the end of {runner.log}:\n{runner.log_tail()}")
        if time.monotonic() > deadline:
            raise ServerAway(
                f"the {runner.name} (pid {record.owner.pid}) was not ready within {RUNNER_START_SECONDS:.0f} s; "
                f"the end of {runner.log}:\n{runner.log_tail()}",
                remedy=f"wait and ask with `nightmill {verb} status`, or stop it with `nightmill {verb} stop`",
            )
        time.sleep(0.05)


def main(arguments: Sequence[str] | None = None) -> None:
    """Deploy into the site's server and serve its work pool, in the environment that the server's module gives."""
    parser = argparse.ArgumentParser(prog="python -m flows.hosting.service", description=main.__doc__)
    parser.add_argument("site", type=Path, help="the site's folder")
    parser.add_argument("--slices", type=int, required=True, help="slices at a time")
    parser.add_argument("--deployments", type=Path, help="another prefect.yaml than the installed one")
    given = parser.parse_args(arguments)

    from prefect.client.orchestration import get_client

    from flows.hosting import deploy, runner
    from flows.hosting.declared import load_deployments

    refuse_strangers(server.daemon(folder_of(given.site)))
    declared = load_deployments(given.deployments)
    limits = {**declared.definitions.work_queues, "slices": given.slices}
    with get_client(sync_client=True) as client:
        deployments = deploy.deploy(client, declared, site=given.site, limits={**limits, "slices": None})
    for module in WARM:
        import_module(module)
    [pool] = declared.pools
    ship_logs(given.site)
    runner.serve(
        runner.RunnerOptions(
            name=f"{given.site.name} on {socket.gethostname()}",
            pool=pool,
            limits=limits,
            deployments=deployments,
            folder=folder_of(given.site),
        )
    )


def ship_logs(site: Path) -> threading.Event:
    """Send the log lines of a site to its sinks, where it has some, until the event or the end of this process."""
    from nightmill.operations.log_shipping.shipping import ship_for_ever

    config, stopping = load_site(site, need_types=False), threading.Event()
    if config.logs.sinks:
        threading.Thread(target=ship_for_ever, args=[config, stopping], daemon=True).start()
    return stopping


if __name__ == "__main__":
    main()
