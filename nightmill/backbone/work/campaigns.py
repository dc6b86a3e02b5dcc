"""Campaigns as they were submitted, and how far their jobs are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, distinct, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.as_of import on_record
from nightmill.backbone.schema import AttemptRow, CampaignRow, ErrorRuleRow, JobRow, PlanRow
from nightmill.backbone.sites import this_site
from nightmill.backbone.work.holds import release
from nightmill.backbone.work.left_out import counted
from nightmill.backbone.work.ownership import is_own, require_own
from nightmill.backbone.work.saved_plans import lock_numbers, number_of, raise_sequence
from nightmill.errors import RequestRefused, UnknownName
from nightmill.model.base import canonical_json, grouped
from nightmill.model.campaign import Campaign, ExecutionSettings
from nightmill.model.states import LOOKED_AT_AGAIN, AttemptState, JobState

UNSEALED: Final = ("description", "execution", "home", "origins")
"""Parts of a campaign's definition that change nothing of what it makes: a later submission may differ in them."""
OPEN: Final = (JobState.PLANNED, JobState.HELD, JobState.READY, JobState.ACTIVE)
"""States of jobs that are not at their end."""
GOING_ON: Final = (JobState.PLANNED, JobState.READY, JobState.ACTIVE)
"""States of jobs that may end by themselves: what is held waits for a person."""


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
    left_out
        How many units its plan leaves out, by ``skip`` and ``hold``; only where there are some.
    """

    stage: str
    position: int
    revisions: int
    counts: Mapping[JobState, int]
    stale: int
    left_out: Mapping[str, int]

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
    error, explanation, link
        The name of its error, what that means, and where the site says more; empty where no rule named it.
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
    error: str
    explanation: str
    link: str

    @property
    def name(self) -> str:
        """The job's name inside its campaign."""
        return f"{self.stage}/{self.unit}"

    @property
    def called(self) -> str:
        """The name of its error; with a word where a step was accepted as that, and the attempt published."""
        return f"accepted: {self.error}" if self.error and self.attempt_state == AttemptState.PUBLISHED else self.error

    def __str__(self) -> str:
        """Say in one line how the job stands, as ``science/exposure=12: detect: step_failed: exited with code 3``."""
        first = self.evidence.partition("\n")[0]
        return ": ".join(part for part in (self.name, self.step, self.fate, self.called, first) if part)


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
        Where another campaign has the name already; says in what they differ, or of which other site it is.
    """
    definition = campaign.model_dump(mode="json")
    digest = sha256(canonical_json(_sealed_part(definition)).encode()).hexdigest()
    row = session.scalar(select(CampaignRow).where(CampaignRow.name == campaign.name))
    if row is None:
        lock_numbers(session)
        row = CampaignRow(
            id=number_of(session, campaign.name),
            site_id=this_site(session),
            name=campaign.name,
            pipeline=campaign.pipeline.name,
            pipeline_version=campaign.pipeline.version,
            definition=definition,
            sha256=digest,
            submitted_at=now,
            submitted_by=who,
            priority=campaign.execution.priority,
            most_jobs=campaign.execution.jobs,
            hosts=campaign.execution.hosts.written(),
        )
        try:
            with session.begin_nested():
                session.add(row)
            raise_sequence(session)
        except IntegrityError:  # another submission was faster by a moment
            return seal_campaign(session, campaign, who=who, now=now)
    require_own(session, row)
    if row.sha256 != digest:
        changed = ", ".join(_differences(_sealed_part(row.definition), _sealed_part(definition)))
        raise RequestRefused(
            f"campaign {campaign.name!r} was submitted on {row.submitted_at:%Y-%m-%d %H:%M} UTC by {row.submitted_by}"
            f" with another definition; it differs in {changed}",
            remedy="give the new one a name of its own, so that both stay on record",
        )
    if row.definition != definition:
        before, wanted = ExecutionSettings.model_validate(row.definition["execution"]), campaign.execution
        if before.priority != wanted.priority:
            row.priority = wanted.priority
        if (before.jobs, before.hosts) != (wanted.jobs, wanted.hosts):
            row.most_jobs, row.limited_by, row.limited_why = wanted.jobs, None, None
            row.hosts = wanted.hosts.written()
        row.definition = definition
    session.flush()
    return row


def campaign_named(session: Session, name: str, *, as_of: datetime | None = None) -> CampaignRow:
    """Return a campaign by its name.

    Raises
    ------
    UnknownName
        Where there is none, or was none at a time; with a guess.
    """
    there = on_record(CampaignRow.submitted_at, as_of)
    row = session.scalar(select(CampaignRow).where(CampaignRow.name == name, there))
    if row is None:
        known = list(session.scalars(select(CampaignRow.name).where(there).order_by(CampaignRow.id.desc()).limit(1000)))
        raise UnknownName("campaign", name, known, remedy="see 'nightmill status' for the campaigns")
    return row


def own_campaign(session: Session, name: str) -> CampaignRow:
    """Return a campaign of this site by its name, for what changes it or carries it out.

    Raises
    ------
    UnknownName
        Where there is none; with a guess.
    RequestRefused
        Where it is of another site.
    """
    row = campaign_named(session, name)
    require_own(session, row)
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


def campaigns(session: Session, *, latest: int | None = None) -> list[CampaignRow]:
    """Return the campaigns of this site, the last submitted first.

    Parameters
    ----------
    latest
        Only so many, and whichever have jobs that are not at their end.
    """
    query = select(CampaignRow).where(is_own(session)).order_by(CampaignRow.id.desc())
    if latest is not None:
        newest = (
            select(CampaignRow.id)
            .where(is_own(session))
            .order_by(CampaignRow.id.desc())
            .limit(latest)
            .scalar_subquery()
        )
        query = query.where(or_(CampaignRow.id.in_(newest), has_jobs_in(OPEN)))
    return list(session.scalars(query))


def count(session: Session) -> int:
    """Return how many campaigns this site has."""
    return session.scalar(select(func.count()).select_from(CampaignRow).where(is_own(session))) or 0


def has_jobs_in(states: Collection[JobState]) -> ColumnElement[bool]:
    """Say of a campaign that some job of it is in one of these states: a look at an index, however many jobs it has."""
    return select(JobRow.id).where(JobRow.campaign_id == CampaignRow.id, JobRow.state.in_(states)).exists()


def is_complete(session: Session, campaign_id: int) -> bool:
    """Whether every stage of a campaign was planned and every job of it is done, without counting the jobs."""
    query = select(CampaignRow.definition, has_jobs_in([state for state in JobState if state is not JobState.DONE]))
    definition, has_more = session.execute(query.where(CampaignRow.id == campaign_id)).one()
    planned = session.scalar(select(func.count(distinct(PlanRow.stage))).where(PlanRow.campaign_id == campaign_id))
    return not has_more and planned == len(definition["pipeline"]["stages"])


def make_ready(session: Session, campaign_id: int) -> None:
    """Have the failed jobs of a campaign issued again, also by a slice that is under way and had settled them.

    So are those that exclusions hold, or that lack what was to be shipped: both are looked at as they are issued.
    Others wait for their release.
    """
    failed = (JobRow.campaign_id == campaign_id) & (JobRow.state == JobState.FAILED)
    session.execute(update(JobRow).where(failed).values(state=JobState.READY.value, passed_over=False))
    release(session, campaign_id, LOOKED_AT_AGAIN)


def progress(session: Session, campaign_id: int) -> list[StageProgress]:
    """Return how the jobs of each stage stand, in the order of the pipeline; stages without a plan too."""
    return progress_of(session, [session.get_one(CampaignRow, campaign_id)])[campaign_id]


def progress_of(session: Session, rows: Collection[CampaignRow]) -> dict[int, list[StageProgress]]:
    """Return how the stages of campaigns stand, by the campaign's ID: three statements, however many they are."""
    ids = [row.id for row in rows]
    plans = (
        select(PlanRow.campaign_id, PlanRow.stage, func.count())
        .where(among(PlanRow.campaign_id, ids))
        .group_by(PlanRow.campaign_id, PlanRow.stage)
    )
    revisions = {(number, stage): count for number, stage, count in session.execute(plans)}
    counts: dict[tuple[int, str], dict[JobState, int]] = {}
    stale: Counter[tuple[int, str]] = Counter()
    of_jobs = (JobRow.campaign_id, JobRow.stage, JobRow.state, JobRow.stale)
    query = select(*of_jobs, func.count()).where(among(JobRow.campaign_id, ids)).group_by(*of_jobs)
    for number, stage, state, is_stale, count in session.execute(query):
        of_stage = counts.setdefault((number, stage), {})
        of_stage[JobState(state)] = of_stage.get(JobState(state), 0) + count
        stale[number, stage] += count if is_stale else 0
    left_out = counted(session, ids)
    return {
        row.id: [
            StageProgress(
                name,
                position,
                revisions.get((row.id, name), 0),
                counts.get((row.id, name), {}),
                stale[row.id, name],
                left_out.get((row.id, name), {}),
            )
            for position, name in enumerate(each["name"] for each in row.definition["pipeline"]["stages"])
        ]
        for row in rows
    }


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
    query = _job_lines().where(JobRow.campaign_id == campaign_id).limit(limit)
    if stage:
        query = query.where(JobRow.stage == stage)
    if slice_id is not None:
        query = query.where(JobRow.slice_id == slice_id)
    if states:
        query = query.where(JobRow.state.in_(states))
    for _, *line in session.execute(query):
        yield _job_line(*line)


