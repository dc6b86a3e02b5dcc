"""What was excluded since jobs were sealed: which of them must not be issued as they are."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.exclusions import Exclusion, in_force
from nightmill.backbone.schema import CampaignRow, JobRow, SliceRow
from nightmill.backbone.work.ownership import is_own
from nightmill.model.states import JobState
from nightmill.planning.exclusions import Rule, Rules, catalogued
from nightmill.planning.jobs import blocks
from nightmill.planning.problems import Problems
from nightmill.planning.sealed import JobDetail

ISSUABLE: Final = (JobState.PLANNED, JobState.READY, JobState.FAILED)
"""A job that is active, done, held or cancelled is never issued."""


@dataclass(frozen=True, slots=True)
class Barred:
    """A job that is not done and reads what is excluded."""

    job: str
    """As CAMPAIGN/STAGE/UNIT."""
    state: JobState


def rules_of_slice(session: Session, slice_id: int) -> Rules:
    """Return the rules of the catalogue that are in force for the jobs of a slice; mostly there are none.

    What a campaign itself excludes never changes: it was left out when the jobs were planned.
    """
    of_slice = SliceRow.id == slice_id
    campaign = select(CampaignRow.name, SliceRow.stage).join(SliceRow, SliceRow.campaign_id == CampaignRow.id)
    name, stage = session.execute(campaign.where(of_slice)).one()
    found = in_force(session, name)
    if not found:
        return Rules()
    query = select(CampaignRow.definition).join(SliceRow, SliceRow.campaign_id == CampaignRow.id).where(of_slice)
    return _of_stage(found, [each["name"] for each in session.scalars(query).one()["pipeline"]["stages"]], stage)


def barred(session: Session, rules: Rules, details: Mapping[int, JobDetail]) -> dict[int, str]:
    """Return which jobs read what rules exclude and were not told of when they were sealed, by their IDs; with why.

    Parameters
    ----------
    details
        The jobs, by their IDs.
    """
    found = rules.matches(session, {id_ for detail in details.values() for id_ in detail.read_ids})
    held: dict[int, str] = {}
    for id_, detail in details.items():
        for file in detail.read_ids:
            rule = _news(rules.rules, found.get(file, ()), detail.excluded.get(file, ()))
            if rule is not None:
                held[id_] = f"it reads what {rule.place} by {rule.who} excludes: {rule.why}"
                break
    return held


def jobs_barred(session: Session, exclusion: Exclusion) -> Iterator[Barred]:
    """Yield the jobs of this site's campaigns that are not done and read what an exclusion is about.

    Those that are active among them: what they began with they end with.
    """
    campaigns = select(CampaignRow.id, CampaignRow.name, CampaignRow.definition).where(is_own(session))
    if exclusion.campaign:
        campaigns = campaigns.where(CampaignRow.name == exclusion.campaign)
    for campaign_id, name, definition in session.execute(campaigns.order_by(CampaignRow.id)).all():
        stages = [each["name"] for each in definition["pipeline"]["stages"]]
        for stage in stages:
            if not (rules := _of_stage([exclusion], stages, stage)):
                continue
            query = select(JobRow.id, JobRow.unit, JobRow.state, JobRow.detail).where(
                JobRow.campaign_id == campaign_id,
                JobRow.stage == stage,
                JobRow.state.in_((*ISSUABLE, JobState.ACTIVE, JobState.HELD)),
            )
            for block in blocks(session.execute(query.order_by(JobRow.id))):
                details = {id_: JobDetail.model_validate(detail) for id_, _, _, detail in block}
                wanted = barred(session, rules, details)
                yield from (
                    Barred(f"{name}/{stage}/{unit}", JobState(state)) for id_, unit, state, _ in block if id_ in wanted
                )


def _of_stage(found: Iterable[Exclusion], stages: Sequence[str], stage: str) -> Rules:
    position = stages.index(stage)
    return Rules(tuple([rule for rule in catalogued(found, stages, Problems()) if position > rule.after]))


def _news(rules: Sequence[Rule], found: Sequence[int | None], told: Collection[str]) -> Rule | None:
    """Return the first rule that excludes a file or, of one whose job was told of some parts, further ones."""
    matched = (rules[place] for place in found if place is not None)
    return next((rule for rule in matched if not rule.part or rule.part not in told), None)
