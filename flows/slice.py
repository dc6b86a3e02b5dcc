"""The flow of a slice: up to a thousand jobs of one stage, those that are not done."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from math import ceil
from typing import Final
from uuid import UUID

from prefect import flow, get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.flows import Flow
from prefect.logging import get_run_logger
from prefect.runtime import flow_run as this_flow_run
from prefect.states import Completed, Failed

from flows import artifacts
from flows.api import PrefectApi
from flows.artifacts import SliceProgress
from flows.own_site import REFUSED, own_site
from flows.reconciliation import after_slice
from nightmill.backbone.conducting import conducts_slice
from nightmill.backbone.slices import SliceJobs
from nightmill.errors import RequestRefused
from nightmill.execution.jobs import run_jobs
from nightmill.model.journal import JobReport
from nightmill.model.order import JobOrder
from nightmill.model.ports import Engine
from tasks.engines.threads import ThreadsEngine
from tasks.jobs import carry_out, log_failures_once
from tasks.recording import RecordingGate
from tasks.site import open_site
from tasks.slices import SliceWork

OTHERS_POLL_SECONDS = 1.0
TOLD_TO_END: Final = "its flow run was told to end: it was cancelled in Prefect, or its runner was stopped"


@flow(name="slice", flow_run_name="{campaign} {stage} #{number}", persist_result=False, validate_parameters=False)
def slice_(campaign: str, stage: str, number: int, site: str) -> State[None]:
    """Carry out the jobs of a slice that are not done, a task run for each job or for each chunk of short ones.

    Ends Failed where some job is not done afterwards, or where the host has too little for any of them. Carried out
    again, it takes up what is not published.
    """
    log_failures_once()
    try:
        directory = own_site(site)
    except RequestRefused as refused:
        return Failed(name=REFUSED, message=str(refused))
    flow_run_id = UUID(this_flow_run.get_id())
    with (
        open_site(directory, need_types=False) as opened,
        PrefectApi.of_flow() as api,
        get_client(sync_client=True) as client,
    ):
        try:
            work = SliceWork(opened, campaign, stage, number, flow_run_id=str(flow_run_id))
        except RequestRefused as refused:
            return Failed(name=REFUSED, message=f"stage {stage!r}: {refused}")
        with work:
            opened.database.write(lambda session: conducts_slice(session, work.slice.slice_id, str(flow_run_id)))
            gate = RecordingGate(client, flow_run_id)
            before = work.jobs()
            with (
                api.in_a_hurry() as hurried,
                SliceProgress(hurried, str(flow_run_id), before.done, before.total) as progress,
            ):
                _conduct(work, gate, progress)
        jobs = work.jobs()
        artifacts.tell_slice(api, str(flow_run_id), opened, work.slice, number, stage)
        gate.drain()
    return outcome(jobs)


def outcome(jobs: SliceJobs) -> State[None]:
    """Return the state that a slice ends with: Completed where every job is done."""
    if jobs.done == jobs.total:
        return Completed(message=f"{jobs.total} jobs done")
    first = f": {jobs.failed[0]}" if jobs.failed else ""
    more = f" (and {len(jobs.failed) - 1} more)" if len(jobs.failed) > 1 else ""
    return Failed(message=f"{jobs.total - jobs.done} of {jobs.total} jobs not done{first}{more}")


def _conduct(work: SliceWork, gate: RecordingGate, progress: SliceProgress) -> None:
    """Carry out and record jobs until none can be issued and nobody else carries out any of them.

    Where it is interrupted, the steps that run are ended, and what they did so far is recorded as cancelled.
    """
    recording = threading.Lock()

    def run(orders: Sequence[JobOrder], cores: ExitStack) -> list[JobReport]:
        reports = list(run_jobs(_then_close(cores, orders), work.context))
        with recording:
            work.record(reports)
        return reports

    def interrupt(error: BaseException) -> None:
        failed = f"its slice failed: {type(error).__name__}: {error}"
        work.context.stopping = failed if isinstance(error, Exception) else TOLD_TO_END
        gate.open()

    def carry_out_in_turn(orders: Sequence[JobOrder]) -> list[JobReport]:
        cores = work.take_cores()
        if cores is None:
            return []
        with cores:
            return carry_out(orders, lambda orders: run(orders, cores), gate.enter)

    if work.stage.resources.cores > work.host.cores:
        get_run_logger().warning(
            "A job asks for %d cores, and host %s has %d: each runs alone there, on all of them",
            work.stage.resources.cores,
            work.host.name,
            work.host.cores,
        )
    issued = _Issued(work, recording)
    engine: Engine = ThreadsEngine(
        carry_out=carry_out_in_turn,
        threads=work.threads,
        chunk_size=lambda: issued.chunk_size,
        interrupt=interrupt,
    )
    while True:
        reports = 0
        with closing(engine.run(issued)) as running:  # or its jobs would go on where a signal comes between reports
            for report in running:
                reports += 1
                progress.ended(report)
        if not reports:
            if not work.others_active():
                return
            time.sleep(OTHERS_POLL_SECONDS)


def _then_close(cores: ExitStack, orders: Sequence[JobOrder]) -> Iterator[JobOrder]:
    """Yield orders, and free their cores where the last has run: publishing mostly waits for the disk."""
    yield from orders
    cores.close()


class _Issued:
    """Issues the jobs of a slice as they are asked for, a round of the engine at a time."""

    def __init__(self, work: SliceWork, recording: threading.Lock) -> None:
        self._work, self._recording = work, recording
        self.chunk_size = work.jobs_per_task

    def __iter__(self) -> Iterator[JobOrder]:
        while True:
            with self._recording:
                most = self._work.jobs_per_task
                orders = self._work.issue(self._work.jobs_per_issue)
            if not orders:
                return
            self.chunk_size = min(most, ceil(len(orders) / self._work.threads))  # so that no thread is left without
            yield from orders


@slice_.on_failure
@slice_.on_completion
def _ended(flow: Flow[..., State[None]], flow_run: FlowRun, state: State[None]) -> None:
    """Let the campaign go on where it had ended, as after a retry from the UI."""
    with suppress(RequestRefused):  # it was not carried out, either
        after_slice(own_site(flow_run.parameters["site"]), flow_run.parameters["campaign"])
