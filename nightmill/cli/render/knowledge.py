"""What is known of runs of steps, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from nightmill.cli.render.output import echo, plain_line, secho
from nightmill.model.observed import DifferenceKind, Level
from nightmill.planning.problems import counted
from provenance.history import ChosenInput, Execution
from provenance.knowledge import Completeness, Observed, Warned

SHOWN: Final = 20
"""So many differences of a step are shown one by one."""


def show_observed(executions: Iterable[Execution]) -> None:
    """Print what is known of each run of a step beside what it did."""
    for run in executions:
        if (seen := run.observed) is None:
            continue
        echo(f"{run.step}: {_confined(seen)}; {_opened(seen)}; {_told(seen)}")
        for lacking in seen.lacking:
            echo(f"  not held: {lacking}")
        for path in seen.reached:
            echo(f"  tried to reach: {plain_line(path)}")
        for each in seen.differences[:SHOWN]:
            echo(f"  {each.consequence}: {plain_line(str(each))}")
        if (more := len(seen.differences) - SHOWN) > 0:
            echo(f"  ... and {more:,} more differences: --json tells all")


def show_known(known: Completeness, warnings: Sequence[Warned]) -> None:
    """Print how much is known of a campaign, and what its results warn of."""
    for each in warnings:
        secho(f"warning: {plain_line(str(each))}", fg="yellow")
    if known.runs:
        echo(f"known: {known}")


def show_warned(files: Mapping[str, int]) -> None:
    """Print of how many results of a campaign each check warns."""
    if files:
        told = ", ".join(f"{counted(count, 'file')} by check {check}" for check, count in files.items())
        secho(f"warned: {told}: nightmill find --warned tells which", fg="yellow")


def facts_of(inputs: Sequence[ChosenInput]) -> tuple[tuple[str, ...], Iterator[tuple[str, ...]]]:
    """Return columns that tell whether inputs were opened and contributed, and a row each; none where nobody knows."""
    if all(each.opened is None and each.contributed is None for each in inputs):
        return (), (() for _each in inputs)
    return ("opened", "contributed"), (
        (whether(each.opened), each.left_out or whether(each.contributed)) for each in inputs
    )


def whether(known: bool | None) -> str:
    """Write whether something happened, where that is known."""
    return "" if known is None else "yes" if known else "never"


def _confined(seen: Observed) -> str:
    if seen.level == Level.NONE:
        return "not confined"
    return f"confined ({seen.level}, by {', '.join(seen.by)})" if seen.by else f"confined ({seen.level})"


def _opened(seen: Observed) -> str:
    if not seen.witness:
        return "nobody saw what it opened"
    return f"opened {seen.opened:,} of {seen.inputs:,} inputs, as {seen.witness} saw"


def _told(seen: Observed) -> str:
    if not seen.told:
        silent = any(each.kind == DifferenceKind.SILENT for each in seen.differences)
        return "told nothing of what it used, though it may eliminate" if silent else "told nothing of what it used"
    return f"told what it used, and left out {seen.left_out:,}" if seen.left_out else "told what it used"
