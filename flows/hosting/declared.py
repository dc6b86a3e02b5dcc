"""What ``deployments/prefect.yaml`` declares. Nothing here imports Prefect."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict


class _Declared(BaseModel):
    """A part of prefect.yaml; keys that only ``prefect deploy`` reads are left to it."""

    model_config = ConfigDict(frozen=True)


class WorkPoolSpec(_Declared):
    """Where a deployment's runs are queued."""

    name: str
    work_queue_name: str


class ScheduleSpec(_Declared):
    """When runs of a deployment are made."""

    interval: float
    """Seconds."""
    slug: str


class DeploymentSpec(_Declared):
    """One deployment."""

    name: str
    entrypoint: str
    description: str = ""
    tags: tuple[str, ...] = ()
    """Of its flow runs."""
    parameters: Mapping[str, str] = {}
    work_pool: WorkPoolSpec
    schedules: tuple[ScheduleSpec, ...] = ()

    @property
    def module(self) -> str:
        """The module that holds its flow."""
        return self.entrypoint.rpartition(".")[0]


class Definitions(_Declared):
    """The part of prefect.yaml that Prefect leaves to its user."""

    work_queues: Mapping[str, int]
    """Flow runs at a time in each queue."""


class DeploymentsFile(_Declared):
    """The content of a prefect.yaml."""

    definitions: Definitions
    deployments: tuple[DeploymentSpec, ...]

    @property
    def pools(self) -> set[str]:
        """The work pools that are named."""
        return {deployment.work_pool.name for deployment in self.deployments}


def load_deployments(file: Path | None = None) -> DeploymentsFile:
    """Read a prefect.yaml; by default the one that is installed with nightmill."""
    source = file or resources.files("deployments").joinpath("prefect.yaml")
    return DeploymentsFile.model_validate(yaml.safe_load(source.read_text(encoding="utf-8")))
