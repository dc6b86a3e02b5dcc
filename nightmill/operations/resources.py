"""What jobs asked for, what they took, and what they would better ask for."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import yaml

from nightmill.errors import RequestRefused
from nightmill.model.fate import Fate
from nightmill.operations.site import Site
from provenance.statistics import PlannedStage, Run, planned_stages, runs_of

MEMORY_MARGIN: Final = 1.25
"""More than any job took: the peak is sampled, and the next job may be larger."""
WALL_FACTOR: Final = 2.0
"""A job that is not done in twice the time of almost all others hangs, or is another kind of job."""
LEAST_WALL_SECONDS: Final = 60
"""No step is given less: a busy host can hold one up for so long."""
IDLE_CORES: Final = 0.1
"""So little of a further core is not worth keeping it from others."""

MEMORY, CORES, SCRATCH, WALL = "memory_bytes", "cores", "scratch_bytes", "wall_seconds"
_LACKING: Final[Mapping[str, str]] = {MEMORY: Fate.OUT_OF_MEMORY, WALL: Fate.WALL_LIMIT}
"""What is lacking where a step is cut short so."""
_WHOLE_JOB: Final = ""
_Values = dict[tuple[str, str], list[float]]
"""By the step and what it took."""
_Rule = Callable[[Sequence[float]], int]
"""What is proposed for values, which are in their order."""


@dataclass(frozen=True)
class Need:
    """How much of something a stage, or a step of it, asks for, and what its jobs took.

    Parameters
    ----------
    step
        Empty for the stage as a whole: the most that any step of a job took.
    resource
        The key of the pipeline that asks for it; ``read_bytes`` and ``written_bytes`` are told and not asked for.
    asked
        By the stage as it was planned last; None where it does not say.
    jobs
        How many ended well and tell what they took.
    median, p95, p99, most
        Each is what one of these jobs took: the least that was enough for so many of them. None without jobs.
    cut
        How many further jobs never ended otherwise than for lack of it.
    proposed
        What would be better asked for; None where nothing is proposed.
    short_for
        For how many jobs that would have been too little: they took more, or had as much when they were cut short.
    why
        Why nothing is proposed; empty where something is, or there is nothing to be asked for.
    """

    pipeline: str
    stage: str
    step: str
    resource: str
    asked: float | None
    jobs: int
    median: float | None
    p95: float | None
    p99: float | None
    most: float | None
    cut: int
    proposed: int | None
    short_for: int | None
    why: str = ""


def needs(site: Site, *, least: int, campaign: str = "", pipeline: str = "", stage: str = "") -> list[Need]:
    """Tell what the jobs of each stage that was planned took, and what they would better ask for.

    Parameters
    ----------
    least
        Nothing is proposed where fewer jobs ended well.
    campaign, pipeline, stage
        Only of this campaign, of this pipeline, of this stage.

    Raises
    ------
    UnknownName
        Where there is no such campaign, pipeline or stage; with a guess.
    """
    found: list[Need] = []
    with site.database.reading() as session:
        for planned in planned_stages(session, campaign=campaign, pipeline=pipeline, stage=stage):
            found += needs_of(planned, runs_of(session, planned, campaign=campaign), least)
    return found


def override(found: Sequence[Need]) -> str:
    """Write what is proposed as an operator's file, which goes over the campaigns of one pipeline.

    Raises
    ------
    RequestRefused
        Where nothing is proposed, or for several pipelines.
    """
    proposing = [each for each in found if each.proposed is not None]
    pipelines = sorted({each.pipeline for each in proposing})
    if not found:
        raise RequestRefused("there is nothing to propose: no stage was planned")
    if not pipelines:
        why = next(each.why for each in found if each.why)
        raise RequestRefused(f"there is nothing to propose: {why}", remedy="propose from fewer jobs with --least")
    if len(pipelines) > 1:
        told = ", ".join(pipelines)
        raise RequestRefused(f"one file cannot be for several pipelines: {told}", remedy="say which with --pipeline")
    stages: dict[str, Any] = {}
    for each in proposing:
        place = stages.setdefault(each.stage, {})
        for key in ("steps", each.step) if each.step else ("resources",):
            place = place.setdefault(key, {})
        place[each.resource] = each.proposed
    jobs = max(each.jobs for each in proposing)
    data = {"why": f"what up to {jobs} jobs of each stage of {pipelines[0]} took", "overrides": {"stages": stages}}
    return yaml.safe_dump(data, sort_keys=False, default_flow_style=None, allow_unicode=True, width=120)


def needs_of(planned: PlannedStage, runs: Iterable[Run], least: int) -> Iterator[Need]:
    """Yield the same for one stage, by the runs of its jobs, those of a job one after the other."""
    taken: _Values = defaultdict(list)
    cut: _Values = defaultdict(list)
    for _job, of_job in groupby(runs, key=attrgetter("job_id")):
        _add(list(of_job), taken, cut)
    resources = planned.stage.resources

    def need(step: str, resource: str, asked: float | None = None, rule: _Rule | None = None) -> Need:
        return _need(planned, step, resource, asked, taken[step, resource], cut[step, resource], rule, least)

    yield need(_WHOLE_JOB, MEMORY, resources.memory_bytes, _memory)
    yield need(_WHOLE_JOB, CORES, resources.cores, _cores)
    yield need(_WHOLE_JOB, SCRATCH, resources.scratch_bytes)
    for step in planned.stage.steps:
        yield need(step.name, WALL, step.wall_seconds, _wall)
        for resource in (MEMORY, CORES, "read_bytes", "written_bytes"):
            yield need(step.name, resource)


def _add(runs: Sequence[Run], taken: _Values, cut: _Values) -> None:
    """Add what a job took; where a step of it was cut short, of the job as a whole only what that had too little of."""
    whole: dict[str, float] = {}
    for run in runs:
        for resource, value in _values(run).items():
            if run.cut is None:
                taken[run.step, resource].append(value)
                whole[resource] = max(value, whole.get(resource, 0.0))
            elif run.cut == _LACKING.get(resource):
                cut[run.step, resource].append(value)
                cut[_WHOLE_JOB, resource].append(value)
    if all(run.cut is None for run in runs):
        for resource, value in whole.items():
            taken[_WHOLE_JOB, resource].append(value)


def _values(run: Run) -> dict[str, float]:
    """Return what a run took, as far as it is known: a peak of 0 is one that nobody saw."""
    told = {MEMORY: run.max_rss_bytes or None, "read_bytes": run.read_bytes, "written_bytes": run.written_bytes}
    known = {resource: float(value) for resource, value in told.items() if value is not None}
    if run.wall_seconds > 0 and run.cpu_seconds is not None:
        known[CORES] = run.cpu_seconds / run.wall_seconds
    return known | {WALL: run.wall_seconds}


def _need(
    planned: PlannedStage,
    step: str,
    resource: str,
    asked: float | None,
    taken: list[float],
    cut: list[float],
    rule: _Rule | None,
    least: int,
) -> Need:
    taken.sort()
    median, p95, p99, most = [percentile(taken, share) if taken else None for share in (50, 95, 99, 100)]
    proposed = rule(taken) if rule is not None and taken and len(taken) >= least else None
    short = None
    if proposed is not None:
        short = sum(value > proposed for value in taken) + sum(value >= proposed for value in cut)
    return Need(
        pipeline=planned.pipeline,
        stage=planned.stage.name,
        step=step,
        resource=resource,
        asked=asked,
        jobs=len(taken),
        median=median,
        p95=p95,
        p99=p99,
        most=most,
        cut=len(cut),
        proposed=proposed,
        short_for=short,
        why="" if rule is None or proposed is not None else f"fewer than {least} jobs ended well",
    )


def percentile(ordered: Sequence[float], share: int) -> float:
    """Return the least of some values that at least so many percent of them do not exceed; it is one of them."""
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]


def _memory(taken: Sequence[float]) -> int:
    return rounded_up(taken[-1] * MEMORY_MARGIN)


def _wall(taken: Sequence[float]) -> int:
    return max(LEAST_WALL_SECONDS, rounded_up(percentile(taken, 99) * WALL_FACTOR))


def _cores(taken: Sequence[float]) -> int:
    return max(1, math.ceil(percentile(taken, 95) - IDLE_CORES))


def rounded_up(value: float) -> int:
    """Return a whole number of at most two digits and zeros that is not less than a value."""
    magnitude: int = 10 ** max(0, math.floor(math.log10(max(value, 1.0))) - 1)
    return math.ceil(value / magnitude) * magnitude
