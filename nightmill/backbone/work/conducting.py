"""Which flow run conducts what, and which process carries out a flow run."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import CampaignRow, LeaseRow, SliceRow
from nightmill.backbone.work.campaigns import has_jobs_in
from nightmill.backbone.work.leases import Holder, holder
from nightmill.backbone.work.ownership import is_own
from nightmill.model.states import JobState

_OPEN = [state for state in JobState if state not in (JobState.DONE, JobState.CANCELLED)]


def conducts_campaign(session: Session, campaign_id: int, flow_run_id: str) -> None:
    """Put on record which flow run conducts a campaign."""
    session.execute(update(CampaignRow).where(CampaignRow.id == campaign_id).values(flow_run_id=flow_run_id))


def conducts_slice(session: Session, slice_id: int, flow_run_id: str) -> None:
    """Put on record which flow run conducts a slice."""
    session.execute(update(SliceRow).where(SliceRow.id == slice_id).values(flow_run_id=flow_run_id))


def holders(session: Session, flow_run_ids: Sequence[str]) -> dict[str, Holder]:
    """Return the process that took a flow run in hand last, for each flow run that one did."""
    query = select(LeaseRow).where(among(LeaseRow.flow_run_id, flow_run_ids)).order_by(LeaseRow.id)
    return {row.flow_run_id or "": holder(row) for row in session.scalars(query)}


def unfinished_campaigns(session: Session) -> list[str]:
    """Return the names of this site's campaigns with jobs neither done nor cancelled, in the order of submission."""
    return list(
        session.scalars(select(CampaignRow.name).where(is_own(session), has_jobs_in(_OPEN)).order_by(CampaignRow.id))
    )
