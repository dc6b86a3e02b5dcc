"""Task runs: a job, or a chunk of short jobs, as a person sees it in the UI."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Cancelled, Completed, Failed

from nightmill.model.order import JobOrder
from nightmill.model.report import JobReport
from nightmill.model.states import AttemptState

MESSAGE_CHARACTERS = 500
"""The UI shows the message of a state in one line."""

Body = Callable[[], Sequence[JobReport]]


class EvidenceLog:
    """Puts the evidence of jobs that failed into the logs of their runs: so many lines of it, and then a word of where.

    Safe for use by several threads.

    Parameters
    ----------
    most_lines
        Of all of them together.
    """

    def __init__(self, most_lines: int) -> None:
        self._left, self._lock = most_lines, threading.Lock()

    def tell(self, report: JobReport) -> None:
        """Log the evidence of a job, and where its whole log is, in the run of this task."""
        job = f"{report.attempt.campaign}/{report.attempt.job}"
        lines = report.evidence.splitlines()
        if len(lines) < 2:  # it stands in the message of the state, which Prefect logs
            return
        with self._lock:
            before, self._left = self._left, self._left - len(lines) - 1
        if self._left >= 0:
            get_run_logger().error("%s\nthe whole log: nightmill logs %s", report.evidence, job)
        elif before >= 0:
            get_run_logger().error("no more evidence of this slice is logged here: nightmill logs JOB, as %s", job)


@task(name="job", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def job(name: str, body: Body, evidence: EvidenceLog) -> State[None]:
    """Carry out one job; where nothing was published, its run ends Failed or Cancelled with step, fate and evidence."""
    return next((_end(report, evidence) for report in body()), Cancelled(message="not begun"))


@task(name="jobs", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def jobs(name: str, body: Body) -> State[None]:
    """Carry out a chunk of short jobs; those that fail get a run of their own, see :func:`failed_job`."""
    reports = body()
    published = sum(report.state is AttemptState.PUBLISHED for report in reports)
    return Completed(message=f"{published} of {len(reports)} jobs published")


@task(name="job", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def failed_job(name: str, report: JobReport, evidence: EvidenceLog) -> State[None]:
    """Say how a job of a chunk failed, or that it was cancelled."""
    return _end(report, evidence)


def carry_out(
    orders: Sequence[JobOrder],
    run: Callable[[Sequence[JobOrder]], Sequence[JobReport]],
    enter: Callable[[int], None],
    evidence: EvidenceLog,
) -> list[JobReport]:
    """Carry out orders as one task run, plus one for each job that failed among several.

    Parameters
    ----------
    orders
        One job, or a chunk of short ones.
    run
        Carries them out and records them; tells nothing of those that it did not begin because everything is to end.
    enter
        Called with a number of task runs before they begin; may wait.
    evidence
        What logs why jobs failed.

    Raises
    ------
    Exception
        What ``run`` raised: a failed job is a report, so this is a failure of nightmill or of a service.
    """
    reports: list[JobReport] = []

    def body() -> Sequence[JobReport]:
        reports.extend(run(orders))
        return reports

    enter(1)
    if len(orders) == 1:
        state = job(run_name(orders), body, evidence, return_state=True)
    else:
        state = jobs(run_name(orders), body, return_state=True)
        failed = [report for report in reports if report.state is not AttemptState.PUBLISHED]
        enter(len(failed))
        for report in failed:
            failed_job(report.attempt.job, report, evidence, return_state=True)
    if not reports and not state.is_cancelled():
        state.result(raise_on_failure=True)
    return reports


def log_failures_once() -> None:
    """Have Prefect log the failure of a task run once: it tells the state, and then that the run ended in it."""
    logging.getLogger("prefect.task_runs").addFilter(
        lambda record: not record.getMessage().startswith("Task run failed with state")
    )


def run_name(orders: Sequence[JobOrder]) -> str:
    """Return what a task run of these orders is called: the job's name, or the first and the last of several."""
    first, last = orders[0].attempt, orders[-1].attempt
    if len(orders) == 1:
        return first.job if first.number == 1 else f"{first.job} (attempt {first.number})"
    return f"{len(orders)} jobs: {first.job} to {last.unit}"


def why(report: JobReport) -> str:
    """Say in one line how an attempt failed: step, fate, and the first line of the evidence."""
    first = report.evidence.partition("\n")[0]
    return ": ".join(part for part in (report.failed_step, str(report.fate or ""), first) if part)


def _end(report: JobReport, evidence: EvidenceLog) -> State[None]:
    if report.state is AttemptState.PUBLISHED:
        return Completed()
    evidence.tell(report)
    ended = Cancelled if report.state is AttemptState.CANCELLED else Failed
    return ended(message=why(report)[:MESSAGE_CHARACTERS])
