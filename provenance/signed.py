"""What is on record of steps, beside what workers signed of them: what ran, how it was watched, what it used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import DifferenceRow, ExecutionRow, FileRow, InputUseRow, PlannedInputRow, SoftwareRow
from nightmill.model.observed import Observation
from nightmill.model.statement import Claim, SealedStep
from provenance.observed import Fact, facts, observed_columns

_WATCHED: Final = ("level", "confined", "witness", "told", "reached")
_IN_WORDS: Final = {None: "unknown", True: "true", False: "false"}


@dataclass
class RecordedStep:
    """A step that ran, as it is on record."""

    host: str
    argv: Sequence[str]
    exit_code: int | None
    signal: int | None
    software: str
    """Digest of its stack."""
    watched: Mapping[str, Any]
    """How it was confined and watched, by the columns of its execution."""
    uses: dict[tuple[str, str], Fact] = field(default_factory=dict)
    """What is known of the files that it was planned to read, by their names and roles."""
    planned: set[tuple[str, str]] = field(default_factory=set)
    """What its order gave it of files on record."""
    differences: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """By their numbers: kind, name, detail and consequence."""


Recorded = dict[int, dict[str, RecordedStep]]
"""Steps that ran, by the IDs of their attempts and their names."""


def steps_of(session: Session, attempt_ids: Sequence[int]) -> Recorded:
    """Return what is on record of the steps of attempts."""
    wanted = among(ExecutionRow.attempt_id, attempt_ids)
    query = select(ExecutionRow, SoftwareRow.sha256).outerjoin(SoftwareRow, SoftwareRow.id == ExecutionRow.software_id)
    found: Recorded = {}
    by_id: dict[int, RecordedStep] = {}
    for row, software in session.execute(query.where(wanted)):
        watched = {name: getattr(row, name) for name in _WATCHED}
        step = RecordedStep(row.host, row.argv, row.exit_code, row.signal, software or "", watched)
        found.setdefault(row.attempt_id, {})[row.step] = by_id[row.id] = step
    use = InputUseRow
    uses = (
        select(use.execution_id, FileRow.name, use.role, use.opened, use.contributed, use.reason)
        .join(FileRow, FileRow.id == use.file_id)
        .join(ExecutionRow, ExecutionRow.id == use.execution_id)
    )
    for execution_id, name, role, *fact in session.execute(uses.where(wanted, use.planned)):
        by_id[execution_id].uses[name, role] = Fact(*fact)
    planned = select(PlannedInputRow.attempt_id, PlannedInputRow.step, FileRow.name, PlannedInputRow.role)
    planned = planned.join(FileRow, FileRow.id == PlannedInputRow.file_id)
    for attempt_id, name, *read in session.execute(planned.where(among(PlannedInputRow.attempt_id, attempt_ids))):
        if (began := found.get(attempt_id, {}).get(name)) is not None:
            began.planned.add((read[0], read[1]))
    differences = select(DifferenceRow).join(ExecutionRow, ExecutionRow.id == DifferenceRow.execution_id)
    for each in session.scalars(differences.where(wanted)):
        by_id[each.execution_id].differences[each.number] = (each.kind, each.name, each.detail, each.consequence)
    return found


def contradictions(there: Mapping[str, RecordedStep], claim: Claim) -> Iterator[str]:
    """Yield how the steps of an attempt that are on record are not those that were signed, a sentence each."""
    for signed in claim.steps:
        if (step := there.get(signed.name)) is None:
            yield f"step {signed.name!r} was signed, and is not on record"
        else:
            for why in _of_step(step, signed, claim.host):
                yield f"step {signed.name!r} {why}"
    for name in sorted(there.keys() - {step.name for step in claim.steps}):
        yield f"step {name!r} is on record, and was not signed"


def _of_step(step: RecordedStep, signed: SealedStep, host: str) -> Iterator[str]:
    observed = signed.observed
    if tuple(step.argv) != signed.argv:
        yield "was signed with another command line than is on record"
    if step.software != signed.software:
        yield "was signed with another software stack than is on record"
    expected = {"exit_code": signed.exit_code, "signal": signed.signal, "host": host, **observed_columns(observed)}
    recorded = {"exit_code": step.exit_code, "signal": step.signal, "host": step.host, **step.watched}
    for name, value in expected.items():
        if recorded[name] != value:
            called = name.replace("_", " ")
            yield f"was signed with {called} {_said(value)}, and is on record with {_said(recorded[name])}"
    if step.differences != _differences(observed):
        yield "was signed with other differences between plan, witness and word than are on record"
    known = facts(observed, step.uses)
    for name, role in sorted(known.keys() | step.planned):
        if (name, role) not in known:
            yield f"was planned to read {name} as {role}, and the record does not say that it used it"
        elif (fact := step.uses[name, role]) != known[name, role]:
            yield f"was signed with {name} {_use(known[name, role])}, and is on record with it {_use(fact)}"


def _differences(observed: Observation | None) -> dict[int, tuple[str, ...]]:
    found = observed.differences if observed is not None else ()
    return {
        number: (each.kind.value, each.name, each.detail, each.consequence.value) for number, each in enumerate(found)
    }


def _said(value: object) -> str:
    return "nothing" if value is None else repr(value) if isinstance(value, str) else str(value)


def _use(fact: Fact) -> str:
    reason = f" ({fact.reason})" if fact.reason else ""
    return f"opened: {_IN_WORDS[fact.opened]}, contributed: {_IN_WORDS[fact.contributed]}{reason}"


__all__ = ["RecordedStep", "contradictions", "steps_of"]
