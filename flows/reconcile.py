"""The flow that makes the states of Prefect agree with the backbone; a deployment runs it on a schedule."""

from __future__ import annotations

from dataclasses import asdict

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from flows.hosting.api import PrefectApi
from flows.hosting.naming import at_its_time
from flows.hosting.own_site import REFUSED, own_site
from flows.hosting.reconcile import Correction, reconcile_site
from nightmill.backbone.work.conducting import unfinished_campaigns
from nightmill.errors import RequestRefused
from nightmill.operations.drain import drain
from nightmill.operations.notify import await_told, notify
from nightmill.operations.patience import Patience
from nightmill.operations.site import open_site

PATIENCE_SECONDS = 300.0
"""A run that waits for the database gives way to the next, which begins after a quarter of an hour."""


@flow(name="reconcile", flow_run_name=at_its_time("reconcile"), persist_result=False, validate_parameters=False)
def reconcile(site: str) -> State[None]:
    """Drain the spool, and give every flow run the state that the backbone says it has."""
    try:
        directory = own_site(site)
    except RequestRefused as refused:
        return Failed(name=REFUSED, message=str(refused))
    patience = Patience("reconcile", PATIENCE_SECONDS, get_run_logger().warning)
    with PrefectApi.of_flow() as api, open_site(directory, need_types=False, patience=patience) as opened:

        def once() -> list[Correction]:
            drain(opened, patience_seconds=30.0)
            return reconcile_site(opened, api)

        corrections = opened.patiently(once)
        with opened.database.reading() as session:
            names = unfinished_campaigns(session) if opened.config.notify else []
        for name in names:
            await_told(notify(opened, name, warn=get_run_logger().warning))
    if corrections:
        create_table_artifact(
            table=[asdict(each) for each in corrections],
            key="reconciled",
            description="Flow runs whose state was corrected",
        )
    return Completed(message=f"{len(corrections)} states corrected")
