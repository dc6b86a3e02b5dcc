"""The page of the documentation that shows the results that were kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.figures import Figure, Result

PAGE: Final = Path(__file__).parents[1] / "docs" / "reference" / "benchmarks.md"

_HEAD: Final = """\
# Benchmarks

Each figure stands beside its floor: the least that any program must do for the same work, measured in the same run. A
ratio of 2 means twice the cost of that. Values are medians; the spread is from the least to the greatest. Trust the
ratios more than the values: these depend on the disk and on what else the machine did (its load average before each
measurement stands below; on an idle machine it is near 0).

`make bench` measures all of them here; `python -m benchmarks --write-docs` writes this page from what it found.
"""


def page(results: Sequence[Result]) -> str:
    """Write the page."""
    return "\n".join([_HEAD, *_table(results), *(part for result in results for part in _section(result))])


def line(result: Result) -> str:
    """Write a result in one line for a terminal."""
    return f"{result.name:18}{_value(result)}  (floor {result.floor:,g}, ratio {result.ratio:g}; aim: {result.aim})"


def _table(results: Sequence[Result]) -> list[str]:
    rows = ["| benchmark | value | floor | ratio | aim |", "| --- | --- | --- | --- | --- |"]
    for result in results:
        name = f"[`{result.name}`](#{result.name})"
        rows.append(f"| {name} | {_value(result)} | {result.floor:,g} | {result.ratio:g} | {result.aim} |")
    return [*rows, ""]


def _section(result: Result) -> list[str]:
    parts = [f"## {result.name}", "", f"{_sentence(result.compared)} Measured over {result.size}.", ""]
    if result.also:
        parts += ["| | value | floor | ratio | spread |", "| --- | --- | --- | --- | --- |"]
        parts += [_row("as above", result), *(_row(name, figure) for name, figure in result.also.items()), ""]
    else:
        parts += [f"Spread: {_spread(result)} {result.unit}.", ""]
    facts = [*result.extra.items(), *result.counts.items()]
    if facts:
        parts += ["| | |", "| --- | --- |", *(f"| `{name}` | {value:,g} |" for name, value in facts), ""]
    if result.parts:
        parts += ["Where its CPU time goes, as far as it can be told apart:", ""]
        parts += ["| part | ms per job | share |", "| --- | --- | --- |", *_shares(result.parts), ""]
    measured = f"`{result.command}` on {result.measured_at:%Y-%m-%d}; {result.machine}"
    parts += [f"{measured}; load average before: {result.load_before:g}.", ""]
    return parts


def _shares(spent: Mapping[str, float]) -> Iterator[str]:
    """Yield a row a part, the greatest first."""
    whole = sum(spent.values())
    for part, value in sorted(spent.items(), key=lambda each: -each[1]):
        yield f"| {part} | {value:.2f} | {value / whole:.0%} |"
    yield f"| together | {whole:.2f} | 100% |"


def _row(name: str, figure: Figure) -> str:
    return f"| {name} | {figure.value:,g} | {figure.floor:,g} | {figure.ratio:g} | {_spread(figure)} |"


def _value(result: Result) -> str:
    return f"{result.value:,g} {result.unit}"


def _spread(figure: Figure) -> str:
    return f"{figure.spread[0]:,g} to {figure.spread[1]:,g}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
