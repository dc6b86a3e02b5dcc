"""The warm runner: starts the flow runs of a site's work pool in forked children of a process that has imported it all.

A worker of Prefect starts an interpreter for each flow run, which takes 5 s until the flow's first line; a fork takes
0.01 s. To Prefect the runner is a worker of the pool like any other, and others may serve the same pool.

The process has one thread, so that it can fork safely, and waits for signals (a child's end among them) between polls.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.engine import handle_engine_signals
from prefect.exceptions import ObjectNotFound
from prefect.flow_engine import load_flow_run, run_flow
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.logging import get_logger
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
from prefect.states import Failed, Pending

from flows.hosting.children import Child, ChildRecord, state_after
from flows.hosting.daemon import TURN, keep
from flows.hosting.naming import Upcoming
from flows.hosting.own_site import REFUSED
from nightmill.execution.owner import is_alive, owner_of, this_process

WORKER_HEARTBEAT_SECONDS = 15.0
CANCEL_POLL_SECONDS = 1.0
TERMINATE_GRACE_SECONDS = 20.0
OTHER_VERSION_SECONDS = 60.0
"""How long a runner takes nothing that sees deployments of another nightmill than its own."""
_AWAITED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


@dataclass(frozen=True)
class RunnerOptions:
    """What a runner serves.

    Parameters
    ----------
    name
        As which worker it shows in the UI.
    pool
        The work pool.
    limits
        Flow runs at a time, for each work queue that it serves. Queues never wait for each other: a campaign waits for
        its slices, which would never start if campaigns took their places.
    deployments
        The entry points of those deployments, by ID, whose flow runs it carries out. What the server says of them is
        never followed: whoever can change it there could have any program run.
    folder
        Where it remembers its children, for the runner that comes after it.
    version
        Of the nightmill that made the deployments: flow runs of others are left to runners that have it. None where
        nobody else makes them.
    is_alone
        Whether no other process runs under the name of this host: children of a runner before that cannot be seen from
        here were in a container that is gone.
    poll_seconds
        How often it looks for work.
    """

    name: str
    pool: str
    limits: Mapping[str, int]
    deployments: Mapping[UUID, str]
    folder: Path
    version: str | None = None
    is_alone: bool = False
    poll_seconds: float = 0.5


@dataclass
class Runner:
    """Claims scheduled flow runs, starts them, and reports those that end without telling."""

    options: RunnerOptions
    client: SyncPrefectClient
    children: dict[UUID, Child] = field(default_factory=dict)
    stopping: bool = False
    _server_away: bool = False
    _next_claim: float = 0.0
    _next_heartbeat: float = 0.0
    _next_cancel_poll: float = 0.0

    def __post_init__(self) -> None:
        self.logger = get_logger("nightmill.runner")
        self.upcoming = Upcoming(self.client, self.options.deployments)

    def run(self) -> Child | None:
        """Serve until SIGTERM or SIGINT (children are ended) or SIGHUP (children go on by themselves).

        Returns once for each flow run and once more, as fork does: in a child with the flow run to carry out, in the
        parent at the end with None.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
        self._adopt()
        self.logger.info("Serving work pool '%s': %s", self.options.pool, dict(self.options.limits))
        while not self._done():
            self._reap()
            for claimed in self._serve():
                if self._fork(claimed):
                    return claimed
            received = signal.sigtimedwait(_AWAITED, self.options.poll_seconds)
            if received is None or received.si_signo == signal.SIGCHLD:
                continue
            if received.si_signo == signal.SIGHUP:
                self.logger.info("Leaving %d flow runs to themselves", len(self.children))
                return None
            self._stop_children()
        return None

    def _done(self) -> bool:
        """Whether a runner that was told to stop has reported all ends, or has nobody to report them to."""
        told_all = not self.children or (self._server_away and all(child.ended for child in self.children.values()))
        return self.stopping and told_all

    # ------------------------------------------------------------------------------------------ processes

    def _fork(self, child: Child) -> bool:
        """Make a process for a claimed flow run; return whether this is that process."""
        pid = os.fork()
        if pid == 0:
            os.setsid()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)
            # written here, not by the parent, so that no kill can leave a process that nobody knows of
            self._remember(child.record.model_copy(update={"process": this_process()}))
            return True
        child.record = child.record.model_copy(update={"process": owner_of(pid)})
        child.mine = True
        self.logger.info("Flow run '%s' started as process %d", child.record.flow_run_name, pid)
        return False

    def _adopt(self) -> None:
        """Take over the children of the runner before this one."""
        for file in sorted(self._folder.glob("*.json")):
            record = ChildRecord.model_validate_json(file.read_text(encoding="utf-8"))
            self.children[record.flow_run_id] = Child(record)
            self.logger.info("Found flow run '%s' of a runner before", record.flow_run_name)

    def _reap(self) -> None:
        """See which children have ended, and kill those that were asked to end and did not."""
        for child in self.children.values():
            if child.ended:
                continue
            if child.mine:
                pid, status = os.waitpid(child.pid, os.WNOHANG)
                child.ended = pid != 0
                if child.ended:
                    child.exit_code = os.waitstatus_to_exitcode(status)
                    with suppress(ProcessLookupError):  # what it started and left behind
                        os.killpg(child.pid, signal.SIGKILL)
            else:
                alive = is_alive(child.record.process) if child.record.process else False
                child.ended = not alive if self.options.is_alone else alive is False
            if not child.ended and child.kill_at is not None and time.monotonic() >= child.kill_at:
                _kill_tree(child.pid)

    def _stop_children(self) -> None:
        self.stopping = True
        self.logger.info("Stopping; %d flow runs are told to end", len(self.children))
        for child in self.children.values():
            self._terminate(child)

    def _terminate(self, child: Child) -> None:
        if child.ended or child.kill_at is not None:
            return
        child.kill_at = time.monotonic() + TERMINATE_GRACE_SECONDS
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGTERM)

    # -------------------------------------------------------------------------------------------- records

    @property
    def _folder(self) -> Path:
        return self.options.folder / "runs"

    def _remember(self, record: ChildRecord) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        keep(self._folder / f"{record.flow_run_id}.json", record)

    def _forget(self, flow_run_id: UUID) -> None:
        del self.children[flow_run_id]
        (self._folder / f"{flow_run_id}.json").unlink(missing_ok=True)

    # --------------------------------------------------------------------------------------------- server

    def _serve(self) -> list[Child]:
        """Talk to the server once; return the flow runs that were claimed, to be forked.

        A server that is away changes nothing: children go on, and ends are reported when it is back.
        """
        claimed: list[Child] = []
        try:
            self._report_ends()
            self._heartbeat()
            self._follow_cancellations()
            claimed.extend(self._claim())
            self.upcoming.name()  # last: work never waits for names
        except httpx.HTTPError as error:
            if not self._server_away:
                self.logger.warning("The Prefect server is away (%s); flow runs that started go on", error)
            self._server_away = True
        else:
            if self._server_away:
                self.logger.info("The Prefect server is back")
            self._server_away = False
        return claimed

    def _claim(self) -> Iterator[Child]:
        free = dict(self.options.limits)
        for child in self.children.values():
            free[child.record.queue] = free.get(child.record.queue, 0) - 1
        queues = [queue for queue in self.options.limits if free[queue] > 0]
        if self.stopping or not queues or time.monotonic() < self._next_claim:
            return
        responses = self.client.get_scheduled_flow_runs_for_work_pool(
            self.options.pool, work_queue_names=queues, scheduled_before=datetime.now(UTC)
        )
        for flow_run in [response.flow_run for response in responses]:
            queue = flow_run.work_queue_name or ""
            if flow_run.id in self.children or free.get(queue, 0) <= 0 or time.monotonic() < self._next_claim:
                continue
            entrypoint = self._entrypoint(flow_run)
            if entrypoint is None:
                continue
            record = ChildRecord(flow_run_id=flow_run.id, flow_run_name=flow_run.name, queue=queue)
            child = Child(record, entrypoint)
            self._remember(child.record)
            self.children[flow_run.id] = child  # and if the next call fails, its claim is given back later
            with suppress(ObjectNotFound):  # it was deleted a moment ago
                if self.client.set_flow_run_state(flow_run.id, Pending()).status is SetStateStatus.ACCEPT:
                    free[queue] -= 1
                    yield child
                    continue
            self._forget(flow_run.id)

    def _entrypoint(self, flow_run: FlowRun) -> str | None:
        """Return the entry point of a flow run's deployment; None where it is not one of the runner's own.

        A flow run of any other gets an end that says so, and so does one whose deployment was changed.
        """
        why = "its deployment was not made by the runner of this site"
        with suppress(ObjectNotFound):  # one of both was deleted a moment ago
            if flow_run.deployment_id and flow_run.deployment_id in self.options.deployments:
                found = self.client.read_deployment(flow_run.deployment_id)
                own = self.options.deployments[found.id]
                if self.options.version not in (None, found.version):
                    self._leave(found.version)
                    return None
                if found.entrypoint == own and not found.pull_steps and not found.storage_document_id:
                    return own
                why = f"its deployment {found.name!r} is no longer as the runner of this site has made it"
            message = f"{why}: nothing was executed; to have it made anew: `nightmill server stop`, then start it again"
            self.client.set_flow_run_state(flow_run.id, Failed(name=REFUSED, message=message), force=True)
            self.logger.warning("Flow run '%s' (%s) refused: %s", flow_run.name, flow_run.id, message)
        return None

    def _leave(self, version: str | None) -> None:
        """Take nothing for a while, since the server was started by another nightmill meanwhile."""
        self._next_claim = time.monotonic() + OTHER_VERSION_SECONDS
        self.logger.warning(
            "The server's deployments are of nightmill %s by now, and this is %s: it takes no flow run before they are "
            "the same; stop it, install that version, start it again",
            version,
            self.options.version,
        )

    def _heartbeat(self) -> None:
        if time.monotonic() >= self._next_heartbeat:
            (self.options.folder / TURN).touch()  # also while the server is away: it tells whether this process hangs
            self.client.send_worker_heartbeat(self.options.pool, self.options.name, WORKER_HEARTBEAT_SECONDS)
            self._next_heartbeat = time.monotonic() + WORKER_HEARTBEAT_SECONDS

    def _follow_cancellations(self) -> None:
        running = [child.record.flow_run_id for child in self.children.values() if not child.ended]
        if not running or time.monotonic() < self._next_cancel_poll:
            return
        self._next_cancel_poll = time.monotonic() + CANCEL_POLL_SECONDS
        for flow_run in self.client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                id=FlowRunFilterId(any_=running),
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CANCELLING])),
            )
        ):
            self.children[flow_run.id].cancelled = True
            self._terminate(self.children[flow_run.id])

    def _report_ends(self) -> None:
        for child in [child for child in self.children.values() if child.ended]:
            flow_run_id = child.record.flow_run_id
            with suppress(ObjectNotFound):  # it was deleted
                state = state_after(child, self.client.read_flow_run(flow_run_id).state)
                if state is not None:
                    self.client.set_flow_run_state(flow_run_id, state, force=True)
                    self.logger.info("Flow run '%s': %s", child.record.flow_run_name, state)
            self._forget(flow_run_id)