def failed_jobs(session: Session, campaign_ids: Collection[int]) -> dict[int, list[JobLine]]:
    """Return the failed jobs of campaigns, by the campaign's ID, in the order of their plans: one statement."""
    query = _job_lines().where(among(JobRow.campaign_id, campaign_ids), JobRow.state == JobState.FAILED)
    return grouped((number, _job_line(*line)) for number, *line in session.execute(query))


def _job_lines() -> Select[Any]:
    return (
        select(
            JobRow.campaign_id, JobRow.id, JobRow.stage, JobRow.unit, JobRow.state, JobRow.stale, JobRow.attempts,
            AttemptRow.state, AttemptRow.fate, AttemptRow.failed_step, AttemptRow.evidence,
            ErrorRuleRow.name, ErrorRuleRow.explanation, ErrorRuleRow.link,
        )
        .outerjoin(AttemptRow, (AttemptRow.job_id == JobRow.id) & (AttemptRow.number == JobRow.attempts))
        .outerjoin(ErrorRuleRow, ErrorRuleRow.id == AttemptRow.error_id)
        .order_by(JobRow.id)
        .execution_options(yield_per=1000)
    )  # fmt: skip


def _job_line(id_: int, stage: str, unit: str, state: str, stale: bool, attempts: int, *last: str | None) -> JobLine:
    return JobLine(id_, stage, unit, JobState(state), stale, attempts, *[text or "" for text in last])


def _sealed_part(definition: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in definition.items() if key not in UNSEALED}


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
