"""What a plan would cost, by what results of the same stages cost before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from nightmill.backbone.work import campaigns, costs
from nightmill.clock import utc_now
from nightmill.errors import RequestRefused
from nightmill.execution.host import this_host
from nightmill.model.campaign import Campaign
from nightmill.model.engine import THREADS
from nightmill.model.pipeline import Stage
from nightmill.model.states import JobState
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
    stages = tuple([_cost(site, plan.campaign, each.stage, _jobs(each)) for each in plan.stages])
    wall = _total([stage.wall_seconds for stage in stages])
    ends_at = None if wall is None else utc_now() + timedelta(seconds=wall)
    return PlanCost(stages, _total([stage.cpu_seconds for stage in stages]), wall, ends_at)


def seconds_left(site: Site, name: str, plan: CampaignPlan | None = None) -> float | None:
    """Estimate how long what is not done of a campaign takes, as :func:`cost_of` does for a plan.

    Parameters
    ----------
    plan
        Tells of stages that are not sealed yet.

    Returns
    -------
    float or None
        None where the jobs of a stage are not known yet, or one of its stages never ran.
    """
    jobs = {} if plan is None else {each.stage.name: _jobs(each) for each in plan.stages}
    with site.database.reading() as session:
        row = campaigns.own_campaign(session, name)
        campaign = Campaign.model_validate(row.definition)
        progress = campaigns.progress(session, row.id)
    jobs |= {each.stage: each.total - each.counts.get(JobState.DONE, 0) for each in progress if each.revisions}
    stages = campaign.pipeline.stages
    return _total([_cost(site, campaign, stage, jobs.get(stage.name)).wall_seconds for stage in stages])


def _jobs(stage: StagePlan) -> int | None:
    return None if stage.known_after else len(stage.jobs)


def _cost(site: Site, campaign: Campaign, stage: Stage, jobs: int | None) -> StageCost:
    """Say what so many jobs of a stage would cost; None where nobody knows yet how many there are."""
    with site.database.reading() as session:
        found = costs.costs(session, campaign.pipeline.name, stage.name, [step.name for step in stage.steps])
    at_once = _at_once(site, campaign, stage)
    if jobs == 0:
        return StageCost(stage.name, len(found), at_once, 0.0, 0.0)
    if not found or not at_once or jobs is None:
        return StageCost(stage.name, len(found), at_once, None, None)
    cpu = median(cpu for _wall, cpu in found) * jobs
    return StageCost(stage.name, len(found), at_once, cpu, median(wall for wall, _cpu in found) * -(-jobs // at_once))


def _at_once(site: Site, campaign: Campaign, stage: Stage) -> int:
    """Return how many jobs of a stage are carried out at a time; 0 where this host cannot carry out one.

    Of an engine elsewhere nobody knows but by what the campaign allows it.
    """
    setting = site.config.engines.get(campaign.execution.engine_of(stage.name) or THREADS)
    if setting is None or setting.kind != THREADS:
        return campaign.execution.threads
    host = this_host(site.profile.cores)
    try:
        most = host.cores // host.share_of(stage.resources)
    except RequestRefused:
        return 0
    return min(most, campaign.execution.threads or most)


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
