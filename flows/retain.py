"""The flow that applies a site's retention; a deployment runs it once a day."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.hosting.growth import cut_logs
from flows.hosting.naming import at_its_time
from flows.hosting.own_site import REFUSED, own_site
from nightmill.errors import RequestRefused
from nightmill.operations.acts import current_user
from nightmill.operations.retain import retain as retain_site
from nightmill.operations.site import open_site


@flow(name="retain", flow_run_name=at_its_time("retain"), persist_result=False, validate_parameters=False)
def retain(site: str) -> State[None]:
    """Compress and remove journals and logs by the site's retention."""
    now = datetime.now(UTC)
    try:
        with open_site(own_site(site), need_types=False) as opened:
            done = retain_site(opened, who=current_user(), now=now)
            logs = cut_logs(opened.config.directory, opened.config.retention, now=now)
    except RequestRefused as refused:
        return Failed(name=REFUSED, message=str(refused))
    kept = f", {len(done.kept)} kept for longer: {next(iter(done.kept.values()))}" if done.kept else ""
    return Completed(
        message=f"{done.compressed} journals compressed, {done.removed} removed{kept}; {len(logs)} logs removed"
    )
