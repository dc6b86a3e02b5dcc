"""How flow runs of a campaign end that its operators have paused or cancelled."""

from __future__ import annotations

from typing import NoReturn

from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.states import Cancelled, Paused

from flows.hosting.api import PrefectApi, paused
from nightmill.backbone.work.steering import Steering, steering_of
from nightmill.model.states import Course
from nightmill.operations.site import Site


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


def _pause(site: Site, api: PrefectApi, flow_run_id: str, campaign_id: int, told: str) -> NoReturn:
    api.set_state(flow_run_id, paused(told))

    def look() -> Steering:
        with site.database.reading() as session:
            return steering_of(session, campaign_id)

    now = site.patiently(look)
    if not now.halts:  # whoever resumed it a moment ago has still seen the run under way
        api.schedule(flow_run_id, f"its campaign is {now}")
    raise Pause(state=Paused(message=told))
