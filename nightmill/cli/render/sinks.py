"""How the sinks of log lines are, for people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from nightmill.cli.documents.sites import Finding
from nightmill.cli.render.output import text
from nightmill.operations.log_shipping.shipping import Backlog, backlog
from nightmill.planning.problems import counted

if TYPE_CHECKING:
    from nightmill.config.site import SiteConfig


def log_sinks(config: SiteConfig) -> Iterator[Finding]:
    """Find what waits for each sink of a site, and whether this process can read the authorities that it trusts."""
    for name, sink in config.logs.sinks.items():
        try:
            if sink.ca:
                Path(sink.ca).open("rb").close()
        except OSError as error:
            yield Finding(f"log sink {name}", False, f"its ca {sink.ca} cannot be read: {error.strerror}")
    for each in backlog(config):
        yield Finding(f"log sink {each.sink}", not (each.trouble or each.refused), standing(each))


def standing(backlog: Backlog) -> str:
    """Say how a sink is."""
    told = "it has every other line" if backlog.refused else "it has every line"
    if backlog.size_bytes:
        from rich.filesize import decimal

        since = f", the first of {text(backlog.oldest)}" if backlog.oldest else ""
        told = f"{decimal(backlog.size_bytes)} of lines wait{since}"
    if backlog.trouble:
        told += f"; it is away since {text(backlog.since)}: {backlog.trouble}"
    if backlog.refused:
        told += f"; it refused {counted(backlog.refused, 'line')}, set aside in logs/refused of the spool"
    return told
