"""The flow that brings home what other sites made for this one; a deployment runs it on a schedule."""

from __future__ import annotations

import time

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_logger
from prefect.states import Completed, Failed

from flows.hosting.naming import at_its_time
from flows.hosting.own_site import REFUSED, own_site
from nightmill.errors import RequestRefused
from nightmill.operations.acts import current_user
from nightmill.operations.patience import Patience
from nightmill.operations.site import open_site
from nightmill.operations.transport.home import BRING_HOME, bring_home

MOST_SECONDS = 300.0
"""After so long no further file is begun, for other services wait: the next run goes on."""
PATIENCE_SECONDS = 300.0
"""A run that waits for the database gives way to the next, which begins after a quarter of an hour."""


@flow(name=BRING_HOME, flow_run_name=at_its_time(BRING_HOME), persist_result=False, validate_parameters=False)
def bring_home_(site: str) -> State[None]:
    """Fetch the results of campaigns of other sites that name this site as their home, each file once."""
    patience = Patience(BRING_HOME, PATIENCE_SECONDS, get_logger("nightmill").warning)
    try:
        with open_site(own_site(site), need_types=False, patience=patience) as opened:
            if not opened.config.partners:
                return Completed(message="the site has no partners")
            until = time.monotonic() + MOST_SECONDS
            found = bring_home(opened, who=current_user(), stopping=lambda: time.monotonic() > until)
    except RequestRefused as refused:
        return Failed(name=REFUSED, message=str(refused))
    files, size = sum(each.files for each in found), sum(each.size_bytes for each in found)
    told = f"{files} files came home, {size / 1e6:,.1f} MB"
    if failed := {name: why for each in found for name, why in each.failed.items()}:
        name, why = next(iter(failed.items()))
        return Failed(message=f"{told}; {len(failed)} did not: {name}: {why}")
    return Completed(message=told)
