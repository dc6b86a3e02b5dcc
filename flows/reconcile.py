"""The flow that makes the states of Prefect agree with the backbone; a deployment runs it on a schedule."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.api import PrefectApi
from flows.reconciliation import reconcile_site
from tasks.site import open_site
from tasks.spool import drain


@flow(name="reconcile", flow_run_name="reconcile", persist_result=False, validate_parameters=False)
def reconcile(site: str) -> State[None]:
    """Drain the spool, and give every flow run the state that the backbone says it has."""
    with PrefectApi.of_flow() as api, open_site(Path(site), need_types=False) as opened:
        drain(opened)
        corrections = reconcile_site(opened, api)
    if corrections:
        create_table_artifact(
            table=[asdict(each) for each in corrections],
            key="reconciled",
            description="Flow runs whose state was corrected",
        )
    return Completed(message=f"{len(corrections)} states corrected")
