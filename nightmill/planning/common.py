"""What is sealed: the part of a plan that all jobs of a stage share, and what differs from job to job."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from pydantic import Field

from nightmill.model.base import Frozen
from nightmill.model.file_type import FileType
from nightmill.model.order import DimensionValue
from nightmill.model.pipeline import Parameter, Stage
from nightmill.model.store import Store


class StageCommon(Frozen):
    """What all jobs of a stage share: sealed once, with it every order can be rendered."""

    version: Literal[1] = 1
    campaign: str
    number: int
    """Of the campaign, as it stands in names."""
    pipeline: str
    pipeline_version: str
    pipeline_dir: str
    parameters: Mapping[str, Parameter]
    stage: Stage
    stores: Mapping[str, Store]
    file_types: Mapping[str, FileType]
    """The types of the stage's outputs."""
    log_store: str
    rules: tuple[str, ...] = ()
    """Why files were chosen, in words; the jobs' inputs refer to them by their place."""
    origins: Mapping[str, str] = Field(default_factory=dict)
    """Input role to the configuration layer that set its rule."""


class JobDetail(Frozen):
    """What differs from job to job."""

    number: int
    """Of the job in its stage, from 0."""
    data_id: Mapping[str, DimensionValue]
    begins_at: datetime | None = None
    ends_at: datetime | None = None
    inputs: Mapping[str, tuple[int, tuple[int, ...]]]
    """Role to the place of its rule in the common part, and the catalogue's IDs of its files."""

    @property
    def file_ids(self) -> list[int]:
        """The IDs of its files, each once."""
        return list(dict.fromkeys(id_ for _rule, ids in self.inputs.values() for id_ in ids))
