"""The software that steps ran with, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

from nightmill.cli.documents import told
from nightmill.cli.documents.software import Compared, Regressed, SoftwareInUse, StepSoftware
from nightmill.cli.render.output import echo, print_json, print_table, text

if TYPE_CHECKING:
    from nightmill.operations.regress import Regression
    from nightmill.operations.software import Side, StackInUse, StepComparison

DIGITS: Final = 12
"""Of a digest, where people read it."""


def show_in_use(found: Sequence[StackInUse], *, as_json: bool) -> None:
    """Print a line for each stack."""
    if as_json:
        print_json([told(SoftwareInUse, each, software=each.stack.bare_sha256, known=each.is_known) for each in found])
        return
    known = {None: "", True: "yes", False: "failed"}
    print_table(
        ("software", "known", "executions", "first at", "last at", "hosts", "campaigns", "what it is", "differs on"),
        (
            (
                each.stack.bare_sha256[:DIGITS],
                known[each.is_known],
                each.executions,
                each.first_at,
                each.last_at,
                ", ".join(each.hosts),
                ", ".join(each.campaigns),
                _runs(each),
                "; ".join(f"{host} ({sections})" for host, sections in each.odd_hosts.items()),
            )
            for each in found
        ),
    )


def _runs(each: StackInUse) -> str:
    """Say in a few words what a stack is there for."""
    stack = each.stack.stack
    if "image" in stack.container:
        return stack.container["image"].partition("@")[0]
    if "version" in stack.interpreter:
        return f"python {stack.interpreter['version']}"
    return ", ".join(name.rpartition("/")[2] for name in stack.programs if name.startswith("/"))


def show_comparison(before: Side, after: Side, found: Sequence[StepComparison], *, as_json: bool) -> None:
    """Print in what the software of two things differs."""
    same = all(each.same for each in found)
    if as_json:
        steps = [
            told(
                StepSoftware,
                each,
                before=each.before.sha256 if each.before is not None else None,
                after=each.after.sha256 if each.after is not None else None,
            )
            for each in found
        ]
        print_json(Compared(same=same, before=before.what, after=after.what, software=steps))
        return
    echo(f"before: {before.what}")
    echo(f"after:  {after.what}")
    if same:
        echo("the software is the same")
        return
    for each in found:
        step = f"step {each.step}" if each.step else "software"
        if each.before is None or each.after is None:
            echo(f"{step}: {'added' if each.before is None else 'gone'}")
        else:
            echo(f"{step}: {'' if each.changes else 'the same'}".rstrip())
        for line in _in_short(each):
            echo(f"  {line}")


def _in_short(step: StepComparison) -> Iterator[str]:
    """Yield the changes of a step; of a section that one side has nothing of, how many there are."""
    for section, changes in groupby(step.changes, key=lambda change: change.section):
        of_section = list(changes)
        only = {change.before is None for change in of_section} if len(of_section) > 1 else set()
        stacks = (step.before, step.after)
        if len(only) == 1 and any(stack is not None and not stack.stack.sections.get(section) for stack in stacks):
            side = "the later" if only == {True} else "the earlier"
            yield f"{section}: {len(of_section):,}, known of {side} alone; --json names them"
        else:
            yield from map(str, of_section)


def show_regression(found: Regression) -> None:
    """Print how a reference came out, for people."""
    stacks = ", ".join(dict.fromkeys(stack.bare_sha256[:DIGITS] for stack in found.stacks.values()))
    with_it = f" with software {stacks}" if stacks else ""
    echo(f"{found.reference}: {'passed' if found.passed else 'FAILED'}{with_it} on host {found.host}")
    for line in found.differences:
        echo(f"  {text(line)}")


def print_regressions(found: Sequence[Regression]) -> None:
    """Print how references came out, for programs."""
    print_json(
        [
            told(
                Regressed,
                each,
                reference=str(each.reference),
                software={step: stack.bare_sha256 for step, stack in each.stacks.items()},
            )
            for each in found
        ]
    )
