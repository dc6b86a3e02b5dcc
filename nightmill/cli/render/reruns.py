"""What a rerun is to do, for people and for programs."""

from __future__ import annotations

from typing import Final

from nightmill.backbone.work.reruns import Again
from nightmill.cli.documents import reruns as documents
from nightmill.cli.documents import told
from nightmill.cli.render.output import echo, print_json, some
from nightmill.model.base import canonical_json
from nightmill.operations.foreseen import Foreseen
from nightmill.planning.problems import counted

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
        echo(f"runs again: stage {stage}: {counted(count, 'job')} now {state}")
    for job in foreseen.jobs[:SHOWN]:
        _show_job(foreseen, job)
    if len(foreseen.jobs) > SHOWN:
        echo(f"  ... and {len(foreseen.jobs) - SHOWN:,} more (--dry-run --json names all)")
    for value, count in foreseen.values:
        change = f"{_value(value.before)} -> {_value(value.after)} ({value.origin})"
        echo(f"changes {value.key}: {change}, {counted(count, 'job')}")
    for stage in foreseen.waits:
        echo(stage)
    if foreseen.downstream:
        then = list(foreseen.downstream.values())
        echo(f"run again after them, with what they make: {counted(len(then), 'job')}: {some(then, SHOWN)}")
    if foreseen.stale:
        echo(f"become stale then: {counted(len(foreseen.stale), 'job')}: {some(foreseen.stale, SHOWN)}")
    _show_rest(foreseen)


def _show_rest(foreseen: Foreseen) -> None:
    """Tell what becomes of the jobs that do not run again."""
    if foreseen.gone:
        echo(f"do not run again, as they would not be planned any more: {some(foreseen.gone, SHOWN, '; ')}")
    rest = foreseen.others
    if rest.passed_over:
        echo(f"failed, and are left so: {counted(rest.passed_over, 'job')}")
    if rest.wait:
        echo(f"wait for 'nightmill release': {counted(rest.wait, 'job')}")
    if rest.go_on:
        echo(f"go on in any case: {counted(rest.go_on, 'job')}")


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
        inputs=foreseen.inputs.get(job.id, ()),
        begins_with=begin.only[0] if begin else "",
        takes=[file.name for file in begin.files] if begin else [],
    )


def _value(value: object) -> str:
    return "none" if value is None else value if isinstance(value, str) else canonical_json(value)
