"""Campaigns as they were submitted, and how far their jobs are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import bindparam, case, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from nightmill.backbone.schema import AttemptRow, CampaignRow, FileRow, JobRow, PlanRow, SliceRow
from nightmill.errors import RequestRefused, UnknownName
from nightmill.model.base import canonical_json
from nightmill.model.campaign import Campaign
from nightmill.model.fate import JobState

UNSEALED: Final = ("description", "execution", "origins")
"""Parts of a campaign's definition that change nothing of what it makes: a later submission may differ in them."""


@dataclass(frozen=True)
class StageProgress:
    """How the jobs of one stage stand.

    Parameters
    ----------
    position
        Of the stage in its pipeline, from 0.
    revisions
        How often it was planned; 0 where it was not yet.
    counts
        Jobs by their states; only states that some job is in.
    stale
        How many jobs would get other inputs now.
    """

    stage: str
    position: int
    revisions: int
    counts: Mapping[JobState, int]
    stale: int

    @property
    def total(self) -> int:
        """How many jobs it has."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class JobLine:
    """A job with how its last attempt stands.

    Parameters
    ----------
    attempts
        How many were issued.
    attempt_state, fate, step, evidence
        Of the last of them; empty where none was issued, or where there is nothing to say.
    """

    id: int
    stage: str
    unit: str
    state: JobState
    stale: bool
    attempts: int
    attempt_state: str
    fate: str
    step: str
    evidence: str

    @property
    def name(self) -> str:
        """The job's name inside its campaign."""
        return f"{self.stage}/{self.unit}"

    def __str__(self) -> str:
        """Say in one line how the job stands, as ``science/exposure=12: detect: step_failed: exited with code 3``."""
        first = self.evidence.partition("\n")[0]
        return ": ".join(part for part in (self.name, self.step, self.fate, first) if part)


@dataclass(frozen=True)
class SliceLine:
    """A slice with the flow run that conducts it, or did last."""

    id: int
    stage: str
    number: int
    flow_run_id: str | None
    jobs: int
    done: int


def seal_campaign(session: Session, campaign: Campaign, *, who: str, now: datetime) -> CampaignRow:
    """Put a campaign on record, or find it there.

    A campaign is submitted again to go on with it: then only how it is carried out may have changed.

    Parameters
    ----------
    session
        A writing one.
    campaign
        With every layer merged.
    who
        The user who submits it.
    now
        When.

    Raises
    ------
    RequestRefused
        Where another campaign has the name already; says in what they differ.
    """
    definition = campaign.model_dump(mode="json")
    digest = _digest(definition)
    row = session.scalar(select(CampaignRow).where(CampaignRow.name == campaign.name))
    if row is None:
        row = CampaignRow(
            name=campaign.name,
            pipeline=campaign.pipeline.name,
            pipeline_version=campaign.pipeline.version,
            definition=definition,
            sha256=digest,
            submitted_at=now,
            submitted_by=who,
        )
        try:
            with session.begin_nested():
                session.add(row)
        except IntegrityError:  # another submission was faster by a moment
            return seal_campaign(session, campaign, who=who, now=now)
    elif row.sha256 != digest:
        changed = ", ".join(_differences(_sealed_part(row.definition), _sealed_part(definition)))
        raise RequestRefused(
            f"campaign {campaign.name!r} was submitted on {row.submitted_at:%Y-%m-%d %H:%M} UTC by {row.submitted_by}"
            f" with another definition; it differs in {changed}",
            remedy="give the new one a name of its own, so that both stay on record",
        )
    elif row.definition != definition:
        row.definition = definition
    session.flush()
    return row


def campaign_named(session: Session, name: str) -> CampaignRow:
    """Return a campaign by its name.

    Raises
    ------
    UnknownName
        Where there is none; with a guess.
    """
    row = session.scalar(select(CampaignRow).where(CampaignRow.name == name))
    if row is None:
        known = list(session.scalars(select(CampaignRow.name).order_by(CampaignRow.id.desc()).limit(1000)))
        raise UnknownName("campaign", name, known, remedy="see 'nightmill status' for the campaigns")
    return row


def job_named(session: Session, campaign: str, stage: str, unit: str) -> JobRow:
    """Return a job by its campaign, stage and unit.

    Raises
    ------
    UnknownName
        Where there is no such campaign, or no such job of it; with a guess.
    """
    of_campaign = JobRow.campaign_id == campaign_named(session, campaign).id
    job = session.scalar(select(JobRow).where(of_campaign, JobRow.stage == stage, JobRow.unit == unit))
    if job is None:
        known = session.execute(select(JobRow.stage, JobRow.unit).where(of_campaign).limit(5000))
        raise UnknownName(
            f"job of campaign {campaign!r}",
            f"{stage}/{unit}",
            [f"{stage}/{unit}" for stage, unit in known],
            remedy=f"see 'nightmill show {campaign}' for its jobs",
        )
    return job


def exists(session: Session, name: str) -> bool:
    """Whether a campaign of the name is on record."""
    return session.scalar(select(CampaignRow.id).where(CampaignRow.name == name)) is not None


def has_news(session: Session, campaign_id: int, stage: str, *, upstream: Collection[str]) -> bool:
    """Whether a stage was never planned, or the stages before it published after it was planned last."""
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
    return session.scalar(published) is not None


def number_of(session: Session, name: str) -> int:
    """Return the number that stands in the names of a campaign's files: its own, else the one that it would get."""
    own = session.scalar(select(CampaignRow.id).where(CampaignRow.name == name))
    return own if own is not None else (session.scalar(select(func.max(CampaignRow.id))) or 0) + 1


