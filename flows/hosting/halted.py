"""How flow runs of a campaign end that its operators have paused or cancelled."""

from __future__ import annotations

from typing import Final, NoReturn

from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.states import Cancelled, Paused

from flows.hosting.api import PrefectApi, paused, scheduled
from nightmill.backbone.work.steering import Steering, steering_of
from nightmill.model.states import Course
from nightmill.operations.site import Site

AWAITING_HOST: Final = "AwaitingHost"
"""Name of the state of a slice whose campaign may not use the host that took it."""
ELSEWHERE_SECONDS: Final = 60.0
"""How long such a slice is left alone: it may be the same host that takes it again, and that costs seconds of it."""


def end_halted(site: Site, api: PrefectApi, flow_run_id: str, campaign_id: int, steering: Steering) -> State[None]:
    """Return the state of a flow run whose campaign is cancelled; end it as Paused where that is paused.

    Raises
    ------
    prefect.exceptions.Pause
        Where it is paused: Prefect's engine leaves the run the state that it has got.
    """
    told = f"its campaign is {steering}"
    if steering.course is Course.CANCELLED:
        return Cancelled(message=told)
    _pause(site, api, flow_run_id, campaign_id, told)


def leave_to_another_host(api: PrefectApi, flow_run_id: str, barred: str) -> NoReturn:
    """Give a flow run back that may not use this host: any runner may take it in a while.

    Raises
    ------
    prefect.exceptions.Pause
        Always.
    """
    told = f"waits for a host that it may use: {barred}"
    api.set_state(flow_run_id, scheduled(told, name=AWAITING_HOST, seconds=ELSEWHERE_SECONDS))
    raise Pause(state=Paused(message=told))


def _pause(site: Site, api: PrefectApi, flow_run_id: str, campaign_id: int, told: str) -> NoReturn:
    api.set_state(flow_run_id, paused(told))

    def look() -> Steering:
        with site.database.reading() as session:
            return steering_of(session, campaign_id)

    now = site.patiently(look)
    if not now.halts:  # whoever resumed it a moment ago has still seen the run under way
        api.schedule(flow_run_id, f"its campaign is {now}")
    raise Pause(state=Paused(message=told))
