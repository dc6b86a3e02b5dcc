"""What is on record of a job: its attempts, what they were to read and why, what ran, and what they made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from nightmill.backbone.catalogue.file_warnings import warnings_of
from nightmill.backbone.schema import (
    AttemptRow,
    CampaignRow,
    DeliveryRow,
    ErrorRuleRow,
    ExecutionRow,
    FileRow,
    GenerationRow,
    InputUseRow,
    JobRow,
    PlannedInputRow,
    PlanRow,
    ReplicaRow,
    SoftwareRow,
    StoreRow,
)
from nightmill.backbone.sites import is_here, store_label
from nightmill.backbone.work.campaigns import job_named
from nightmill.errors import UnknownName
from nightmill.model.file_warning import FileWarning
from nightmill.model.software import Stack
from provenance.knowledge import Observed, observed, sources_of

BUNDLE: Final = PlanRow.common["bundle"]["digest"].as_string()
"""Of the plan that an attempt was issued from."""


@dataclass(frozen=True)
class Attempt:
    """One try at a job."""

    id: int
    number: int
    state: str
    fate: str | None
    result: bool
    failed_step: str | None
    evidence: str | None
    host: str | None
    issued_at: datetime
    began_at: datetime | None
    ended_at: datetime | None
    adopted: bool
    memory_bytes: int | None
    """What its order asks for, where that is not what its stage says."""
    bundle: str
    """Digest of the pipeline's folder that it runs; empty where its campaign is of a time before bundles."""
    order_sha256: str
    """Digest of its order: all that it was told, its configuration with it."""
    plan_sha256: str
    """Digest of the plan of its stage, which has the configuration of all of its jobs."""
    error: str = ""
    """The error that it is by the site's rules; empty where these do not name it."""
    error_version: int | None = None
    explanation: str = ""
    link: str = ""


@dataclass(frozen=True)
class ChosenInput:
    """A file that an attempt was to read: the rule that chose it, and the configuration layer that set the rule."""

    step: str
    role: str
    name: str
    rule: str
    origin: str
    level: int | None
    opened: bool | None = None
    """Whether a witness saw the step open it; None where that is not known, or the step did not run."""
    contributed: bool | None = None
    """Whether the step says that it contributed; None where it does not say."""
    reason: str | None = None
    """Why it did not contribute, in the words of the step."""

    @property
    def left_out(self) -> str:
        """Why it is not among what the step used; empty where it is, or may be."""
        if self.contributed is not False:
            return ""
        return f"eliminated: {self.reason}" if self.reason else "not among what the step told that it used"


@dataclass(frozen=True)
class Execution:
    """One run of one step."""

    id: int
    step: str
    state: str
    argv: Sequence[str]
    host: str
    began_at: datetime
    ended_at: datetime | None
    exit_code: int | None
    signal: int | None
    accepted: str
    """The error by whose rule the exit code counts as good; empty where it was not accepted."""
    accepted_version: int | None
    """The version of that rule."""
    wall_seconds: float | None
    user_seconds: float | None
    system_seconds: float | None
    max_rss_bytes: int | None
    read_bytes: int | None
    written_bytes: int | None
    environment: Mapping[str, str]
    """What it saw beside its places; of executions of before, what its pipeline says alone."""
    files_sha256: str | None
    """Digest of the files that were written for it; None where there were none."""
    software_sha256: str = ""
    """Digest of its stack; empty where none is known."""
    software: Stack | None = None
    observed: Observed | None = None
    """What is known of it beside; None where nothing is, as of one that has not ended."""


@dataclass(frozen=True)
class MadeFile:
    """A file that an attempt made: in the catalogue, with or without a copy, or delivered to a working area."""

    step: str
    role: str
    name: str
    type: str
    kept: bool
    area: str = ""
    place: str = ""
    """Where its copy is, as ``store: path`` or ``working area: path``; empty where it is not kept."""
    warnings: Sequence[FileWarning] = ()
    """What those checks of its type found that hold no file back."""


@dataclass(frozen=True)
class Maker:
    """The execution that generated a file, and why it read what it read."""

    role: str
    produced_name: str | None
    """The step's own name for the file, where the job renamed it."""
    campaign: str
    stage: str
    unit: str
    attempt: int
    bundle: str
    """Digest of the pipeline's folder that the execution saw; empty where it is of a time before bundles."""
    execution: Execution
    inputs: Sequence[ChosenInput]
    """What it was to read; then what steps before it were to read for files of theirs that it read and that are on no
    record."""
    made_of: Sequence[str] | None = None
    """Names of all that the file was made of, where the step told it; None where it did not."""

    @property
    def attempt_name(self) -> str:
        """The attempt, as people and journals write it."""
        return f"{self.campaign}/{self.stage}/{self.unit}/a{self.attempt:02d}"


