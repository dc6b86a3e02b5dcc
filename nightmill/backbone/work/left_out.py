"""Units that the plan of a stage leaves out: on record until the stage is planned again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, delete, func, insert, select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.as_of import on_record
from nightmill.backbone.schema import CalibrationRow, CampaignRow, FileRow, LeftOutRow
from nightmill.backbone.work.ownership import is_own
from nightmill.model.base import grouped

SLACK: Final = timedelta(minutes=1)
"""A file may be registered so long before its transaction ends, and a plan that was made meanwhile not see it."""
SLACK_FILES: Final = 10_000
"""So many files may be registered in that time: those with smaller IDs are not looked at."""


class LeftOut(NamedTuple):
    """A unit that a plan leaves out.

    Parameters
    ----------
    unit
        Its name.
    role
        The input that lacks files.
    types
        Their file types, separated by commas.
    missing
        ``skip``, or ``hold``: it joins the plan when they come.
    why
        What was looked for and what was there, in words.
    """

    unit: str
    role: str
    types: str
    missing: str
    why: str


class LeftOutUnit(NamedTuple):
    """A unit that was left out of the plan of a campaign, as it is on record."""

    stage: str
    unit: str
    role: str
    missing: str
    why: str


def leave_out(
    session: Session, campaign_id: int, stage: str, units: Iterable[LeftOut], *, watermark: int, now: datetime
) -> None:
    """Put on record which units the plan of a stage leaves out now, instead of those that an earlier one did.

    Parameters
    ----------
    watermark
        The highest file ID that the plan could see.
    """
    session.execute(delete(LeftOutRow).where(_of(campaign_id, stage)))
    common = {"campaign_id": campaign_id, "stage": stage, "watermark": watermark, "planned_at": now}
    rows = [{**common, **unit._asdict()} for unit in units]
    if rows:
        session.execute(insert(LeftOutRow), rows)


def stages_with_left_out(session: Session, campaign: str, *, as_of: datetime | None = None) -> set[str]:
    """Return the stages of a campaign, by its name, whose plans leave units out.

    Parameters
    ----------
    as_of
        Only plans that were there at a time; those which newer ones took the place of are not on record any more.
    """
    query = select(LeftOutRow.stage).join(CampaignRow, CampaignRow.id == LeftOutRow.campaign_id).distinct()
    return set(session.scalars(query.where(CampaignRow.name == campaign, on_record(LeftOutRow.planned_at, as_of))))


def left_out_units(session: Session, campaign_ids: Collection[int]) -> dict[int, list[LeftOutUnit]]:
    """Return the units that the plans of campaigns leave out, by the campaign's ID."""
    query = (
        select(LeftOutRow.campaign_id, LeftOutRow.stage, LeftOutRow.unit, LeftOutRow.role, LeftOutRow.missing)
        .add_columns(LeftOutRow.why)
        .where(among(LeftOutRow.campaign_id, campaign_ids))
        .order_by(LeftOutRow.campaign_id, LeftOutRow.id)
    )
    return grouped((number, LeftOutUnit(*unit)) for number, *unit in session.execute(query))


def counted(session: Session, campaign_ids: Collection[int]) -> dict[tuple[int, str], Counter[str]]:
    """Return how many units are skipped and held, by campaign ID and stage."""
    found: dict[tuple[int, str], Counter[str]] = {}
    of_units = (LeftOutRow.campaign_id, LeftOutRow.stage, LeftOutRow.missing)
    query = select(*of_units, func.count()).where(among(LeftOutRow.campaign_id, campaign_ids)).group_by(*of_units)
    for number, stage, missing, count in session.execute(query):
        found.setdefault((number, stage), Counter())[missing] = count
    return found


def holding_campaigns(session: Session) -> list[str]:
    """Return the names of this site's campaigns that hold units for something that has come, as far as can be told."""
    query = select(CampaignRow.name, CampaignRow.id, LeftOutRow.stage).join(
        LeftOutRow, LeftOutRow.campaign_id == CampaignRow.id
    )
    held = session.execute(query.where(is_own(session), LeftOutRow.missing == "hold").distinct()).all()
    return list(dict.fromkeys(name for name, id_, stage in held if has_come(session, id_, stage)))


def has_come(session: Session, campaign_id: int, stage: str) -> bool:
    """Whether files or calibrations came, after a stage was planned, of a type for which it holds units.

    What came may not be what they wait for: the stage is planned again, and that tells.
    """
    query = select(LeftOutRow.types, LeftOutRow.watermark, LeftOutRow.planned_at).where(_of(campaign_id, stage))
    for types, watermark, planned_at in session.execute(query.where(LeftOutRow.missing == "hold").distinct()).all():
        since = planned_at - SLACK
        is_late = (FileRow.id > watermark - SLACK_FILES) & (FileRow.registered_at > since)
        is_new = (FileRow.id > watermark) | is_late  # a plan may have taken longer than the slack to be made
        of_type = FileRow.type.in_(types.split(","))
        files = select(FileRow.id).where(of_type, is_new).limit(1)
        roles = (
            select(CalibrationRow.id)
            .join(FileRow, FileRow.id == CalibrationRow.file_id)
            .where(of_type, CalibrationRow.at > since)
            .limit(1)
        )
        if session.scalar(files) is not None or session.scalar(roles) is not None:
            return True
    return False


def _of(campaign_id: int, stage: str) -> ColumnElement[bool]:
    return (LeftOutRow.campaign_id == campaign_id) & (LeftOutRow.stage == stage)
