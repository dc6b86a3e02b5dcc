"""What verbs print of campaigns, their jobs, and what these used and made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nightmill.cli.documents import Document
from nightmill.cli.documents.file_warnings import FileWarning
from nightmill.cli.documents.knowledge import Completeness, Observed, WarnedOf
from nightmill.cli.documents.steering import Steering
from nightmill.cli.documents.transfers import Route
from nightmill.cli.documents.units import AcceptedJobs, HeldJobs, LeftOutUnit


@dataclass(frozen=True, kw_only=True)
class Submitted(Document):
    """A campaign that was handed to its conductor."""

    campaign: str
    """Name of the campaign."""
    flow_run_id: str
    """The Prefect flow run that conducts it."""
    ui_url: str
    """Where the Prefect UI shows that."""


@dataclass(frozen=True, kw_only=True)
class Watched(Submitted):
    """A campaign that was watched to its end."""

    state: str
    """Of its flow run: ``COMPLETED``, ``FAILED``, ``CRASHED`` or ``CANCELLED``."""
    stages: Mapping[str, Mapping[str, int]]
    """Stages to how many of their jobs are in each state that some job is in."""
    failed: Sequence[str]
    """Each job that failed, with its step, fate and evidence."""


@dataclass(frozen=True, kw_only=True)
class NotBegun(Document):
    """A campaign of which nothing was set going."""

    campaign: str
    """Name of the campaign."""
    left: int | None
    """How many of its jobs are not done; null where a stage is not planned yet."""
    paused: str
    """Who paused it, and why: its jobs wait until it is resumed; empty where it is not paused."""


@dataclass(frozen=True, kw_only=True)
class StageStanding(Document):
    """How many jobs of a stage are in each state."""

    stage: str
    """Name of the stage."""
    jobs: int
    """How many jobs it has; 0 where it was not planned yet."""
    stale: int
    """How many would get other inputs now."""
    planned: int
    """How many were not issued yet."""
    held: int
    """How many units wait for a person, or for what an input lacks; the latter are not among its jobs yet."""
    skipped: int
    """How many units were left out, since an input lacks files; they are not among its jobs."""
    ready: int
    """How many may be issued again."""
    active: int
    """How many were issued and have not ended."""
    done: int
    """How many have a result."""
    failed: int
    """How many did not publish with their last attempt."""
    cancelled: int
    """How many a person ended."""


@dataclass(frozen=True, kw_only=True)
class FailedJob(Document):
    """A job that failed."""

    job: str
    """Its name in the campaign: stage and unit."""
    attempt: int
    """How many attempts were issued."""
    step: str
    """The step that the last of them failed in."""
    fate: str
    """Its fate."""
    evidence: str
    """What it says of the reason."""
    error: str
    """The error that it is by the site's rules; empty where these do not name it."""
    explanation: str
    """What that means."""
    link: str
    """Where the site says more of it."""


@dataclass(frozen=True, kw_only=True)
class Campaign(Document):
    """How a campaign stands."""

    campaign: str
    """Its name."""
    number: int
    """Its number, as names of files have it."""
    pipeline: str
    """Name of its pipeline."""
    pipeline_version: str
    """Version of the pipeline."""
    submitted_at: datetime
    """When it was submitted first."""
    submitted_by: str
    """By whom."""
    ui_url: str
    """Where the Prefect UI shows its flow run; empty where it has none, or where that was deleted."""
    flow_run_state: str | None
    """What Prefect says of that: ``RUNNING``, ``FAILED``, ...; null where it was not reached, or has it no more."""
    steering: Steering
    """What its operators want."""
    stages: Sequence[StageStanding]
    """Its stages, in their order."""
    bundles: Mapping[str, int]
    """Digests of bundles to how many jobs ran them, or would."""
    failed: Sequence[FailedJob]
    """Its jobs that failed."""
    left_out: Sequence[LeftOutUnit]
    """Units that its plans leave out."""
    holds: Sequence[HeldJobs]
    """Its jobs that are held."""
    accepted: Sequence[AcceptedJobs]
    """Its jobs with a step whose exit code was accepted."""
    known: Completeness
    """How much is known of what its results stand on."""
    differences: Sequence[WarnedOf]
    """How plan, witness and steps differ, where its results warn of it."""
    warned: Mapping[str, int]
    """Checks to of how many of its results each warns."""


@dataclass(frozen=True, kw_only=True)
class StageProgress(Document):
    """A stage of a campaign."""

    stage: str
    """Its name."""
    position: int
    """In its pipeline, from 0."""
    revisions: int
    """How often it was planned; 0 where it was not yet."""
    counts: Mapping[str, int]
    """States to how many jobs are in each; only states that some job is in."""
    stale: int
    """How many jobs would get other inputs now."""
    left_out: Mapping[str, int]
    """``skip`` and ``hold`` to how many units its plan leaves out; only where there are some."""


@dataclass(frozen=True, kw_only=True)
class Job(Document):
    """A job with how its last attempt stands."""

    id: int
    """Its number in the database."""
    stage: str
    """Name of the stage."""
    unit: str
    """Name of the unit."""
    state: str
    """Its state."""
    stale: bool
    """Whether it would get other inputs now."""
    attempts: int
    """How many attempts were issued."""
    attempt_state: str
    """Of the last attempt; empty where none was issued."""
    fate: str
    """Of the last attempt; empty where it has none."""
    step: str
    """Step that the last attempt failed in; empty where it did not."""
    evidence: str
    """What the last attempt says of the reason."""
    error: str
    """The error that it is by the site's rules; empty where these do not name it."""
    explanation: str
    """What that means."""
    link: str
    """Where the site says more of it."""