@dataclass(frozen=True)
class JobHistory:
    """A job, and what is on record of one of its attempts: the one asked for, else its result, else its last."""

    campaign: str
    stage: str
    unit: str
    state: str
    stale: bool
    data_id: dict[str, str | int]
    attempts: Sequence[Attempt]
    shown: Attempt | None
    inputs: Sequence[ChosenInput]
    executions: Sequence[Execution]
    made: Sequence[MadeFile]


def job_history(session: Session, campaign: str, stage: str, unit: str, *, number: int | None = None) -> JobHistory:
    """Return what is on record of a job.

    Parameters
    ----------
    number
        Of the attempt to tell of; by default the job's result, else its last.

    Raises
    ------
    UnknownName
        Where there is no such campaign, job or attempt; with a guess.
    """
    job = job_named(session, campaign, stage, unit)
    query = (
        select(AttemptRow, BUNDLE, PlanRow.sha256, ErrorRuleRow)
        .join(PlanRow, PlanRow.id == AttemptRow.plan_id)
        .outerjoin(ErrorRuleRow, ErrorRuleRow.id == AttemptRow.error_id)
        .where(AttemptRow.job_id == job.id)
        .order_by(AttemptRow.number)
    )
    attempts = [_attempt(*found) for found in session.execute(query)]
    shown = _shown(attempts, number, f"{campaign}/{stage}/{unit}")
    return JobHistory(
        campaign=campaign,
        stage=stage,
        unit=unit,
        state=job.state,
        stale=job.stale,
        data_id=job.detail.get("data_id", {}),
        attempts=attempts,
        shown=shown,
        inputs=chosen_inputs(session, shown.id) if shown else (),
        executions=_executions(session, shown.id) if shown else (),
        made=_made(session, shown.id) if shown else (),
    )


def chosen_inputs(session: Session, attempt_id: int, execution: ExecutionRow | None = None) -> list[ChosenInput]:
    """Return what an attempt was to read from the catalogue, with the rules that chose it.

    Parameters
    ----------
    execution
        The only step of it to tell of: what that was to read, then what steps before it were to read for files of
        theirs that it read and that are on no record.
    """
    ran, through = ExecutionRow, aliased(InputUseRow)
    query = (
        select(PlannedInputRow.step, PlannedInputRow.role, FileRow.name)
        .add_columns(PlannedInputRow.rule, PlannedInputRow.origin, PlannedInputRow.level)
        .add_columns(InputUseRow.opened, InputUseRow.contributed, InputUseRow.reason)
        .join(FileRow, PlannedInputRow.file_id == FileRow.id)
        .outerjoin(ran, (ran.attempt_id == PlannedInputRow.attempt_id) & (ran.step == PlannedInputRow.step))
        .outerjoin(
            InputUseRow,
            (InputUseRow.execution_id == ran.id)
            & (InputUseRow.file_id == PlannedInputRow.file_id)
            & (InputUseRow.role == PlannedInputRow.role),
        )
        .where(PlannedInputRow.attempt_id == attempt_id)
        .order_by(PlannedInputRow.step, PlannedInputRow.role, FileRow.name)
    )
    if execution is not None:
        behind = (
            select(through.execution_id)
            .where(through.execution_id == execution.id, through.planned.is_(False))
            .where(through.file_id == PlannedInputRow.file_id, through.role == PlannedInputRow.role)
        )
        query = query.where((PlannedInputRow.step == execution.step) | behind.exists())
    found = [ChosenInput(*row) for row in session.execute(query)]
    return found if execution is None else sorted(found, key=lambda each: each.step != execution.step)


