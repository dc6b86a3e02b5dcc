"""Which jobs were planned to read a file, whether or not they ran."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Text, cast, or_, select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import AttemptRow, CampaignRow, FileRow, JobRow, PlannedInputRow, PlanRow
from nightmill.model.attachment import JUNK
from nightmill.model.base import grouped
from nightmill.model.states import JobState

_FEW: Final = 20
"""So many files are looked for by the database; of more, the plans are read."""


@dataclass(frozen=True, slots=True)
class Use:
    """A job that was planned to read some files."""

    job: str
    """As CAMPAIGN/STAGE/UNIT."""
    state: JobState
    files: tuple[int, ...]
    products: tuple[str, ...]
    """What its attempts made."""
    id: int
    """Its number in the database."""

    def __str__(self) -> str:
        """Say how it stands, and what it made."""
        made = f", made {', '.join(self.products)}" if self.products else ", made nothing yet"
        return f"{self.job} ({self.state}){made}"


def uses_of(session: Session, file_ids: Collection[int]) -> list[Use]:
    """Return the jobs of all sites that read files, or were planned to; the first planned one first."""
    wanted = set(file_ids)
    if not wanted:
        return []
    issued = (
        select(AttemptRow.job_id)
        .join(PlannedInputRow, PlannedInputRow.attempt_id == AttemptRow.id)
        .where(among(PlannedInputRow.file_id, wanted))
    )
    ran = set(session.scalars(issued))
    # inputs of a job that is to run again may have been chosen after its plan was made
    may_have_seen = or_(PlanRow.watermark >= min(wanted), JobRow.state == JobState.READY)
    query = (
        select(JobRow.id, CampaignRow.name, JobRow.stage, JobRow.unit, JobRow.state, JobRow.detail)
        .join(CampaignRow, JobRow.campaign_id == CampaignRow.id)
        .join(PlanRow, JobRow.plan_id == PlanRow.id)
        .where(or_(among(JobRow.id, ran), may_have_seen & _may_name(wanted)))
        .order_by(JobRow.id)
        .execution_options(yield_per=1000)
    )
    found = {}
    for id_, campaign, stage, unit, state, detail in session.execute(query):
        named = wanted.intersection(each for _rule, ids in detail.get("inputs", {}).values() for each in ids)
        if named or id_ in ran:
            found[id_] = (f"{campaign}/{stage}/{unit}", JobState(state), tuple(sorted(named)))
    products = (
        select(AttemptRow.job_id, FileRow.name)
        .join(FileRow, FileRow.attempt_id == AttemptRow.id)
        .where(among(AttemptRow.job_id, found), FileRow.type.not_in(("log", JUNK)))
        .order_by(FileRow.id)
    )
    made = grouped((job_id, name) for job_id, name in session.execute(products))
    return [Use(*use, tuple(made.get(id_, ())), id_) for id_, use in found.items()]


def _may_name(file_ids: Collection[int]) -> ColumnElement[bool]:
    """Say of a job that its plan may name a file: the digits of its ID stand there, if only as a part of others."""
    if len(file_ids) > _FEW:
        return JobRow.detail.is_not(None)
    written = cast(JobRow.detail, Text)
    return or_(*[written.contains(str(id_)) for id_ in file_ids])
