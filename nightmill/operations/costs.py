"""What a plan would cost, by what results of the same stages cost before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from nightmill.backbone.work import costs
from nightmill.clock import utc_now
from nightmill.errors import RequestRefused
from nightmill.execution.host import this_host
from nightmill.operations.site import Site
from nightmill.planning.planned import CampaignPlan, StagePlan


@dataclass(frozen=True)
class StageCost:
    """What a stage would cost.

    Parameters
    ----------
    results
        How many of it were measured; 0 where it never ran.
    at_once
        Jobs that this host carries out at a time.
    cpu_seconds
        Of all its jobs; None where it never ran, or its jobs are not known yet.
    wall_seconds
        From its beginning to its end, on this host alone; None as well.
    """

    stage: str
    results: int
    at_once: int
    cpu_seconds: float | None
    wall_seconds: float | None


@dataclass(frozen=True)
class PlanCost:
    """What a plan would cost, were its stages carried out one after the other on this host alone.

    Parameters
    ----------
    cpu_seconds, wall_seconds
        Of all stages; None where that of one is not known.
    ends_at
        When it would end, if it began now.
    """

    stages: tuple[StageCost, ...]
    cpu_seconds: float | None
    wall_seconds: float | None
    ends_at: datetime | None

    @property
    def unknown(self) -> list[str]:
        """The stages of which it is not known."""
        return [stage.stage for stage in self.stages if stage.wall_seconds is None]


def cost_of(site: Site, plan: CampaignPlan) -> PlanCost:
    """Say what a plan would cost, by the median of the newest results of the same stages of its pipeline."""
    stages = tuple([_stage(site, plan, stage) for stage in plan.stages])
    wall = _total([stage.wall_seconds for stage in stages])
    ends_at = None if wall is None else utc_now() + timedelta(seconds=wall)
    return PlanCost(stages, _total([stage.cpu_seconds for stage in stages]), wall, ends_at)


def _stage(site: Site, plan: CampaignPlan, stage: StagePlan) -> StageCost:
    steps = [step.name for step in stage.stage.steps]
    with site.database.reading() as session:
        found = costs.costs(session, plan.campaign.pipeline.name, stage.stage.name, steps)
    at_once = _at_once(site, plan, stage)
    if not found or not at_once or stage.known_after:
        return StageCost(stage.stage.name, len(found), at_once, None, None)
    turns = -(-len(stage.jobs) // at_once)
    cpu = median(cpu for _wall, cpu in found) * len(stage.jobs)
    return StageCost(stage.stage.name, len(found), at_once, cpu, median(wall for wall, _cpu in found) * turns)


def _at_once(site: Site, plan: CampaignPlan, stage: StagePlan) -> int:
    """Return how many jobs of a stage this host carries out at a time; 0 where it cannot carry out one."""
    host = this_host(site.profile.cores)
    try:
        most = host.cores // host.share_of(stage.stage.resources)
    except RequestRefused:
        return 0
    return min(most, plan.campaign.execution.threads or most)


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