def _kill_tree(pid: int) -> None:
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):  # what a step runs as another user is left
                process.kill()


def execute(flow_run_id: UUID, entrypoint: str) -> None:
    """Carry out a flow run in this process with Prefect's own engine, and exit as its engine command does.

    The flow is the one that the runner deployed, whatever the server says of the deployment by now.

    Heartbeats of the engine are off: they would hold up the end of each flow run for a second, and the runner sees
    its children end without them.
    """
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}), handle_engine_signals(flow_run_id):
        flow_run = load_flow_run(flow_run_id)
        flow: Flow[..., object] = load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False)
        result: object = run_flow(flow, flow_run=flow_run)
        if inspect.iscoroutine(result):
            asyncio.run(result)


def serve(options: RunnerOptions) -> bool:
    """Run the runner in this process, which has imported what flow runs need, has one thread, and does nothing else.

    Its environment is that of :func:`flows.hosting.server.api_environment`.

    Returns
    -------
    bool
        Whether this is the runner, which was told to stop and has ended its flow runs; not one of these.
    """
    gc.collect()
    gc.freeze()  # what was imported is never collected, so that children share its memory
    with (
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),  # it polls anyway, and must not sleep over its children
        get_client(sync_client=True) as client,
    ):
        runner = Runner(options, client)
        child = runner.run()
    if child is None:
        return runner.stopping
    execute(child.record.flow_run_id, child.entrypoint)
    return False
