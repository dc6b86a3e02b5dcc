"""Whether a stage of a campaign is to be planned again, as something has come since."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nightmill.backbone.schema import AttemptRow, FileRow, JobRow, PlanRow
from nightmill.backbone.work.left_out import has_come


def has_news(session: Session, campaign_id: int, stage: str, *, upstream: Collection[str]) -> bool:
    """Whether a stage was never planned, something came since, or jobs of it are to be planned anew.

    What comes is of a stage before it, or what it holds units for.
    """
    planned = session.scalar(
        select(func.max(PlanRow.watermark)).where(PlanRow.campaign_id == campaign_id, PlanRow.stage == stage)
    )
    if planned is None:
        return True
    published = (
        select(FileRow.id)
        .join(AttemptRow, AttemptRow.id == FileRow.attempt_id)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .where(JobRow.campaign_id == campaign_id, JobRow.stage.in_(upstream), FileRow.id > planned)
        .limit(1)
    )
    renewed = select(JobRow.id).where(JobRow.campaign_id == campaign_id, JobRow.stage == stage, JobRow.renew).limit(1)
    if session.scalar(renewed) is not None:
        return True
    return session.scalar(published) is not None or has_come(session, campaign_id, stage)