def maker_of(session: Session, file_id: int) -> Maker | None:
    """Return how a file was generated; None where no execution did, or none is on record."""
    row = session.execute(
        select(
            GenerationRow.role,
            GenerationRow.produced_name,
            GenerationRow.told,
            CampaignRow.name,
            JobRow.stage,
            JobRow.unit,
            AttemptRow.number,
            BUNDLE,
            ExecutionRow,
            SoftwareRow,
            ErrorRuleRow,
        )
        .join(ExecutionRow, GenerationRow.execution_id == ExecutionRow.id)
        .join(AttemptRow, ExecutionRow.attempt_id == AttemptRow.id)
        .join(PlanRow, PlanRow.id == AttemptRow.plan_id)
        .join(JobRow, AttemptRow.job_id == JobRow.id)
        .join(CampaignRow, JobRow.campaign_id == CampaignRow.id)
        .outerjoin(SoftwareRow, ExecutionRow.software_id == SoftwareRow.id)
        .outerjoin(ErrorRuleRow, ErrorRuleRow.id == ExecutionRow.accepted_id)
        .where(GenerationRow.file_id == file_id)
    ).first()
    if row is None:
        return None
    role, produced_name, told, campaign, stage, unit, number, bundle, execution, software, accepted = row
    inputs = chosen_inputs(session, execution.attempt_id, execution)
    ran = _execution(execution, software, accepted, observed(session, [execution]))
    made_of = sources_of(session, file_id) if told else None
    return Maker(role, produced_name, campaign, stage, unit, number, bundle or "", ran, inputs, made_of)


def _shown(attempts: Sequence[Attempt], number: int | None, job: str) -> Attempt | None:
    if number is not None:
        for attempt in attempts:
            if attempt.number == number:
                return attempt
        raise UnknownName(f"attempt of {job}", f"a{number:02d}", [f"a{each.number:02d}" for each in attempts])
    return next((attempt for attempt in attempts if attempt.result), attempts[-1] if attempts else None)


def _attempt(row: AttemptRow, bundle: str | None, plan_sha256: str, error: ErrorRuleRow | None) -> Attempt:
    own = {each.name: getattr(row, each.name) for each in fields(Attempt) if each.name in AttemptRow.__table__.columns}
    attempt = Attempt(**own, bundle=bundle or "", plan_sha256=plan_sha256)
    if error is None:
        return attempt
    of_error = replace(attempt, error=error.name, error_version=error.version)
    return replace(of_error, explanation=error.explanation, link=error.link)


def _execution(
    row: ExecutionRow, software: SoftwareRow | None, accepted: ErrorRuleRow | None, seen: Mapping[int, Observed]
) -> Execution:
    columns = ExecutionRow.__table__.columns
    own = {each.name: getattr(row, each.name) for each in fields(Execution) if each.name in columns}
    error, version = (accepted.name, accepted.version) if accepted else ("", None)
    execution = Execution(**own, accepted=error, accepted_version=version, observed=seen.get(row.id))
    if software is None:
        return execution
    return replace(execution, software_sha256=software.sha256, software=Stack.read(software.packages))


def _executions(session: Session, attempt_id: int) -> list[Execution]:
    query = (
        select(ExecutionRow, SoftwareRow, ErrorRuleRow)
        .outerjoin(SoftwareRow, ExecutionRow.software_id == SoftwareRow.id)
        .outerjoin(ErrorRuleRow, ErrorRuleRow.id == ExecutionRow.accepted_id)
        .where(ExecutionRow.attempt_id == attempt_id)
        .order_by(ExecutionRow.position)
    )
    rows = session.execute(query).tuples().all()
    seen = observed(session, [row for row, _packages, _accepted in rows])
    return [_execution(row, packages, accepted, seen) for row, packages, accepted in rows]


def _made(session: Session, attempt_id: int) -> list[MadeFile]:
    place = (
        select(store_label(session) + ": " + ReplicaRow.path)
        .where(ReplicaRow.store_id == StoreRow.id, ReplicaRow.file_id == FileRow.id)
        .order_by(is_here(session).desc(), ReplicaRow.id)
        .limit(1)
        .correlate(FileRow)
    )
    registered = session.execute(
        select(FileRow.id, ExecutionRow.step, GenerationRow.role, FileRow.name, FileRow.type, place.scalar_subquery())
        .outerjoin(GenerationRow, GenerationRow.file_id == FileRow.id)
        .outerjoin(ExecutionRow, GenerationRow.execution_id == ExecutionRow.id)
        .where(FileRow.attempt_id == attempt_id)
        .order_by(FileRow.id)
    ).all()
    warnings = warnings_of(session, [row[0] for row in registered])
    delivered = session.scalars(
        select(DeliveryRow).where(DeliveryRow.attempt_id == attempt_id).order_by(DeliveryRow.id)
    )
    files = [
        MadeFile(
            step or "", role or type_, name, type_, kept=bool(place), place=place or "", warnings=warnings.get(id_, ())
        )
        for id_, step, role, name, type_, place in registered
    ]
    return files + [
        MadeFile("", "", row.path.rpartition("/")[2], "", True, row.area, f"{row.area}: {row.path}")
        for row in delivered
    ]