@dataclass(frozen=True, kw_only=True)
class ShownCampaign(Document):
    """All that is on record of a campaign."""

    name: str
    """Its name."""
    pipeline: str
    """Name of its pipeline."""
    pipeline_version: str
    """Version of the pipeline."""
    submitted_at: datetime
    """When it was submitted first."""
    submitted_by: str
    """By whom."""
    definition: Mapping[str, Any]
    """The merged campaign, with the origin of each value that was set."""
    stages: Sequence[StageProgress]
    """Its stages, in their order."""
    transfers: Sequence[Route]
    """What came from other sites for it, and what went home."""
    known: Completeness
    """How much is known of what its results stand on."""
    differences: Sequence[WarnedOf]
    """How plan, witness and steps differ, where its results warn of it."""
    jobs: Sequence[Job]
    """Its jobs."""


@dataclass(frozen=True, kw_only=True)
class Attempt(Document):
    """One try at a job."""

    id: int
    """Its number in the database."""
    number: int
    """Among those of the job, from 1."""
    state: str
    """Its state."""
    fate: str | None
    """Its fate, once it has ended."""
    result: bool
    """Whether it is the one of its job that counts."""
    failed_step: str | None
    """The step that it failed in."""
    evidence: str | None
    """What it says of the reason."""
    host: str | None
    """Where it ran."""
    issued_at: datetime
    """When it was issued."""
    began_at: datetime | None
    """When it began."""
    ended_at: datetime | None
    """When it ended."""
    adopted: bool
    """Whether it died while it published, and was completed afterwards."""
    bundle: str
    """Digest of the pipeline's folder that it runs; empty where it is of a time before bundles."""
    order_sha256: str
    """Digest of its order: all that it was told, its configuration with it."""
    plan_sha256: str
    """Digest of the plan of its stage, which has the configuration of all of its jobs."""
    memory_bytes: int | None
    """What its order asks for, where that is not what its stage says, bytes."""
    error: str
    """The error that it is by the site's rules, or as which a step of it was accepted; empty where these name none."""
    error_version: int | None
    """The version of the rule that named it."""
    explanation: str
    """What that means."""
    link: str
    """Where the site says more of it."""


@dataclass(frozen=True, kw_only=True)
class ChosenInput(Document):
    """A file that an attempt was to read."""

    step: str
    """Name of the step."""
    role: str
    """The input that it fills."""
    name: str
    """Name of the file."""
    rule: str
    """What chose it."""
    origin: str
    """The configuration layer that set the rule."""
    level: int | None
    """Of the lookup that chose it, where that has one."""
    opened: bool | None
    """Whether a witness saw the step open it; null where that is not known."""
    contributed: bool | None
    """Whether the step says that it contributed; null where it does not say."""
    reason: str | None
    """Why it did not contribute, in the words of the step."""


@dataclass(frozen=True, kw_only=True)
class Execution(Document):
    """One run of one step."""

    id: int
    """Its number in the database."""
    step: str
    """Name of the step."""
    state: str
    """How it is, or ended."""
    argv: Sequence[str]
    """The command."""
    host: str
    """Where it ran."""
    began_at: datetime
    """When it began."""
    ended_at: datetime | None
    """When it ended."""
    exit_code: int | None
    """What it ended with, where no signal ended it."""
    signal: int | None
    """The signal that ended it."""
    accepted: str
    """The error by whose rule its exit code counts as good; empty where it was not accepted."""
    accepted_version: int | None
    """The version of that rule."""
    wall_seconds: float | None
    """How long it took, seconds."""
    user_seconds: float | None
    """CPU time of its processes, seconds."""
    system_seconds: float | None
    """CPU time of the kernel for them, seconds."""
    max_rss_bytes: int | None
    """The most memory that its processes had together, bytes."""
    read_bytes: int | None
    """What they read from storage, bytes."""
    written_bytes: int | None
    """What they wrote to storage, bytes."""
    environment: Mapping[str, str]
    """The variables that it saw, but for its places."""
    files_sha256: str | None
    """Digest of the files that were written for it; null where there were none."""
    software_sha256: str
    """Digest of its software; empty where none is known."""
    software: Mapping[str, Mapping[str, str]]
    """The software that it ran with, by section, as the [journal](journal.md#stack) has it."""
    observed: Observed | None
    """What is known of it beside; null where nothing is."""


@dataclass(frozen=True, kw_only=True)
class MadeFile(Document):
    """A file that an attempt made."""

    step: str
    """Name of the step."""
    role: str
    """The output that it fills."""
    name: str
    """Name of the file."""
    type: str
    """Its file type."""
    kept: bool
    """Whether a store or a working area has it."""
    area: str
    """The working area that it was delivered to; empty where it is in the catalogue."""
    place: str
    """Where it is, as ``store: path``; empty where it is not kept."""
    warnings: Sequence[FileWarning]
    """What those checks of its type found that hold no file back."""


@dataclass(frozen=True, kw_only=True)
class JobHistory(Document):
    """A job, and what is on record of one of its attempts."""

    campaign: str
    """Name of the campaign."""
    stage: str
    """Name of the stage."""
    unit: str
    """Name of the unit."""
    state: str
    """Its state."""
    stale: bool
    """Whether it would get other inputs now."""
    data_id: Mapping[str, str | int]
    """The dimensions of its unit."""
    attempts: Sequence[Attempt]
    """Its attempts, in their order."""
    shown: Attempt | None
    """The one that the rest tells of: that which was asked for, else its result, else its last."""
    inputs: Sequence[ChosenInput]
    """What that was to read."""
    executions: Sequence[Execution]
    """What ran."""
    made: Sequence[MadeFile]
    """What it made."""