def campaigns(session: Session, *, limit: int | None = None) -> list[CampaignRow]:
    """Return the campaigns, the last submitted first."""
    return list(session.scalars(select(CampaignRow).order_by(CampaignRow.id.desc()).limit(limit)))


def make_ready(session: Session, campaign_id: int) -> None:
    """Have the failed jobs of a campaign issued again, also by a slice that is under way and had settled them."""
    failed = (JobRow.campaign_id == campaign_id) & (JobRow.state == JobState.FAILED.value)
    session.execute(update(JobRow).where(failed).values(state=JobState.READY.value))


def number_from(session: Session, campaign_id: int, given: Mapping[str, Mapping[str, int]]) -> None:
    """Let no job of a campaign give a number to an attempt that was given before it was on record here.

    Parameters
    ----------
    given
        The highest numbers that were given, by stage and unit.
    """
    of_job = (JobRow.campaign_id == campaign_id, JobRow.stage == bindparam("of_stage"))
    below = (JobRow.unit == bindparam("of_unit"), JobRow.attempts < bindparam("number"))
    rows = [
        {"of_stage": stage, "of_unit": unit, "number": number}
        for stage, units in given.items()
        for unit, number in units.items()
    ]
    if rows:
        statement = update(JobRow.__table__).where(*of_job, *below).values(attempts=bindparam("number"))  # type: ignore[arg-type]
        session.execute(statement, rows)


def progress(session: Session, campaign_id: int) -> list[StageProgress]:
    """Return how the jobs of each stage stand, in the order of the pipeline; stages without a plan too."""
    definition = session.get_one(CampaignRow, campaign_id).definition
    revisions: dict[str, int] = {}
    for stage, count in session.execute(
        select(PlanRow.stage, func.count()).where(PlanRow.campaign_id == campaign_id).group_by(PlanRow.stage)
    ):
        revisions[stage] = count
    counts: dict[str, dict[JobState, int]] = {}
    stale: dict[str, int] = {}
    for stage, state, is_stale, count in session.execute(
        select(JobRow.stage, JobRow.state, JobRow.stale, func.count())
        .where(JobRow.campaign_id == campaign_id)
        .group_by(JobRow.stage, JobRow.state, JobRow.stale)
    ):
        of_stage = counts.setdefault(stage, {})
        of_stage[JobState(state)] = of_stage.get(JobState(state), 0) + count
        stale[stage] = stale.get(stage, 0) + (count if is_stale else 0)
    stages = [each["name"] for each in definition["pipeline"]["stages"]]
    return [
        StageProgress(stage, position, revisions.get(stage, 0), counts.get(stage, {}), stale.get(stage, 0))
        for position, stage in enumerate(stages)
    ]


def jobs(
    session: Session,
    campaign_id: int,
    *,
    stage: str = "",
    slice_id: int | None = None,
    states: Collection[JobState] = (),
    limit: int | None = None,
) -> Iterator[JobLine]:
    """Yield the jobs of a campaign in the order of its plans, streamed.

    Parameters
    ----------
    stage, slice_id
        Of this stage, or of this slice, alone.
    states
        Only those in one of these states; none given means every one.
    """
    query = (
        select(
            JobRow.id,
            JobRow.stage,
            JobRow.unit,
            JobRow.state,
            JobRow.stale,
            JobRow.attempts,
            AttemptRow.state,
            AttemptRow.fate,
            AttemptRow.failed_step,
            AttemptRow.evidence,
        )
        .outerjoin(AttemptRow, (AttemptRow.job_id == JobRow.id) & (AttemptRow.number == JobRow.attempts))
        .where(JobRow.campaign_id == campaign_id)
        .order_by(JobRow.id)
        .limit(limit)
        .execution_options(yield_per=1000)
    )
    if stage:
        query = query.where(JobRow.stage == stage)
    if slice_id is not None:
        query = query.where(JobRow.slice_id == slice_id)
    if states:
        query = query.where(JobRow.state.in_(states))
    for id_, stage_, unit, state, stale, attempts, *last in session.execute(query):
        yield JobLine(id_, stage_, unit, JobState(state), stale, attempts, *[text or "" for text in last])


def slices(session: Session, campaign_id: int, *, stage: str = "") -> list[SliceLine]:
    """Return the slices of a campaign, or of one stage of it, in the order of their sealing."""
    done = func.sum(case((JobRow.state == JobState.DONE.value, 1), else_=0))
    query = (
        select(SliceRow.id, SliceRow.stage, SliceRow.number, SliceRow.flow_run_id, func.count(JobRow.id), done)
        .outerjoin(JobRow, JobRow.slice_id == SliceRow.id)
        .where(SliceRow.campaign_id == campaign_id)
        .group_by(SliceRow.id)
        .order_by(SliceRow.id)
    )
    if stage:
        query = query.where(SliceRow.stage == stage)
    return [SliceLine(*row) for row in session.execute(query)]


def _sealed_part(definition: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in definition.items() if key not in UNSEALED}


def _digest(definition: Mapping[str, Any]) -> str:
    return sha256(canonical_json(_sealed_part(definition)).encode()).hexdigest()


def _differences(one: object, other: object, key: str = "") -> Iterator[str]:
    """Yield the dotted keys at which two definitions differ."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in dict.fromkeys([*one, *other]):
            yield from _differences(one.get(name), other.get(name), f"{key}.{name}" if key else str(name))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            name = left.get("name", number) if isinstance(left, Mapping) else number
            yield from _differences(left, right, f"{key}.{name}")
    elif one != other:
        yield key
