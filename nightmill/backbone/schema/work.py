"""Tables of what was to be done and what was: campaigns to executions, and the relations between runs and files."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from nightmill.backbone.schema.base import Base, Json, Key, NullableJson, OneOf, OrderedJson
from nightmill.model.fate import Fate
from nightmill.model.notification import Event
from nightmill.model.observed import Level
from nightmill.model.states import AttemptState, Course, ExecutionState, Hold, JobState


class CampaignRow(Base):
    """A named processing effort, as it was submitted."""

    __tablename__ = "campaign"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    site_id: Mapped[int] = mapped_column(ForeignKey("site.id"))
    """The site that it was submitted at, and that alone carries it out."""
    name: Mapped[str] = mapped_column(unique=True)
    pipeline: Mapped[str]
    pipeline_version: Mapped[str]
    definition: Mapped[dict[str, Any]] = mapped_column(OrderedJson)
    """The merged campaign with the origin of each value that was set."""
    sha256: Mapped[str] = mapped_column(String(64))
    submitted_at: Mapped[datetime]
    submitted_by: Mapped[str]
    flow_run_id: Mapped[str | None]
    """The Prefect flow run that conducts it, or did last."""
    course: Mapped[str] = mapped_column(OneOf(Course), default=Course.GOES_ON.value)
    """What its operators want of it."""
    steered_by: Mapped[str | None]
    """Who set it on this course; NULL where nobody did since it was submitted."""
    steered_why: Mapped[str | None]
    priority: Mapped[int] = mapped_column(default=0)
    """Jobs of the campaign with the highest get cores first."""
    most_jobs: Mapped[int] = mapped_column(default=0)
    """Jobs of it at a time, at most; 0 for no limit."""
    hosts: Mapped[dict[str, Any] | None] = mapped_column(NullableJson)
    """Patterns of the hosts to ``use`` and to ``avoid``; NULL for any host."""
    limited_by: Mapped[str | None]
    """Who set these limits; NULL where they are those that it was submitted with."""
    limited_why: Mapped[str | None]


class SignOffRow(Base):
    """That somebody accepted, or rejected, what a campaign had made up to a breakpoint."""

    __tablename__ = "sign_off"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    breakpoint: Mapped[str]
    """``after STAGE``, or ``pilot of STAGE``."""
    accepted: Mapped[bool]
    who: Mapped[str]
    why: Mapped[str]
    at: Mapped[datetime]
    __table_args__ = (Index(None, "campaign_id"),)


class NotificationRow(Base):
    """Something that was told of a campaign, or that a notifier failed to tell: never again."""

    __tablename__ = "notification"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    event: Mapped[str] = mapped_column(OneOf(Event))
    fact: Mapped[str]
    """Tells it apart from others of its kind."""
    notifier: Mapped[str]
    """The place of the notifier in the site's list, and its way."""
    text: Mapped[str]
    at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("campaign_id", "event", "fact", "notifier"),)


class SavedPlanRow(Base):
    """A plan that somebody kept, to submit it as it was seen; never changed. Its lines lie in the spool."""

    __tablename__ = "saved_plan"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    """The digest of the plan."""
    campaign: Mapped[str]
    """Name of the campaign, which may not be on record yet."""
    number: Mapped[int] = mapped_column(BigInteger)
    """What stands in the names of the campaign's files; no other campaign is given it."""
    definition: Mapped[dict[str, Any]] = mapped_column(OrderedJson)
    """The merged campaign."""
    at: Mapped[datetime]
    who: Mapped[str]
    __table_args__ = (Index(None, "campaign"), Index(None, "number"))


class PlanRow(Base):
    """The sealed plan of one stage: what is common to its jobs. A stage that is planned again gets another."""

    __tablename__ = "plan"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    stage: Mapped[str]
    position: Mapped[int]
    """Of the stage in its pipeline, from 0."""
    revision: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    watermark: Mapped[int] = mapped_column(BigInteger)
    """The highest file ID that the plan could see."""
    common: Mapped[dict[str, Any]] = mapped_column(OrderedJson)
    sealed_at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("campaign_id", "stage", "revision"),)


class SliceRow(Base):
    """At most a thousand jobs of a stage that one Prefect flow run conducts."""

    __tablename__ = "slice"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    plan_id: Mapped[int] = mapped_column(ForeignKey("plan.id"))
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    stage: Mapped[str]
    number: Mapped[int]
    flow_run_id: Mapped[str | None]
    __table_args__ = (UniqueConstraint("campaign_id", "stage", "number"),)


