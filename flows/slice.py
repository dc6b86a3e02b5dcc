"""The flow of a slice: up to a thousand jobs of one stage, those that are not done."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from itertools import takewhile
from math import ceil
from typing import Final
from uuid import UUID

from prefect import flow, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.logging import get_logger, get_run_logger
from prefect.runtime import flow_run as this_flow_run
from prefect.states import Completed, Failed

from flows import artifacts
from flows.artifacts import SliceProgress
from flows.hosting.api import PrefectApi
from flows.hosting.halted import end_halted, leave_to_another_host
from flows.hosting.own_site import REFUSED, own_site
from flows.hosting.reconcile import HELD, after_slice
from nightmill.backbone.work.campaigns import GOING_ON
from nightmill.backbone.work.slices import SliceJobs
from nightmill.engines.threads import ThreadsEngine
from nightmill.errors import RequestRefused
from nightmill.model.order import JobOrder
from nightmill.model.ports import Engine
from nightmill.model.report import JobReport
from nightmill.model.states import JobState
from nightmill.operations.patience import Patience
from nightmill.operations.site import open_site
from nightmill.operations.slice_work import SliceWork
from nightmill.planning.problems import counted
from tasks.backpressure import Backpressure
from tasks.jobs import EvidenceLog, carry_out, log_failures_once

OTHERS_POLL_SECONDS = 1.0
SHORTEST_PAUSE_SECONDS = 0.05
PATIENCE_SECONDS = 3600.0
"""How long campaigns and slices wait for a service that is away: longer than an upgrade of it takes."""
HALTED: Final = "Halted"
"""Name of the state of a slice that stopped beginning jobs, because a store or the scratch would fail them all."""
TOLD_TO_END: Final = "its flow run was told to end: it was cancelled in Prefect, or its runner was stopped"


@flow(name="slice", flow_run_name="{campaign} {stage} #{number}", persist_result=False, validate_parameters=False)
def slice_(campaign: str, stage: str, number: int, site: str) -> State[None]:
    """Carry out the jobs of a slice that are not done, a task run for each job or for each chunk of short ones.

    Ends Failed where some job is not done afterwards, or where the host has too little for any of them; Paused or
    Cancelled where the operators of its campaign want that. Where the campaign may not use this host, it is scheduled
    again, for another. Carried out again, it takes up what is not published.
    """
    log_failures_once()
    try:
        directory = own_site(site)
    except RequestRefused as refused:
        return Failed(name=REFUSED, message=str(refused))
    flow_run_id = str(this_flow_run.get_id())
    tell = get_run_logger().warning
    patience = patience_of(campaign, stage, number, tell)
    with (
        open_site(directory, need_types=False, patience=patience) as opened,
        PrefectApi.of_flow() as api,
        get_client(sync_client=True) as client,
    ):
        with ExitStack() as carried_out:
            try:
                work = SliceWork(opened, campaign, stage, number, flow_run_id=flow_run_id, tell=tell)
                carried_out.enter_context(work)
            except RequestRefused as refused:
                return Failed(name=REFUSED, message=f"stage {stage!r}: {refused}")
            gate = Backpressure(client, UUID(flow_run_id))
            before = work.jobs()
            with (
                api.in_a_hurry() as hurried,
                SliceProgress(hurried, flow_run_id, before.done, before.total) as progress,
            ):
                _conduct(work, gate, progress)
        jobs = work.jobs()
        artifacts.tell_slice(api, flow_run_id, opened, work.slice, number, stage)
        gate.drain()
        if work.steering.halts and jobs.done < jobs.total:
            return end_halted(opened, api, flow_run_id, work.slice.campaign_id, work.steering)
        if work.barred and jobs.counts.keys() & GOING_ON:
            leave_to_another_host(api, flow_run_id, work.barred)
    return outcome(jobs, stage, work.halted)


def patience_of(campaign: str, stage: str, number: int, tell: Callable[[str], None]) -> Patience:
    """Return how long a slice waits for the database: as long as for Prefect's server."""
    return Patience(f"slice {campaign} {stage} #{number}", PATIENCE_SECONDS, tell)


def outcome(jobs: SliceJobs, stage: str, halted: str = "") -> State[None]:
    """Return the state that a slice ends with: Completed where every job is done, or held.

    Parameters
    ----------
    halted
        Why it did not go on.
    """
    if jobs.done == jobs.total:
        return Completed(message=f"{counted(jobs.total, 'job')} done")
    if halted:
        left = jobs.total - jobs.done - len(jobs.failed)
        told = f"stage {stage!r} was halted: {halted}; {left} of {jobs.total} jobs were left for later"
        return Failed(name=HALTED, message=f"{told}: rerun when that is mended")
    first = f": {jobs.failed[0]}" if jobs.failed else ""
    held = jobs.counts.get(JobState.HELD, 0)
    if 0 < held == jobs.total - jobs.done:
        return Completed(name=HELD, message=f"{jobs.done} jobs done, {held} held")
    barred = f", {held} of them held" if held else ""
    more = f" (and {len(jobs.failed) - 1} more)" if len(jobs.failed) > 1 else ""
    told = f"{jobs.total - jobs.done} of {counted(jobs.total, 'job')} not done"
    return Failed(message=f"{told}{barred}{first}{more}")


