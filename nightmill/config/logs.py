"""What becomes of the logs of a site, as its nightmill.yaml says."""

from __future__ import annotations

from pathlib import Path

from nightmill.config.stores import home_of
from nightmill.model.logs import LogsConfig


def logs_of(logs: LogsConfig, folder: Path) -> LogsConfig:
    """Return what a site says of logs, with the paths of its files absolute."""
    sinks = {
        name: sink.model_copy(update={"ca": str(folder / home_of(sink.ca))}) if sink.ca else sink
        for name, sink in logs.sinks.items()
    }
    return logs.model_copy(update={"sinks": sinks})
