"""What ``nightmill doctor --flight`` adds: each part of a site tried by a tiny job, with how long that took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from nightmill.cli.documents.sites import Finding
from nightmill.cli.render.output import working
from nightmill.errors import NightmillError
from nightmill.operations.flight import begin, clean
from nightmill.operations.site import Site, open_site


def flight(directory: Path | None) -> Iterator[Finding]:
    """Yield what becomes of each part of a site, as it is tried, and whether nothing is left of the check."""
    try:
        site = open_site(directory, need_types=False)
    except NightmillError as error:
        yield Finding("flight", False, f"it cannot be made: {error}", remedy=error.remedy)
        return
    with site:
        yield _tried("flight before", lambda: _cleaned(site))
        try:
            check = begin(site)
        except NightmillError as error:
            yield Finding("flight", False, f"it cannot be made: {error}", remedy=error.remedy)
            return
        try:
            for what, part in check.parts():
                with working(f"Trying {what}"):
                    found = _tried(f"flight {what}", part)
                yield found
            with working("Trying Prefect"):
                found = _tried("flight Prefect", lambda: _prefect(site))
            yield found
        finally:
            left = _tried("flight after", check.clear)
        yield left


def _cleaned(site: Site) -> str:
    names = clean(site)
    return f"removed what killed checks left: {', '.join(names)}" if names else "no check before left anything"


def _prefect(site: Site) -> str:
    from flows.hosting.flight import carried_out

    return carried_out(site)


def _tried(what: str, part: Callable[[], str]) -> Finding:
    begun = time.monotonic()
    try:
        well, seen, remedy = True, part(), ""
    except NightmillError as error:
        well, seen, remedy = False, str(error), error.remedy
    except OSError as error:
        remedy = "see that it is there, has room, and can be written by this user"
        well, seen = False, f"{error.filename or what}: {error.strerror or error}; {remedy}"
    return Finding(what, well, seen, remedy=remedy, wall_seconds=round(time.monotonic() - begun, 3))
