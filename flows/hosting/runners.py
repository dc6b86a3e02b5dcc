"""How the runners beside a site's server are, on whatever host; they are started by :mod:`flows.hosting.host_runner`.

Nothing here imports Prefect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from flows.hosting import service
from flows.hosting.api import PrefectApi
from flows.hosting.daemon import Daemon, DaemonState
from nightmill.config.rules import check_fit
from nightmill.errors import RequestRefused, ServerAway
from nightmill.execution.owner import host_name

NAME: Final = "runner"
POOL: Final = "nightmill"
TURN_LIMIT: Final = timedelta(minutes=3)
"""A runner has a turn each 15 s; a request that gets no answer takes a minute of them."""


@dataclass(frozen=True)
class RunnerStatus:
    """How a runner is.

    Parameters
    ----------
    name
        As Prefect's UI shows it.
    queues
        The work queues that it serves, with flow runs at a time.
    state
        Whether its process lives; of another host, whether anybody stopped it.
    flow_runs
        How many flow runs it carries out.
    turn_at
        When it last looked after them, server or not.
    heard_at
        When the server last heard of it; None where nobody asked or it never did.
    """

    name: str
    host: str
    queues: Mapping[str, int]
    state: DaemonState
    pid: int
    flow_runs: int
    turn_at: datetime | None
    heard_at: datetime | None
    log: str

    def __str__(self) -> str:
        queues = ", ".join(f"{queue}={limit}" for queue, limit in self.queues.items())
        told = f"{self.name} ({queues}): {self.state if self.pid else 'dead'}, flow runs: {self.flow_runs}"
        if self.heard_at is not None:
            told += f", heard of at {self.heard_at:%Y-%m-%d %H:%M:%S} UTC"
        if self.healthy:
            return told
        silent = f"silent since {self.turn_at:%Y-%m-%d %H:%M:%S} UTC" if self.turn_at else "never heard of"
        folder = Path(self.log).parent
        gone = f"where that is lost for good, 'nightmill record --host-lost {self.host} --why ...' and remove {folder}"
        return f"{told}, {silent}; start it anew on {self.host}, or {gone}"

    @property
    def healthy(self) -> bool:
        """Whether its process lives and does not hang."""
        return (
            self.state is DaemonState.RUNNING
            and self.turn_at is not None
            and datetime.now(UTC) - self.turn_at < TURN_LIMIT
        )


def folder_of(site: Path) -> Path:
    """Return where the runners of a site, each in a folder of its own, keep what they need."""
    return site / ".nightmill" / "runners"


def stop(site: Path, name: str) -> RunnerStatus:
    """Stop a runner of this host, which ends its flow runs; return how it was before."""
    before = one(site, name)
    runner = daemon_of(site, name)
    with runner.locked():
        runner.stop(service.RUNNER_STOP_SECONDS)
    return before


def one(site: Path, name: str) -> RunnerStatus:
    """Tell how a runner of this host is; no question is asked of a server."""
    return _status(site, daemon_of(site, name), {})


def all_runners(site: Path) -> list[RunnerStatus]:
    """Tell how the runners are that were not stopped, on whatever host; within seconds, where the server is away."""
    if not daemons(site):
        return []
    try:
        with PrefectApi.of_site(site).in_a_hurry() as api:
            heard = api.workers_of(POOL)
    except ServerAway:
        heard = {}
    found = [_status(site, each, heard) for each in daemons(site)]
    return [each for each in found if each.state is not DaemonState.STOPPED]


def daemons(site: Path) -> list[Daemon]:
    """Return the runners of a site that were ever started, on whatever host."""
    return [Daemon(file.parent, NAME) for file in sorted(folder_of(site).glob(f"*/{NAME}.json"))]


def name_of(site: Path, name: str) -> str:
    """Return as which runner one of this host shows in Prefect's UI."""
    return f"{name} of {site.name} on {host_name()}"


def daemon_of(site: Path, name: str) -> Daemon:
    """Return the background process that is a runner of this host.

    Raises
    ------
    RequestRefused
        Where nothing can have that name.
    """
    for problem in check_fit("runner name", name):
        raise RequestRefused(problem)
    return Daemon(folder_of(site) / f"{name}@{host_name()}", NAME)


def _status(site: Path, runner: Daemon, heard: Mapping[str, datetime]) -> RunnerStatus:
    name, _, host = runner.folder.name.rpartition("@")
    record, state = runner.record(), runner.state()
    details = record.details if record else {"name": name_of(site, name), "queues": ""}
    return RunnerStatus(
        name=details["name"],
        host=host,
        queues=queues_of(details["queues"].split()),
        state=state,
        pid=record.owner.pid if record and state is DaemonState.RUNNING else 0,
        flow_runs=len(list((runner.folder / "runs").glob("*.json"))),
        turn_at=runner.turn_at,
        heard_at=heard.get(details["name"]),
        log=str(runner.log),
    )


def queues_of(given: Sequence[str]) -> dict[str, int]:
    """Read queues with flow runs at a time, each as ``QUEUE=N``."""
    return {queue: int(limit) for queue, _, limit in (each.partition("=") for each in given)}
