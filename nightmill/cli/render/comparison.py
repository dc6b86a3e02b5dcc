"""Comparisons of plans for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, TextIO

from nightmill.cli.documents import comparisons as documents
from nightmill.cli.documents import told
from nightmill.cli.render.output import echo, json_line, print_table, secho
from nightmill.planning.compare import Change, Comparison, StageDifference, UnitChange
from nightmill.planning.digest import PlanLines
from nightmill.planning.problems import counted

WORDS: Final = {
    Change.ADDED: "added",
    Change.DROPPED: "dropped",
    Change.INPUT: "with other inputs",
    Change.OUTPUT: "with other outputs",
    Change.RULE: "with another rule for the same files",
}
VALUES: Final = ("key", "before", "after", "said before by", "said now by")
UNITS: Final = ("stage", "unit", "change", "role", "before", "after", "why")


def print_comparison(comparison: Comparison, limit: int) -> None:
    """Print how two plans differ for people.

    Parameters
    ----------
    limit
        Units to show; 0 for all of them.
    """
    before, after = comparison.before, comparison.after
    echo(f"before: {_which(before)}\nafter:  {_which(after)}")
    if comparison.same:
        echo("\nnothing differs")
        return
    for stage in comparison.stages:
        secho(f"stage {stage.stage}: {_counted(stage)}", bold=True)
    if comparison.config:
        echo()
        print_table(
            VALUES,
            (
                (each.key, _value(each.before), _value(each.after), each.origin_before, each.origin_after)
                for each in comparison.config
            ),
        )
    shown = list(islice(comparison.changes(), limit)) if limit else comparison.changes()
    if comparison.total:
        echo()
        print_table(UNITS, map(_row, shown))
    if limit and (more := comparison.total - limit) > 0:
        echo(f"... and {counted(more, 'more change')}: --limit 0 shows all")


def write_comparison(comparison: Comparison, out: TextIO) -> None:
    """Write how two plans differ as one JSON object, a line a change; these are not held in memory."""
    head = told(
        documents.PlanComparison, comparison, before=_plan(comparison.before), after=_plan(comparison.after), units=()
    )
    out.write(json_line(head).removesuffix("]}"))
    out.writelines(_units(comparison))
    out.write("]}\n")


def _units(comparison: Comparison) -> Iterator[str]:
    for number, each in enumerate(comparison.changes()):
        yield f"{',' if number else ''}\n{json_line(told(documents.UnitChange, each))}"


def _plan(text: PlanLines) -> documents.ComparedPlan:
    return told(documents.ComparedPlan, text, campaign=text.head.campaign, number=text.head.number)


def _which(text: PlanLines) -> str:
    return f"campaign {text.head.campaign}, {text.what}"


def _counted(stage: StageDifference) -> str:
    counts = ", ".join(f"{count:,} {WORDS[change]}" for change, count in stage.counts.items())
    if stage.before is None or stage.after is None:
        known = "no units, or none that are known yet"
        units = " -> ".join(known if count is None else f"{count:,} units" for count in (stage.before, stage.after))
        return f"{units}: {counts or 'not compared'}"
    units = f"{stage.before:,} -> {stage.after:,}" if stage.before != stage.after else f"{stage.after:,}"
    return f"{units} units: {counts or 'as before'}"


def _row(change: UnitChange) -> tuple[str, ...]:
    files = change.files if change.role else ("", "")
    return (change.stage, change.unit, change.change, change.role, *files, change.why)


def _value(value: Any) -> str:
    return "" if value is None else json.dumps(value, ensure_ascii=False)