def _conduct(work: SliceWork, gate: Backpressure, progress: SliceProgress) -> None:
    """Carry out and record jobs until none can be issued and nobody else carries out any of them.

    Where it is interrupted, the steps that run are ended, and what they did so far is recorded as cancelled.
    """

    def run(orders: Sequence[JobOrder], cores: ExitStack) -> list[JobReport]:
        reports = []
        for report in work.place.run(_then_close(cores, takewhile(lambda _: not work.halted, orders))):
            work.heed(report)
            reports.append(report)
        work.record(reports)
        return reports

    def interrupt(error: BaseException) -> None:
        failed = f"its slice failed: {type(error).__name__}: {error}"
        work.worker.stop(failed if isinstance(error, Exception) else TOLD_TO_END)
        gate.open()

    def carry_out_in_turn(orders: Sequence[JobOrder]) -> list[JobReport]:
        cores = None if work.halted else work.take_cores(orders)
        if cores is None:
            return []
        with cores:
            return carry_out(orders, lambda orders: run(orders, cores), gate.enter, evidence)

    _warn_of_cores(work)
    evidence = EvidenceLog(work.site.config.logs.prefect_lines)
    issued = _Issued(work)
    engine: Engine = ThreadsEngine(
        carry_out=carry_out_in_turn,
        threads=work.place.most_chunks,
        places=lambda: work.threads,
        chunk_size=lambda: issued.chunk_size,
        interrupt=interrupt,
        pause_seconds=lambda: _bounded(work.seconds_to_wait()),
    )
    while True:
        reports = 0
        with closing(engine.run(issued)) as running:  # or its jobs would go on where a signal comes between reports
            for report in running:
                reports += 1
                progress.ended(report)
        if not reports:
            pause = _bounded(work.seconds_to_wait())
            if work.steering.halts or (pause is None and not work.others_active()):
                return
            time.sleep(pause or OTHERS_POLL_SECONDS)


def _bounded(seconds: float | None) -> float | None:
    """Return a pause that is neither none at all nor longer than that between two looks at others."""
    return None if seconds is None else min(max(seconds, SHORTEST_PAUSE_SECONDS), OTHERS_POLL_SECONDS)


def _warn_of_cores(work: SliceWork) -> None:
    if work.place.is_here and work.resources.cores > work.host.cores:
        get_run_logger().warning(
            "A job asks for %d cores, and host %s has %d: each runs alone there, on all of them",
            work.resources.cores,
            work.host.name,
            work.host.cores,
        )


def _then_close(cores: ExitStack, orders: Iterable[JobOrder]) -> Iterator[JobOrder]:
    """Yield orders, and free their cores where the last has run: publishing mostly waits for the disk."""
    yield from orders
    cores.close()


class _Issued:
    """Issues the jobs of a slice as they are asked for, a round of the engine at a time.

    Where it has no more it may have some later: those that are to be tried again.
    """

    def __init__(self, work: SliceWork) -> None:
        self._work = work
        self._orders: deque[JobOrder] = deque()
        self._chunk = work.jobs_per_task

    @property
    def chunk_size(self) -> int:
        """How many jobs the next chunk is to have."""
        adopted = self._work.adopted
        return len(adopted[0]) if adopted and not self._orders else self._chunk

    def __iter__(self) -> Iterator[JobOrder]:
        return self

    def __next__(self) -> JobOrder:
        if not self._orders and self._work.adopted:
            self._orders.extend(self._work.adopted.pop(0))
        if not self._orders:
            most = self._work.jobs_per_task
            self._orders.extend(self._work.issue(self._work.jobs_per_issue))
            if not self._orders:
                raise StopIteration
            # so that no thread is left without
            self._chunk = min(most, ceil(len(self._orders) / self._work.threads))
        return self._orders.popleft()


@slice_.on_failure
@slice_.on_completion
def _ended(flow: Flow[..., State[None]], flow_run: FlowRun, state: State[None]) -> None:
    """Let the campaign go on where it had ended, as after a retry from the UI."""
    given = flow_run.parameters
    patience = patience_of(given["campaign"], given["stage"], given["number"], get_logger("nightmill").warning)
    with suppress(RequestRefused):  # it was not carried out, either
        after_slice(own_site(given["site"]), given["campaign"], patience)
