"""What a rerun is to do, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from nightmill.backbone.work.reruns import Again
from nightmill.cli.documents import reruns as documents
from nightmill.cli.documents import told
from nightmill.cli.render.output import echo, print_json
from nightmill.model.base import canonical_json
from nightmill.operations.foreseen import Foreseen

SHOWN: Final = 20
"""Jobs that people are shown before the rest is only counted."""


def print_foreseen(foreseen: Foreseen) -> None:
    """Print as JSON what a rerun would do."""
    counts: dict[str, dict[str, int]] = {}
    for (stage, state), count in foreseen.counts.items():
        counts.setdefault(stage, {})[state.value] = count
    print_json(
        documents.ForeseenRerun(
            campaign=foreseen.campaign,
            jobs=[_told(foreseen, job) for job in foreseen.jobs],
            counts=counts,
            values=[told(documents.ChangedValue, value, jobs=jobs) for value, jobs in foreseen.values],
            downstream=list(foreseen.downstream.values()),
            stale=foreseen.stale,
            waits=foreseen.waits,
            gone=foreseen.gone,
            go_on=foreseen.others.go_on,
            held=foreseen.others.wait,
            passed_over=foreseen.others.passed_over,
        )
    )


def show_foreseen(foreseen: Foreseen) -> None:
    """Tell people what a rerun is to do."""
    for (stage, state), count in foreseen.counts.items():
        echo(f"runs again: stage {stage}: {_jobs(count)} now {state}")
    for job in foreseen.jobs[:SHOWN]:
        _show_job(foreseen, job)
    if len(foreseen.jobs) > SHOWN:
        echo(f"  ... and {len(foreseen.jobs) - SHOWN:,} more (--dry-run --json names all)")
    for value, count in foreseen.values:
        echo(f"changes {value.key}: {_value(value.before)} -> {_value(value.after)} ({value.origin}), {_jobs(count)}")
    for stage in foreseen.waits:
        echo(stage)
    if foreseen.downstream:
        then = list(foreseen.downstream.values())
        echo(f"run again after them, with what they make: {_jobs(len(then))}: {_some(then)}")
    if foreseen.stale:
        echo(f"become stale then: {_jobs(len(foreseen.stale))}: {_some(foreseen.stale)}")
    _show_rest(foreseen)


def _show_rest(foreseen: Foreseen) -> None:
    """Tell what becomes of the jobs that do not run again."""
    if foreseen.gone:
        echo(f"do not run again, as they would not be planned any more: {_some(foreseen.gone, '; ')}")
    rest = foreseen.others
    if rest.passed_over:
        echo(f"failed, and are left so: {_jobs(rest.passed_over)}")
    if rest.wait:
        echo(f"wait for 'nightmill release': {_jobs(rest.wait)}")
    if rest.go_on:
        echo(f"go on in any case: {_jobs(rest.go_on)}")


def _show_job(foreseen: Foreseen, job: Again) -> None:
    held = f": {job.held_why}" if job.held_why else ""
    echo(f"  {job.name}{held}")
    for role, before, after in foreseen.inputs.get(job.id, ()):
        echo(f"    {role}: {before} -> {after}")
    if (begin := foreseen.restarts.get(job.id)) is not None:
        taken = ", ".join([file.name for file in begin.files]) or "nothing"
        echo(f"    begins with step {begin.only[0]!r}; takes from attempt a{begin.attempt:02d}: {taken}")


def _told(foreseen: Foreseen, job: Again) -> documents.JobAgain:
    begin = foreseen.restarts.get(job.id)
    return told(
        documents.JobAgain,
        job,
        state=job.state.value,
        inputs=[told(documents.OtherInput, each) for each in foreseen.inputs.get(job.id, ())],
        begins_with=begin.only[0] if begin else "",
        takes=[file.name for file in begin.files] if begin else [],
    )


def _value(value: object) -> str:
    return "none" if value is None else value if isinstance(value, str) else canonical_json(value)


def _jobs(count: int) -> str:
    return f"{count:,} job{'' if count == 1 else 's'}"


def _some(names: Sequence[str], between: str = ", ") -> str:
    return between.join(names[:SHOWN]) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")
