"""What ``nightmill plan`` and ``nightmill plans`` print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nightmill.cli.documents import Document
from nightmill.cli.documents.units import LeftOutUnit


@dataclass(frozen=True, kw_only=True)
class SavedPlan(Document):
    """A plan that was kept, to be submitted as it was seen."""

    digest: str
    """Its digest, by which it is submitted."""
    campaign: str
    """Name of its campaign."""
    number: int
    """What stands in the names of the campaign's files."""
    at: datetime
    """When it was saved."""
    who: str
    """Who saved it."""
    submitted: bool
    """Whether the campaign is on record with that number."""
    size_bytes: int | None
    """Of its lines in the spool; null where they are missing."""


@dataclass(frozen=True, kw_only=True)
class SaidValue(Document):
    """What a layer of the configuration says of a key."""

    key: str
    """As ``--set`` writes it."""
    layer: str
    """The layer, with file and line."""
    value: Any
    """The value."""
    counts: bool
    """Whether it is the value that counts."""


@dataclass(frozen=True, kw_only=True)
class PlannedFile(Document):
    """A file that a job would read."""

    name: str
    """Its name."""
    id: int | None
    """Its number in the database; null where a stage before is yet to make it."""
    excluded: Sequence[str]
    """Parts of it that must not be used."""


@dataclass(frozen=True, kw_only=True)
class PlannedInput(Document):
    """What would fill an input of a job."""

    rule: str
    """What chose the files."""
    level: int | None
    """Of the lookup that did, where it has one."""
    origin: str
    """The configuration layer that set the rule."""
    files: Sequence[PlannedFile]
    """The files."""


@dataclass(frozen=True, kw_only=True)
class PlannedOutput(Document):
    """A name that a job may use."""

    name: str
    """Name of the file, with fields for what it tells itself when it is made."""
    type: str
    """Its file type."""
    step: str
    """The step that makes it; empty for the log."""
    role: str
    """The output that it fills."""
    to: str
    """The store or working area, or ``known, not kept``."""


@dataclass(frozen=True, kw_only=True)
class PlannedJob(Document):
    """One unit of a stage."""

    unit: str
    """Its name."""
    data_id: Mapping[str, str | int]
    """Its dimensions."""
    begins_at: datetime | None
    """When the first of its files begins."""
    ends_at: datetime | None
    """When the last of its files ends."""
    inputs: Mapping[str, PlannedInput]
    """What it would read, by role."""
    outputs: Sequence[PlannedOutput]
    """What it would make."""
    units: str
    """The units of which the campaign says something else, as ``exposure=12``, where it is one of them; else empty."""


@dataclass(frozen=True, kw_only=True)
class ExcludedFiles(Document):
    """What one rule leaves out of one input."""

    role: str
    """The input."""
    place: str
    """Where the rule stands: ``exclusion 3``, or the place in the campaign file."""
    number: int
    """Of the exclusion in the catalogue; 0 for a rule of the campaign itself."""
    rule: str
    """What was typed for it."""
    part: str
    """The part of each file that it is about; empty for the whole file."""
    up_to: str
    """The stage after which it holds; empty for every stage."""
    who: str
    """Who excluded them; empty for a rule of the campaign itself."""
    why: str
    """Why, in words."""
    files: int
    """How many files it is about."""
    names: Sequence[str]
    """The first of them."""
    units: int
    """How many units are not there for it."""
    unit_names: Sequence[str]
    """The first of them."""


@dataclass(frozen=True, kw_only=True)
class PlannedStage(Document):
    """A stage of a plan."""

    stage: str
    """Its name."""
    projected: bool
    """Whether it is planned from what stages before are expected to make."""
    known_after: str
    """The stage that must end before its jobs are known; empty where they are known."""
    watermark: int
    """The highest number of a file that the plan could see."""
    left_out: Sequence[LeftOutUnit]
    """Units that it leaves out, since an input lacks files."""
    excluded: Sequence[ExcludedFiles]
    """What exclusions leave out of its inputs."""
    waiting: Sequence[str]
    """What further units lack that a stage before may yet make."""
    jobs: Sequence[PlannedJob]
    """Its jobs."""


@dataclass(frozen=True, kw_only=True)
class StageCost(Document):
    """What a stage would cost."""

    stage: str
    """Its name."""
    results: int
    """How many results of it were measured; 0 where it never ran."""
    at_once: int
    """Jobs that this host carries out at a time."""
    cpu_seconds: float | None
    """Of all its jobs; null where it never ran, or its jobs are not known yet."""
    wall_seconds: float | None
    """From its beginning to its end, on this host alone; null as well."""


@dataclass(frozen=True, kw_only=True)
class PlanCost(Document):
    """What a plan would cost, by the median of what results of its stages cost."""

    cpu_seconds: float | None
    """Of all stages; null where that of one is not known."""
    wall_seconds: float | None
    """The stages one after the other, on this host alone; null as well."""
    ends_at: datetime | None
    """When it would end, if it began now."""
    stages: Sequence[StageCost]
    """Of each stage."""


@dataclass(frozen=True, kw_only=True)
class FilesToShip(Document):
    """Files that only another site has, and that come from there before the jobs begin that need them."""

    store: str
    """Where they come from, as SITE:STORE."""
    into: str
    """The store of this site that they are put into."""
    files: int
    """How many."""
    size_bytes: int
    """Their size."""


@dataclass(frozen=True, kw_only=True)
class Plan(Document):
    """What a campaign would do."""

    campaign: str
    """Name of the campaign."""
    number: int
    """Its number, as names of files have it."""
    as_of: datetime | None
    """The time whose catalogue it is planned from; null for now."""
    pipeline: str
    """Name of its pipeline."""
    pipeline_version: str
    """Version of the pipeline."""
    digest: str | None
    """Of the plan; null where it has problems."""
    later: Sequence[str]
    """Stages that are planned in their turn: the digest covers their rules, and what is foreseen of them."""
    cost: PlanCost
    """What it would cost."""
    to_ship: Sequence[FilesToShip]
    """What comes from other sites first."""
    problems: Sequence[str]
    """Why it cannot be carried out; none where it can."""
    stages: Sequence[PlannedStage]
    """Its stages, in their order."""
