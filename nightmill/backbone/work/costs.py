"""What results of a stage cost, as it was measured."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nightmill.backbone.schema import AttemptRow, CampaignRow, ExecutionRow, JobRow

NEWEST: Final = 500
"""So many results are looked at: what ran long ago may have run on other hosts."""


def costs(session: Session, pipeline: str, stage: str, steps: Collection[str]) -> list[tuple[float, float]]:
    """Return the wall and the CPU time, in seconds, of the newest results of a stage of which every step ran."""
    newest = (
        select(AttemptRow.id)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
        .where(AttemptRow.result, JobRow.stage == stage, CampaignRow.pipeline == pipeline)
        .order_by(AttemptRow.id.desc())
        .limit(NEWEST)
        .subquery()
    )
    cpu = func.sum(func.coalesce(ExecutionRow.user_seconds, 0.0) + func.coalesce(ExecutionRow.system_seconds, 0.0))
    query = (
        select(func.sum(ExecutionRow.wall_seconds), cpu)
        .join(newest, newest.c.id == ExecutionRow.attempt_id)
        .where(ExecutionRow.step.in_(steps), ExecutionRow.wall_seconds.is_not(None))
        .group_by(ExecutionRow.attempt_id)
        .having(func.count() == len(steps))
    )
    return [(wall, cpu_seconds) for wall, cpu_seconds in session.execute(query)]
