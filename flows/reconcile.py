"""The flow that makes the states of Prefect agree with the backbone; a deployment runs it on a schedule."""

from __future__ import annotations

from dataclasses import asdict

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.api import PrefectApi
from flows.own_site import REFUSED, own_site
from flows.reconciliation import reconcile_site
from nightmill.errors import RequestRefused
from tasks.site import open_site
from tasks.spool import drain


@flow(name="reconcile", flow_run_name="reconcile", persist_result=False, validate_parameters=False)
def reconcile(site: str) -> State[None]:
    """Drain the spool, and give every flow run the state that the backbone says it has."""
    try:
        directory = own_site(site)
    except RequestRefused as refused:
        return Failed(name=REFUSED, message=str(refused))
    with PrefectApi.of_flow() as api, open_site(directory, need_types=False) as opened:
        drain(opened)
        corrections = reconcile_site(opened, api)
    if corrections:
        create_table_artifact(
            table=[asdict(each) for each in corrections],
            key="reconciled",
            description="Flow runs whose state was corrected",
        )
    return Completed(message=f"{len(corrections)} states corrected")
