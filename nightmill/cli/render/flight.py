"""What ``nightmill doctor --flight`` adds: each part of a site, and of its engines, tried by a tiny job."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from nightmill.cli.documents.sites import Finding
from nightmill.cli.render.output import print_table, working
from nightmill.errors import NightmillError
from nightmill.execution.probing import tried
from nightmill.model.dispatch import Tried
from nightmill.operations.flight import begin, clean
from nightmill.operations.flight.engines import engines_to_try, fly
from nightmill.operations.site import Site, open_site


def flown(directory: Path | None, engines: Sequence[str], wait_seconds: float) -> Iterator[Finding]:
    """Yield what becomes of each part of a site, as it is tried, and whether nothing is left of the check.

    Parameters
    ----------
    engines
        Names of those to try as well.
    wait_seconds
        How long each of these may take.
    """
    try:
        site = open_site(directory, need_types=False)
    except NightmillError as error:
        yield _failed("flight", error)
        return
    with site:
        yield _tried("flight before", lambda: _cleaned(site))
        try:
            wanted = engines_to_try(site, engines)
            check = begin(site)
        except NightmillError as error:
            yield _failed("flight", error)
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
        for setting in wanted:
            try:
                with working(f"Trying engine {setting.name}"):
                    all_found = list(fly(site, setting, wait_seconds=wait_seconds))
            except NightmillError as error:
                yield _failed(f"engine {setting.name}", error)
                continue
            for each in all_found:
                what = f"engine {each.engine}, {each.place}: {each.tried.part}"
                yield _finding(what, each.tried, engine=each.engine, place=each.place)


def print_places(findings: Sequence[Finding]) -> None:
    """Print a table of how each part is at each place of engines; nothing where none was tried."""
    flown = [(each.engine, each.place, each.what.rpartition(": ")[2], each.well) for each in findings if each.place]
    parts = [*dict.fromkeys(part for _engine, _place, part, _well in flown)]
    places: dict[tuple[str, str], dict[str, str]] = {}
    for engine, place, part, well in flown:
        places.setdefault((engine, place), {})[part] = "well" if well else "WRONG"
    if places:
        rows = [(*of, *(seen.get(part, "-") for part in parts)) for of, seen in places.items()]
        print_table(["engine", "place", *parts], rows)


def _failed(what: str, error: NightmillError) -> Finding:
    return Finding(what, False, f"it cannot be made: {error}", remedy=error.remedy)


def _cleaned(site: Site) -> str:
    names = clean(site)
    return f"removed what killed checks left: {', '.join(names)}" if names else "no check before left anything"


def _prefect(site: Site) -> str:
    from flows.hosting.flight import carried_out

    return carried_out(site)


def _tried(what: str, part: Callable[[], str]) -> Finding:
    return _finding(what, tried(what, part))


def _finding(what: str, found: Tried, *, engine: str = "", place: str = "") -> Finding:
    return Finding(
        what, found.well, found.seen, remedy=found.remedy, wall_seconds=found.wall_seconds, engine=engine, place=place
    )