class JobRow(Base):
    """One unit of one stage of one campaign."""

    __tablename__ = "job"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    plan_id: Mapped[int] = mapped_column(ForeignKey("plan.id"))
    slice_id: Mapped[int] = mapped_column(ForeignKey("slice.id"))
    stage: Mapped[str]
    unit: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(OrderedJson)
    """What differs from the plan's common part: data ID, inputs, and data ID of the outputs."""
    state: Mapped[str] = mapped_column(OneOf(JobState), default=JobState.PLANNED.value)
    attempts: Mapped[int] = mapped_column(default=0)
    """Number of the last attempt that was issued."""
    stale: Mapped[bool] = mapped_column(default=False)
    """A later success upstream would give it other inputs than those it was planned with."""
    passed_over: Mapped[bool] = mapped_column(default=False)
    """It failed, and a rerun chose others: it is not issued until one chooses it."""
    renew: Mapped[bool] = mapped_column(default=False)
    """It runs again after what it reads: its inputs are chosen anew before it is issued, when its stage has a turn."""
    held_by: Mapped[str | None] = mapped_column(OneOf(Hold))
    """What holds it, where it is held."""
    held_why: Mapped[str | None]
    """Why, in words."""
    ready_at: Mapped[datetime | None]
    """When it may be tried again by itself, where that was not at once after its last attempt."""
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """What its next attempt asks for, where that is not what its stage says."""
    __table_args__ = (
        UniqueConstraint("campaign_id", "stage", "unit"),
        Index(None, "slice_id", "state"),
        Index(None, "campaign_id", "state"),
    )


class LeftOutRow(Base):
    """A unit that the newest plan of a stage leaves out, since an input lacks files."""

    __tablename__ = "left_out"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaign.id"))
    stage: Mapped[str]
    unit: Mapped[str]
    role: Mapped[str]
    """The input that lacks files."""
    types: Mapped[str]
    """Their file types, separated by commas."""
    missing: Mapped[str] = mapped_column(String(8))
    """``skip`` or ``hold``."""
    why: Mapped[str]
    """What was looked for and what was there, in words."""
    watermark: Mapped[int] = mapped_column(BigInteger)
    """The highest file ID that the plan could see."""
    planned_at: Mapped[datetime]
    __table_args__ = (UniqueConstraint("campaign_id", "stage", "unit"), Index(None, "missing"))


class LeaseRow(Base):
    """A process that may issue attempts; free at once when the process is dead."""

    __tablename__ = "lease"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    site_id: Mapped[int] = mapped_column(ForeignKey("site.id"))
    host: Mapped[str]
    boot_id: Mapped[str]
    pid: Mapped[int]
    started_at: Mapped[float]
    flow_run_id: Mapped[str | None]
    taken_at: Mapped[datetime]
    released_at: Mapped[datetime | None]


class AttemptRow(Base):
    """One numbered try at a job; never used again, never overwritten."""

    __tablename__ = "attempt"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"))
    plan_id: Mapped[int] = mapped_column(ForeignKey("plan.id"))
    lease_id: Mapped[int | None] = mapped_column(ForeignKey("lease.id"))
    number: Mapped[int]
    state: Mapped[str] = mapped_column(OneOf(AttemptState))
    fate: Mapped[str | None] = mapped_column(OneOf(Fate, 24))
    failed_step: Mapped[str | None]
    evidence: Mapped[str | None]
    order_sha256: Mapped[str] = mapped_column(String(64))
    copies: Mapped[dict[str, Any] | None] = mapped_column(Json)
    """File ID to the IDs of the copies that its order names, in their order; NULL, or without a file where it names the
    file's first copy alone."""
    memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    """What its order asks for, where that is not what its stage says."""
    rule_ids: Mapped[list[Any] | None] = mapped_column(NullableJson)
    """IDs of the rules of errors that stand in its order; NULL where none does."""
    error_id: Mapped[int | None] = mapped_column(ForeignKey("error_rule.id"))
    """The rule that names how it failed; of one that published, the first by which a step of it was accepted."""
    job_detail: Mapped[dict[str, Any] | None] = mapped_column(OrderedJson)
    """What its job's detail was, where that was changed since; NULL where it is as it was."""
    replaced_at: Mapped[datetime | None]
    """When another became the result of its job in its place."""
    host: Mapped[str | None]
    issued_at: Mapped[datetime]
    began_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    adopted: Mapped[bool] = mapped_column(default=False)
    result: Mapped[bool] = mapped_column(default=False)
    """Whether it is the attempt of its job that counts; one that published without is superseded."""
    __table_args__ = (
        UniqueConstraint("job_id", "number"),
        CheckConstraint("NOT result OR state = 'published'", name="result_is_published"),
        Index(
            "uq_attempt_result",
            "job_id",
            unique=True,
            sqlite_where=text("result"),
            postgresql_where=text("result"),
        ),
        Index(None, "state"),
        Index(None, "lease_id"),
        Index(None, "error_id"),
    )


class TakenRow(Base):
    """A file of an earlier attempt of the same job that an attempt takes instead of making it again; written at issue.

    It counts wherever that attempt is the result of its job.
    """

    __tablename__ = "taken"
    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempt.id"), primary_key=True)
    file_id: Mapped[int] = mapped_column(ForeignKey("file.id"), primary_key=True)
    __table_args__ = (Index(None, "file_id"),)


