"""How long jobs may take, by those of the same kind that are on record."""

from __future__ import annotations

from statistics import median
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.schema import AttemptRow, CampaignRow, JobRow
from nightmill.backbone.work import campaigns
from nightmill.execution.host import this_host
from nightmill.model.campaign import Campaign
from nightmill.model.pipeline import Stage
from nightmill.model.states import AttemptState, JobState
from nightmill.operations.site import Site
from nightmill.planning.planned import CampaignPlan

LAST: Final = 100
"""So many attempts of a stage are looked at, the newest."""


def seconds_left(site: Site, name: str, plan: CampaignPlan | None = None) -> float | None:
    """Estimate how long what is not done of a campaign takes, one stage after another, in slices of this host.

    Parameters
    ----------
    plan
        Tells of stages that are not sealed yet.

    Returns
    -------
    float or None
        None where the jobs of a stage are not known yet, or no job like them is on record, of any version of its
        pipeline.
    """
    planned = [] if plan is None else [stage for stage in plan.stages if not stage.known_after]
    jobs = {stage.stage.name: len(stage.jobs) for stage in planned}
    with site.database.reading() as session:
        row = campaigns.own_campaign(session, name)
        campaign = Campaign.model_validate(row.definition)
        stages = campaigns.progress(session, row.id)
        jobs |= {each.stage: each.total - each.counts.get(JobState.DONE, 0) for each in stages if each.revisions}
        if len(jobs) < len(stages):
            return None
        total = 0.0
        for stage, count in jobs.items():
            times = _wall_seconds(session, campaign, stage) if count else []
            if count and not times:
                return None
            total += median(times) * -(-count // _at_a_time(campaign, campaign.pipeline.stage(stage))) if count else 0.0
        return total


def _wall_seconds(session: Session, campaign: Campaign, stage: str) -> list[float]:
    query = (
        select(AttemptRow.began_at, AttemptRow.ended_at)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
        .where(CampaignRow.pipeline == campaign.pipeline.name, JobRow.stage == stage)
        .where(AttemptRow.state == AttemptState.PUBLISHED.value, AttemptRow.ended_at.is_not(None))
        .order_by(AttemptRow.id.desc())
        .limit(LAST)
    )
    return [(ended_at - (began_at or ended_at)).total_seconds() for began_at, ended_at in session.execute(query)]


def _at_a_time(campaign: Campaign, stage: Stage) -> int:
    host = this_host()
    cores = min(stage.resources.cores, host.cores)
    return min(campaign.execution.threads or host.cores, max(1, host.cores // cores))
