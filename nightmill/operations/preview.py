"""What a campaign would be, if it were submitted now, or had been at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.exclusions import Exclusion
from nightmill.backbone.schema import FileRow
from nightmill.backbone.work.saved_plans import number_of
from nightmill.clock import utc_now
from nightmill.errors import RequestRefused
from nightmill.model.campaign import Campaign
from nightmill.operations.bundle import pack
from nightmill.operations.site import Site
from nightmill.planning.plan import plan_campaign
from nightmill.planning.planned import CampaignPlan
from nightmill.planning.reliance import Reliance


def preview(
    site: Site,
    campaign: Campaign,
    also: Sequence[Exclusion] = (),
    *,
    as_of: datetime | None = None,
    reliance: Reliance | None = None,
) -> CampaignPlan:
    """Plan a campaign as it would be submitted now, or would have been at a time; writes nothing.

    Parameters
    ----------
    also
        Exclusions to heed beside those that are in force.
    as_of
        The time whose catalogue is asked. The campaign, its pipeline and the site are taken as they are.
    reliance
        Is told which calibrations serve which units.

    Raises
    ------
    RequestRefused
        Where the folder of its pipeline cannot be packed; where the time is in the future, or before the first file.
    """
    bundle = pack(campaign.pipeline, site.config)
    with site.database.reading() as session:
        if as_of is not None:
            _require_past(session, as_of)
        number = number_of(session, campaign.name, as_of=as_of)
        sealed = bundle.sealed if bundle else None
        return plan_campaign(session, campaign, site.config, number, sealed, also, as_of=as_of, reliance=reliance)


def _require_past(session: Session, as_of: datetime) -> None:
    if as_of > (now := utc_now()):
        raise RequestRefused(
            f"{as_of:%Y-%m-%d %H:%M:%S} UTC is in the future: it is {now:%Y-%m-%d %H:%M:%S}",
            remedy="ask for a time that has passed",
        )
    first = session.scalar(select(func.min(FileRow.registered_at)))
    if first is None or first > as_of:
        came = f"its first came at {first:%Y-%m-%d %H:%M:%S} UTC" if first is not None else "it has none now either"
        raise RequestRefused(
            f"the catalogue had no file at {as_of:%Y-%m-%d %H:%M:%S} UTC: {came}",
            remedy="ask for a later time" if first is not None else "bring files with 'nightmill ingest'",
        )
