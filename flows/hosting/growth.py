"""What a site's server lets grow, and how long it is kept: logs, and the flow runs in Prefect's own database.

Nothing here imports Prefect.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flows.hosting import runners, service
from flows.hosting.daemon import Daemon
from nightmill.config.site import RetentionConfig


def prefect_settings(retention: RetentionConfig) -> Mapping[str, str]:
    """Return the settings by which a Prefect server removes flow runs that ended, with all that belongs to them."""
    if retention.flow_runs_days is None:
        return {"PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events"}
    return {
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(retention.flow_runs_days * 86_400),
    }


def daemons(site: Path) -> list[Daemon]:
    """Return the background processes that a site may have, or have had, on whatever host."""
    return [*(Daemon(service.folder_of(site), name) for name in ("server", "runner")), *runners.daemons(site)]


def cut_logs(site: Path, retention: RetentionConfig, *, now: datetime, dry_run: bool = False) -> list[Path]:
    """Set aside what has grown large of the logs of a server and its runners, and remove what was set aside long ago.

    Returns
    -------
    list
        The logs that were removed, or would be.
    """
    removed = []
    for daemon in daemons(site):
        if retention.logs_days is not None and daemon.old_log.exists():
            age = now - datetime.fromtimestamp(daemon.old_log.stat().st_mtime, UTC)
            if age > timedelta(days=retention.logs_days):
                removed.append(daemon.old_log)
                if not dry_run:
                    daemon.old_log.unlink(missing_ok=True)
        if not dry_run:
            daemon.cut_log()
    return removed
