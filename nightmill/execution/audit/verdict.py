"""What the trace of a step says of the step: whether it kept to what it was given, and which of that it opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nightmill.errors import JobFailed
from nightmill.execution.audit.traced import Traced
from nightmill.execution.evidence import on_one_line
from nightmill.model.base import storable
from nightmill.model.dimensions import unit_name
from nightmill.model.fate import Fate
from nightmill.model.layout import INPUTS
from nightmill.model.observed import Confined, DifferenceKind, Policy
from nightmill.model.order import JobOrder, OrderInput, OrderStep

_NAMED: Final = 3
"""How many paths a message names."""
_IN_AN_IMAGE: Final = "a step in an image is not audited: of what it tried beside its inputs nothing is known"
_OVERRULED: Final = (Fate.STEP_FAILED, Fate.STEP_KILLED)
"""What an error or a signal says of a step says less than what it reached for."""


def judged(
    order: JobOrder, step: OrderStep, scratch: Path, traced: Traced | None, failure: JobFailed | None
) -> JobFailed | None:
    """Return how a step failed: for what it reached beside what it was given, whatever its exit code says."""
    if traced is None or (failure is not None and failure.fate not in _OVERRULED):
        return failure
    after = f"; it {failure.message.partition(repr(step.name))[2].strip()}" if failure else ""
    wanted = [*traced.reached, *(traced.absent if _is_strict(step) else ())]
    if wanted:
        named = [_named(order, scratch, path) for path in wanted[:_NAMED]]
        others = len(wanted) + traced.more - len(named)
        return JobFailed(
            f"step {step.name!r} reached for what it was not given: {', '.join(named)}"
            f"{f' and {others} more' if others else ''}{after}",
            fate=Fate.UNSTAGED_INPUT,
            step=step.name,
            remedy="declare it as an input of the step, or, where it is software of the hosts, name it under"
            " confinement.reads of nightmill.yaml: nothing is fetched while a job runs",
        )
    if failure is None and not traced.whole:
        return JobFailed(
            f"step {step.name!r} cannot be judged: what audited it was ended before it",
            fate=Fate.STEP_KILLED,
            step=step.name,
            remedy="see whether the step, or the host for lack of memory, killed strace",
        )
    return failure


def _is_strict(step: OrderStep) -> bool:
    """Say whether a step fails that looks for a file among its inputs that is not there, as it does by default."""
    return step.differences.get(DifferenceKind.NOT_PLANNED, Policy.FAIL) is Policy.FAIL


def _named(order: JobOrder, scratch: Path, path: str) -> str:
    """Name a path, and the file of the order that it is, where it is one."""
    for file in order.inputs:
        if path == f"{scratch}/{INPUTS}/{file.staged_name}":
            return f"{_shown(path)} (input {file.name}{_of(file)}, which the step does not declare)"
        if path in _copies(order, file):
            return f"{_shown(path)} (a copy of input {file.name}{_of(file)} in its store)"
    return _shown(path)


def _copies(order: JobOrder, file: OrderInput) -> Iterator[str]:
    for copy in file.copies:
        store = order.stores.get(copy.store)
        if store is not None and store.folder is not None:
            yield os.path.realpath(store.folder / copy.path)


def _of(file: OrderInput) -> str:
    return f" of {unit_name(file.data_id)}" if file.data_id else ""


def _shown(path: str) -> str:
    return on_one_line(storable(path))


def reached(traced: Traced | None) -> tuple[str, ...]:
    """Return what goes on record of what a step reached for beside what it was given."""
    if traced is None:
        return ()
    return (*map(storable, (*traced.reached, *traced.absent)), *(f"network {each}" for each in traced.networks))


def as_audited(order: JobOrder, confined: Confined, traced: Traced | None) -> Confined:
    """Return how a step was confined, which says so where its order wants it audited and nobody did."""
    if order.level != "audit" or traced is not None:
        return confined
    return confined.model_copy(update={"lacking": (*confined.lacking, _IN_AN_IMAGE)})
