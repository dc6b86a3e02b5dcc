"""Many jobs, one after another, with their publications grouped."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from nightmill.execution.context import JobContext
from nightmill.execution.job import Prepared, prepare
from nightmill.execution.publish import publish
from nightmill.execution.upload import put_away
from nightmill.model.order import JobOrder
from nightmill.model.report import JobReport

GROUP_JOBS: Final = 32
GROUP_SECONDS: Final = 0.25
"""A group is published when it has so many jobs, or when its first job has waited so long."""
UPLOADS: Final = 8
"""Attempts at a time whose files are uploaded while the next job runs: a durable copy mostly waits for the disk, which
makes several durable at once."""

Group = list[Future[Prepared]]


def run_jobs(orders: Iterable[JobOrder], context: JobContext) -> Iterator[JobReport]:
    """Carry out orders one after another.

    Trivial jobs are published in groups, which share one durable write of the journal; a job that ran for longer than
    the group's time is published at once.

    Whatever ends it early, a context that is stopping, a caller that wants no more reports, an order that is refused:
    what ran to its end before is published.

    Yields
    ------
    JobReport
        One an order that was begun, in their order, once the attempt has ended: published or not. A failed job is a
        report.
    """
    group: Group = []
    begun = time.monotonic()
    with ThreadPoolExecutor(UPLOADS) as pool:
        try:
            for order in orders:
                if context.stopping:
                    break
                group.append(pool.submit(put_away, prepare(order, context), context))
                if len(group) >= GROUP_JOBS or time.monotonic() - begun >= GROUP_SECONDS:
                    ready, group, begun = group, [], time.monotonic()
                    _publish(ready, context)
                    yield from _reports(ready, context)
        finally:
            _publish(group, context)
        yield from _reports(group, context)


def _publish(group: Group, context: JobContext) -> None:
    if group:
        publish([prepared.result() for prepared in group], context)


def _reports(group: Group, context: JobContext) -> Iterator[JobReport]:
    for prepared in group:
        yield context.report(prepared.result().order.attempt)
