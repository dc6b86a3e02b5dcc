"""Plans as they are sealed, and one view of them, whether they were just made or are read from their rows.

Sealed are the part of a stage's plan that all its jobs share, once, and of each job what differs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from pydantic import Field
from sqlalchemy import Text, cast, select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.files import found_columns, found_files
from nightmill.backbone.schema import FileRow, JobRow, PlanRow
from nightmill.model.base import Frozen
from nightmill.model.bundle import SealedBundle
from nightmill.model.dimensions import DataId, KeyValue
from nightmill.model.file_type import FileType
from nightmill.model.found_file import FoundFile
from nightmill.model.observed import WantedLevel
from nightmill.model.pipeline import Parameter, Resources, Stage, Step
from nightmill.model.states import JobState
from nightmill.model.store import Store


class StageVariant(Frozen):
    """What is otherwise for some units of a stage."""

    units: str
    """The keys that they have, as ``exposure=12,detector=3``."""
    why: str = ""
    parameters: Mapping[str, Parameter]
    stage: Stage
    origins: Mapping[str, str]
    """Input role to the configuration layer that set its rule."""


class StageCommon(Frozen):
    """What all jobs of a stage share: sealed once, with it every order can be rendered."""

    version: Literal[1] = 1
    campaign: str
    number: int
    """Of the campaign, as it stands in names."""
    pipeline: str
    pipeline_version: str
    pipeline_dir: str
    bundle: SealedBundle | None = None
    """None where it was sealed before there were bundles: steps then see ``pipeline_dir`` itself."""
    parameters: Mapping[str, Parameter]
    stage: Stage
    stores: Mapping[str, Store]
    file_types: Mapping[str, FileType]
    """The types of the stage's outputs."""
    log_store: str
    rules: tuple[str, ...] = ()
    """Why files were chosen, in words; the jobs' inputs refer to them by their place."""
    levels: Mapping[int, int] = Field(default_factory=dict, exclude_if=lambda levels: not levels)
    """Places of rules to the levels of the lookups that chose by them, where these have one."""
    origins: Mapping[str, str] = Field(default_factory=dict)
    """Input role to the configuration layer that set its rule."""
    level: WantedLevel = Field(default="standard", exclude_if=lambda level: level == "standard")
    """How closely the steps of its jobs are watched."""
    variants: tuple[StageVariant, ...] = Field(default=(), exclude_if=lambda variants: not variants)
    """What is otherwise for some units; their jobs refer to them by their place, from 1."""

    def of(self, job: PlannedJob | JobDetail) -> StageCommon:
        """Return what counts for a job: itself, or as it is otherwise for the job's unit."""
        if not job.variant:
            return self
        variant = self.variants[job.variant - 1]
        theirs = {"parameters": variant.parameters, "stage": variant.stage, "origins": variant.origins}
        return self.model_copy(update=theirs)


class TakenFile(Frozen):
    """A file that a step made in an earlier attempt of a job, and that the next one takes instead of making it."""

    file_id: int
    role: str
    name: str
    place: int | None = None
    """Among the names that its output has; None where names are known when files are made, and it keeps its own."""
    size_bytes: int
    sha256: str
    store: str
    path: str


class Restart(Frozen):
    """Where an attempt begins, and what it takes from an earlier one of its job."""

    attempt: int
    """Number of the earlier one."""
    only: tuple[str, ...]
    """The steps that are run."""
    files: tuple[TakenFile, ...]
    """What the steps before them made: it counts as what the attempt makes does."""

    def read_by(self, step: Step) -> tuple[TakenFile, ...]:
        """Return what a step reads of them, where it is run."""
        return tuple([file for file in self.files if step.name in self.only and file.role in step.inputs])


class JobDetail(Frozen):
    """What differs from job to job."""

    number: int
    """Of the job in its stage, from 0."""
    data_id: Mapping[str, KeyValue]
    begins_at: datetime | None = None
    ends_at: datetime | None = None
    inputs: Mapping[str, tuple[int, tuple[int, ...]]]
    """Role to the place of its rule in the common part, and the catalogue's IDs of its files."""
    variant: int = 0
    """The place, from 1, of what is otherwise for its unit; 0 for nothing."""
    excluded: Mapping[int, tuple[str, ...]] = Field(default_factory=dict)
    """IDs of files to their parts that must not be used, where there are some."""
    restart: Restart | None = None
    """Where its attempts begin, if not with the first step."""

    @property
    def file_ids(self) -> list[int]:
        """The IDs of its files, each once."""
        return list(dict.fromkeys(id_ for _rule, ids in self.inputs.values() for id_ in ids))

    @property
    def read_ids(self) -> list[int]:
        """The IDs of its files, and of those that it takes from an earlier attempt."""
        return [*self.file_ids, *(file.file_id for file in self.restart.files)] if self.restart else self.file_ids


class Choice(NamedTuple):
    """The files that fill a role for a unit, and the place of the rule that chose them."""

    role: str
    rule: int
    files: tuple[FoundFile, ...]


