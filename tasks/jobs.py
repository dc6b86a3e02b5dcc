"""Task runs: a job, or a chunk of short jobs, as a person sees it in the UI."""

from __future__ import annotations

import logging
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


@task(name="job", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def job(name: str, body: Body) -> State[None]:
    """Carry out one job; where nothing was published, its run ends Failed or Cancelled with step, fate and evidence."""
    return next(map(_end, body()), Cancelled(message="not begun"))


@task(name="jobs", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def jobs(name: str, body: Body) -> State[None]:
    """Carry out a chunk of short jobs; those that fail get a run of their own, see :func:`failed_job`."""
    reports = body()
    published = sum(report.state is AttemptState.PUBLISHED for report in reports)
    return Completed(message=f"{published} of {len(reports)} jobs published")


@task(name="job", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def failed_job(name: str, report: JobReport) -> State[None]:
    """Say how a job of a chunk failed, or that it was cancelled."""
    return _end(report)


def carry_out(
    orders: Sequence[JobOrder],
    run: Callable[[Sequence[JobOrder]], Sequence[JobReport]],
    enter: Callable[[int], None],
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
        state = job(run_name(orders), body, return_state=True)
    else:
        state = jobs(run_name(orders), body, return_state=True)
        failed = [report for report in reports if report.state is not AttemptState.PUBLISHED]
        enter(len(failed))
        for report in failed:
            failed_job(report.attempt.job, report, return_state=True)
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


def _end(report: JobReport) -> State[None]:
    if report.state is AttemptState.PUBLISHED:
        return Completed()
    if "\n" in report.evidence:  # its first line stands in the message of the state, which Prefect logs
        get_run_logger().error("%s", report.evidence)
    ended = Cancelled if report.state is AttemptState.CANCELLED else Failed
    return ended(message=why(report)[:MESSAGE_CHARACTERS])
