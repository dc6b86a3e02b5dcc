"""What ``nightmill doctor --deep`` adds: everything compared with everything, each contradiction a finding."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nightmill.cli.documents.sites import Finding
from nightmill.cli.render.output import progress
from nightmill.errors import NightmillError, ServerAway
from nightmill.operations.audit import PARTS, Contradiction, Ground
from nightmill.operations.site import Site, open_site


def audited(directory: Path | None, *, checksums: bool) -> Iterator[Finding]:
    """Yield what an audit of a site finds, as it is found, and for each part that nothing more was."""
    try:
        site = open_site(directory, need_types=False)
    except NightmillError as error:
        yield Finding("audit", False, f"it cannot be made: {error}")
        return
    with site:
        for what, part in PARTS.items():
            with progress(f"Comparing {what}") as report:
                yield from _told(what, part(Ground(site, checksums, report)))
        yield from _prefect(site)


def _prefect(site: Site) -> Iterator[Finding]:
    from flows.hosting import audit

    try:
        yield from _told("flow runs", audit.find(site))
    except ServerAway as error:
        yield Finding("flow runs", True, f"Prefect was not asked: {error.message}")


def _told(what: str, found: Iterator[Contradiction]) -> Iterator[Finding]:
    count = 0
    for each in found:
        count += 1
        yield Finding(each.kind, False, str(each), each.where, each.since, each.remedy)
    if not count:
        yield Finding(what, True, "compared, no contradiction")
