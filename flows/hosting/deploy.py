"""Deploys what ``deployments/prefect.yaml`` declares into a Prefect server, as ``prefect deploy --all`` would."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from uuid import UUID

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.exceptions import ObjectAlreadyExists
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema
from pydantic import BaseModel, ConfigDict

SCHEDULE_ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)
"""Schedules count from here, so that deploying again does not move them."""


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


def deploy(
    client: SyncPrefectClient, declared: DeploymentsFile, *, site: Path, limits: Mapping[str, int]
) -> dict[UUID, str]:
    """Create the work pools, queues and deployments, or bring them up to date; doing it twice changes nothing.

    Parameters
    ----------
    site
        The site's folder: the value of each deployment's parameter ``site``.
    limits
        Flow runs at a time in each queue.

    Returns
    -------
    dict
        The entry point of each deployment, by its ID.

    Raises
    ------
    httpx.HTTPError
        Where the server is away.
    prefect.exceptions.MissingFlowError, ImportError
        Where an entry point names no flow.
    """
    for pool in declared.pools:
        with suppress(ObjectAlreadyExists):
            made = client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
            # the queue `default`, which each pool has for ever, takes the name of one that is used
            client.update_work_queue(made.default_queue_id, name=next(iter(limits)))
        for queue, limit in limits.items():
            _set_queue(client, pool, queue, limit)
    made_deployments: dict[UUID, str] = {}
    for spec in declared.deployments:
        flow: Flow[..., object] = load_flow_from_entrypoint(spec.entrypoint, use_placeholder_flow=False)
        deployment_id = client.create_deployment(
            client.create_flow(flow),
            spec.name,
            entrypoint=spec.entrypoint,
            description=spec.description,
            tags=list(spec.tags),
            parameters={**spec.parameters, **({"site": str(site)} if "site" in spec.parameters else {})},
            parameter_openapi_schema=parameter_schema(flow).model_dump_for_openapi(),
            enforce_parameter_schema=True,
            work_pool_name=spec.work_pool.name,
            work_queue_name=spec.work_pool.work_queue_name,
            schedules=[
                DeploymentScheduleCreate(
                    schedule=IntervalSchedule(
                        interval=timedelta(seconds=schedule.interval), anchor_date=SCHEDULE_ANCHOR
                    ),
                    slug=schedule.slug,
                )
                for schedule in spec.schedules
            ],
            pull_steps=[],
        )
        made_deployments[deployment_id] = spec.entrypoint
    return made_deployments


def _set_queue(client: SyncPrefectClient, pool: str, queue: str, limit: int) -> None:
    try:
        client.create_work_queue(queue, work_pool_name=pool, concurrency_limit=limit)
    except ObjectAlreadyExists:
        known = client.read_work_queue_by_name(queue, work_pool_name=pool)
        client.update_work_queue(known.id, concurrency_limit=limit)
