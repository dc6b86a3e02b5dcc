"""Names of flow runs that nobody asked for, in place of those that Prefect makes up."""

from __future__ import annotations

from collections.abc import Callable

from prefect.runtime import flow_run


def at_its_time(name: str) -> Callable[[], str]:
    """Return what names a run of a schedule by its time in UTC, as ``reconcile 2026-01-10 03:15``."""

    def run_name() -> str:
        return f"{name} {flow_run.get_scheduled_start_time():%Y-%m-%d %H:%M}"

    return run_name
