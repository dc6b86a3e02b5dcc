"""Differences between what was planned for a step, what a witness saw it open, what it made and what it told."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from nightmill.errors import JobFailed
from nightmill.execution.evidence import on_one_line
from nightmill.execution.sidecar.uses import Uses
from nightmill.model.fate import Fate
from nightmill.model.index import StepIndex
from nightmill.model.observed import DEFAULT_POLICIES, Consequence, Difference, DifferenceKind
from nightmill.model.order import OrderStep

MOST_EXTRA: Final = 50
"""Files that no output declares, of which each has a difference of its own."""
_SAID: Final = {
    DifferenceKind.NEVER_READ: "did not open {name}, which is there for it",
    DifferenceKind.NOT_PLANNED: "opened {name}, which is not an input of it",
    DifferenceKind.MISSING: "did not make {name}",
    DifferenceKind.EXTRA: "made {name}, which no output declares",
    DifferenceKind.ELIMINATED: "left {name} out: {detail}",
    DifferenceKind.SILENT: "may eliminate inputs, and did not tell what it used",
    DifferenceKind.LIED: "tells that it used {name}, and did not open it ({detail})",
    DifferenceKind.MISRESOLVED: "resolved a data ID otherwise than the plan: {detail}",
}
_FATES: Final = {DifferenceKind.NOT_PLANNED: Fate.UNSTAGED_INPUT, DifferenceKind.MISSING: Fate.MISSING_OUTPUT}
"""With which an attempt fails for them; for the others the step made a bad output."""


@dataclass(frozen=True)
class Produced:
    """What a step made."""

    roles: Collection[str]
    """Of outputs of which at least one file is there."""
    extra: Sequence[str]
    """Names of files that no output declares."""


def differences(
    step: OrderStep, index: StepIndex, opened: Collection[str] | None, uses: Uses, produced: Produced | None
) -> tuple[Difference, ...]:
    """Return the differences of a step, each with what follows from it.

    Parameters
    ----------
    opened
        The names of the files that the witness saw opened, of those that are there for any step of the job; None where
        nobody saw it.
    produced
        None where it is not known: the step failed before anybody looked.
    """
    found = [*_read(index, opened, uses), *_told(step, uses), *(_made(index, produced) if produced else ())]
    return tuple([each.model_copy(update={"consequence": consequence_of(step, each.kind)}) for each in found])


def consequence_of(step: OrderStep, kind: DifferenceKind) -> Consequence:
    """Return what follows from a difference of a step."""
    return step.differences.get(kind, DEFAULT_POLICIES[kind]).consequence


def in_words(difference: Difference) -> str:
    """Return a difference as the end of a sentence that begins with its step."""
    name = on_one_line(difference.name)
    return _SAID[difference.kind].format(name=name, detail=difference.detail)


def must_hold(step: OrderStep, found: Sequence[Difference]) -> None:
    """Fail the step for the differences that are to fail it.

    Raises
    ------
    JobFailed
        Where there are any; it names them.
    """
    if not (fatal := [each for each in found if each.consequence is Consequence.FAILED]):
        return
    more = f"; and {len(fatal) - 5} differences more" if len(fatal) > 5 else ""
    kinds = ", ".join(dict.fromkeys(each.kind for each in fatal))
    raise JobFailed(
        f"step {step.name!r} {'; '.join(map(in_words, fatal[:5]))}{more}",
        fate=_FATES.get(fatal[0].kind, Fate.BAD_OUTPUT),
        step=step.name,
        remedy=f"mend the step, or say in the pipeline what follows from such differences ({kinds})",
    )


def _read(index: StepIndex, opened: Collection[str] | None, uses: Uses) -> Iterator[Difference]:
    if opened is None:
        return
    planned = [each.name for each in index.inputs if each.type]
    for name in planned:
        if name not in opened:
            yield Difference(kind=DifferenceKind.NEVER_READ, name=name)
    for name in sorted(set(opened).difference(planned)):
        yield Difference(kind=DifferenceKind.NOT_PLANNED, name=name)
    for name, line in uses.used.items():
        if name in planned and name not in opened:
            yield Difference(kind=DifferenceKind.LIED, name=name, detail=f"line {line} of its sidecar")


def _told(step: OrderStep, uses: Uses) -> Iterator[Difference]:
    for name, left_out in uses.eliminated.items():
        yield Difference(kind=DifferenceKind.ELIMINATED, name=name, detail=left_out.reason)
    if step.may_eliminate and not uses.told:
        yield Difference(kind=DifferenceKind.SILENT, name=step.name)
    for each in uses.misresolved:
        yield Difference(kind=DifferenceKind.MISRESOLVED, name=each.name, detail=each.detail)


def _made(index: StepIndex, produced: Produced) -> Iterator[Difference]:
    for output in index.outputs:
        if output.role not in produced.roles:
            yield Difference(kind=DifferenceKind.MISSING, name=output.name or output.role)
    for name in produced.extra[:MOST_EXTRA]:
        yield Difference(kind=DifferenceKind.EXTRA, name=on_one_line(name))
    if (more := len(produced.extra) - MOST_EXTRA) > 0:
        yield Difference(kind=DifferenceKind.EXTRA, name=f"{more:,} more")