class PlannedInputRow(Base):
    """What an attempt's order says a step shall read, and the rule that chose it; written at issue."""

    __tablename__ = "planned_input"
    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempt.id"), primary_key=True)
    step: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str] = mapped_column(primary_key=True)
    file_id: Mapped[int] = mapped_column(ForeignKey("file.id"), primary_key=True)
    rule: Mapped[str]
    """Why this file, as ``nearest in set ccd: 0.4 d before``."""
    origin: Mapped[str]
    """The configuration layer that set the rule, as ``campaign (night1.yaml:12)``."""
    level: Mapped[int | None]
    """Of the lookup that chose it, where that has one: how good it is for the unit."""
    __table_args__ = (Index(None, "file_id"),)


class ExecutionRow(Base):
    """One run of one step in one attempt: what ran, where, when, with what, at what cost."""

    __tablename__ = "execution"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempt.id"))
    step: Mapped[str]
    position: Mapped[int]
    state: Mapped[str] = mapped_column(OneOf(ExecutionState))
    argv: Mapped[list[Any]]
    environment: Mapped[dict[str, Any]]
    """What it saw beside its places; of executions of before, what its pipeline says alone."""
    files_sha256: Mapped[str | None] = mapped_column(String(64))
    """Digest of the names and texts of the files that were written for it; NULL where there were none."""
    software_id: Mapped[int | None] = mapped_column(ForeignKey("software.id"))
    host: Mapped[str]
    began_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    exit_code: Mapped[int | None]
    signal: Mapped[int | None]
    accepted_id: Mapped[int | None] = mapped_column(ForeignKey("error_rule.id"))
    """The rule by which its exit code counts as good."""
    wall_seconds: Mapped[float | None]
    user_seconds: Mapped[float | None]
    system_seconds: Mapped[float | None]
    max_rss_bytes: Mapped[int | None] = mapped_column(BigInteger)
    read_bytes: Mapped[int | None] = mapped_column(BigInteger)
    written_bytes: Mapped[int | None] = mapped_column(BigInteger)
    level: Mapped[str | None] = mapped_column(OneOf(Level))
    """How far it was held to what it was given; NULL, as all that follows, where nothing is known of that (yet)."""
    confined: Mapped[dict[str, Any] | None] = mapped_column(NullableJson)
    """``by`` what it was held, and what was ``lacking``; NULL where there is neither."""
    witness: Mapped[str | None] = mapped_column(String(8))
    """Who saw what it opened; empty where nobody did."""
    told: Mapped[bool | None]
    """Whether it told anything of what it used."""
    reached: Mapped[list[Any] | None] = mapped_column(NullableJson)
    """Paths outside of what it was given that it tried to reach; NULL where none is known."""
    __table_args__ = (
        UniqueConstraint("attempt_id", "position"),
        Index(None, "step", "host"),
    )


class InputUseRow(Base):
    """An execution and a file that it used: planned, opened, contributed are separate facts; NULL is unknown."""

    __tablename__ = "input_use"
    execution_id: Mapped[int] = mapped_column(ForeignKey("execution.id"), primary_key=True)
    file_id: Mapped[int] = mapped_column(ForeignKey("file.id"), primary_key=True)
    role: Mapped[str] = mapped_column(primary_key=True)
    planned: Mapped[bool] = mapped_column(default=True)
    """False where it read a file that is on no record, such as a scratch file, and that was made of this one; or where
    it read what was not planned for it, which is opened or contributed then."""
    opened: Mapped[bool | None]
    """What the witness saw."""
    contributed: Mapped[bool | None]
    """What the step told."""
    reason: Mapped[str | None]
    """Why it did not contribute, in the words of the step."""
    __table_args__ = (Index(None, "file_id"),)


class GenerationRow(Base):
    """The execution that generated a file; a file has at most one."""

    __tablename__ = "generation"
    file_id: Mapped[int] = mapped_column(ForeignKey("file.id"), primary_key=True)
    execution_id: Mapped[int] = mapped_column(ForeignKey("execution.id"))
    role: Mapped[str]
    produced_name: Mapped[str | None]
    """The step's own name for the file, where the job renamed it."""
    told: Mapped[bool | None]
    """True where the step told what the file was made of: of that it was derived, and of nothing else; NULL where it
    did not, and the file depends on all that the step used."""
    __table_args__ = (Index(None, "execution_id"),)


class DeliveryRow(Base):
    """An output that went to a working area instead of the backbone: where to, not registered as a file."""

    __tablename__ = "delivery"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    attempt_id: Mapped[int] = mapped_column(ForeignKey("attempt.id"))
    area: Mapped[str]
    path: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    __table_args__ = (UniqueConstraint("area", "path"), Index(None, "attempt_id"))
