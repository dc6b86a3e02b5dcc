"""Deploys what ``deployments/prefect.yaml`` declares into a Prefect server, as ``prefect deploy --all`` would."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.exceptions import ObjectAlreadyExists
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from flows.hosting.declared import DeploymentsFile
from nightmill import __version__

SCHEDULE_ANCHOR = datetime(2026, 1, 1, tzinfo=UTC)
"""Schedules count from here, so that deploying again does not move them."""


def deploy(
    client: SyncPrefectClient, declared: DeploymentsFile, *, site: Path, limits: Mapping[str, int | None]
) -> dict[UUID, str]:
    """Create the work pools, queues and deployments, or bring them up to date; doing it twice changes nothing.

    Parameters
    ----------
    site
        The site's folder: the value of each deployment's parameter ``site``.
    limits
        Flow runs at a time in each queue, all workers of the pool together; None for as many as they have places.

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
            version=__version__,  # workers of other hosts see by it whether they are of the same
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


def _set_queue(client: SyncPrefectClient, pool: str, queue: str, limit: int | None) -> None:
    try:
        client.create_work_queue(queue, work_pool_name=pool, concurrency_limit=limit)
    except ObjectAlreadyExists:
        known = client.read_work_queue_by_name(queue, work_pool_name=pool)
        client.update_work_queue(known.id, concurrency_limit=limit)
