"""What jobs took, for people and programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from nightmill.cli.documents import told
from nightmill.cli.documents.resources import Need
from nightmill.cli.render.output import print_json, print_table, say

if TYPE_CHECKING:
    from nightmill.operations import resources

_SHARES: Final = ("median", "95 %", "99 %", "most")
_COLUMNS: Final = ("stage, step", "of", "asked", "jobs", "cut", *_SHARES, "proposed", "short for")
_UNITS: Final = {"bytes": ("MB", 1e6), "seconds": ("s", 1.0)}


def show_needs(found: Sequence[resources.Need], *, as_json: bool) -> None:
    """Print a line for each thing that a stage asks for, or that its steps took."""
    if as_json:
        print_json([told(Need, each, step=each.step or None) for each in found])
        return
    several = len({each.pipeline for each in found}) > 1
    places = ["/".join(filter(None, (each.pipeline if several else "", each.stage, each.step))) for each in found]
    lines = list(zip(places, found, strict=True))
    print_table(_COLUMNS, (_row(place, need) for place, need in lines if need.jobs or need.cut or need.asked))
    for why in dict.fromkeys(need.why for need in found if need.why):
        where = ", ".join(dict.fromkeys(place for place, need in lines if need.why == why))
        say(f"nothing is proposed for {where}: {why} (--least)")
    if any(each.proposed is not None for each in found):
        say("with --yaml, what is proposed is printed as a file for --override")


def _row(place: str, need: resources.Need) -> tuple[object, ...]:
    what, _, unit = need.resource.partition("_")
    sign, size = _UNITS.get(unit, ("", 1.0))

    def number(value: float | None) -> str:
        return "" if value is None else f"{value / size:,.0f}" if value / size >= 100 else f"{value / size:.3g}"

    return (
        place,
        f"{what} {sign}".strip(),
        number(need.asked),
        need.jobs,
        need.cut or "",
        *map(number, (need.median, need.p95, need.p99, need.most, need.proposed)),
        need.short_for,
    )