class PlannedJob(NamedTuple):
    """One unit of a stage with the files that it will read.

    Parameters
    ----------
    unit
        Its name.
    data_id
        Its dimensions as its stage fixes them: those of its products.
    begins_at, ends_at
        The span of its unit's files, UTC.
    choices
        What fills each role.
    number
        Of the job in its stage, from 0, once it is sealed.
    variant
        The place, from 1, of what is otherwise for its unit; 0 for nothing.
    restart
        Where its attempts begin, if not with the first step.
    """

    unit: str
    data_id: DataId
    begins_at: datetime | None
    ends_at: datetime | None
    choices: tuple[Choice, ...]
    number: int = 0
    variant: int = 0
    restart: Restart | None = None


class PlannedInput(NamedTuple):
    """What fills a role of a job, why, and which layer of the configuration wanted it so."""

    role: str
    rule: str
    origin: str
    files: tuple[FoundFile, ...]
    level: int | None = None


@dataclass(frozen=True)
class StageView:
    """The plan of a stage as people and programs see it.

    Parameters
    ----------
    common
        What all its jobs share. What a job makes, :func:`nightmill.planning.outputs.claims` tells of it.
    jobs
        In the order of the plan.
    watermark
        The highest file ID that could be seen.
    """

    common: StageCommon
    jobs: Sequence[PlannedJob]
    watermark: int

    @property
    def stage(self) -> Stage:
        """The stage."""
        return self.common.stage

    def inputs(self, job: PlannedJob) -> Iterator[PlannedInput]:
        """Yield what fills each role of one of its jobs."""
        return planned_inputs(self.common, job)


def planned_inputs(common: StageCommon, job: PlannedJob) -> Iterator[PlannedInput]:
    """Yield what fills each role of a job."""
    origins = common.variants[job.variant - 1].origins if job.variant else common.origins
    for role, rule, files in job.choices:
        yield PlannedInput(role, common.rules[rule], origins[role], files, common.levels.get(rule))


def detail_of(job: PlannedJob, number: int) -> dict[str, Any]:
    """Write what differs from job to job: the JSON of a :class:`JobDetail`.

    Parameters
    ----------
    number
        Of the job in its stage, from 0.
    """
    detail: dict[str, Any] = {
        "number": number,
        "data_id": dict(job.data_id),
        "inputs": {role: [rule, [file.id for file in files]] for role, rule, files in job.choices},
    }
    if job.variant:
        detail["variant"] = job.variant
    if job.begins_at is not None:
        detail["begins_at"] = job.begins_at.isoformat()
    if job.ends_at is not None:
        detail["ends_at"] = job.ends_at.isoformat()
    if excluded := {str(file.id): list(file.excluded) for each in job.choices for file in each.files if file.excluded}:
        detail["excluded"] = excluded
    return detail


def job_of(unit: str, detail: JobDetail, files: Mapping[int, FoundFile]) -> PlannedJob:
    """Return a job as it was planned.

    Parameters
    ----------
    files
        By their IDs, those of :attr:`JobDetail.file_ids` at least.
    """
    if detail.excluded:
        files = {**files, **{id_: files[id_]._replace(excluded=parts) for id_, parts in detail.excluded.items()}}
    choices = [Choice(role, rule, tuple([files[id_] for id_ in ids])) for role, (rule, ids) in detail.inputs.items()]
    return PlannedJob(
        unit,
        detail.data_id,
        detail.begins_at,
        detail.ends_at,
        tuple(choices),
        detail.number,
        detail.variant,
        detail.restart,
    )


def resources_of(session: Session, slice_id: int) -> Resources:
    """Return what each job of a slice that is not done needs, at most."""
    query = select(JobRow.plan_id).where(JobRow.slice_id == slice_id, JobRow.state != JobState.DONE).distinct()
    plans = [common for _digest, common in commons(session, session.scalars(query).all()).values()]
    each = [stage.resources for common in plans for stage in (common.stage, *(it.stage for it in common.variants))]
    return Resources.most(each)


def commons(session: Session, plan_ids: Collection[int]) -> dict[int, tuple[str, StageCommon]]:
    """Return the digest and the common part of sealed plans, by the plans' IDs."""
    query = select(PlanRow.id, PlanRow.sha256, cast(PlanRow.common, Text)).where(among(PlanRow.id, plan_ids))
    return {id_: (digest, _read_common(text)) for id_, digest, text in session.execute(query)}


@lru_cache(maxsize=8)
def _read_common(text: str) -> StageCommon:
    return StageCommon.model_validate_json(text)


def sealed_stages(session: Session, campaign_id: int) -> Iterator[StageView]:
    """Yield the sealed plans of a campaign, in the order of its stages and their revisions.

    A file is as the catalogue knows it now, with one of the copies that it has now, or none.
    """
    of_campaign = PlanRow.campaign_id == campaign_id
    plans = session.execute(
        select(PlanRow.id, PlanRow.watermark).where(of_campaign).order_by(PlanRow.position, PlanRow.revision)
    ).all()
    for id_, watermark in plans:
        [(_digest, common)] = commons(session, [id_]).values()
        query = select(JobRow.unit, JobRow.detail).where(JobRow.plan_id == id_).order_by(JobRow.id)
        details = {unit: JobDetail.model_validate(detail) for unit, detail in session.execute(query)}
        ids = {each for detail in details.values() for each in detail.file_ids}
        wanted = found_columns(session, stored=False).where(among(FileRow.id, ids))
        files = {file.id: file for file in found_files(session, wanted)}
        yield StageView(common, tuple([job_of(unit, detail, files) for unit, detail in details.items()]), watermark)
