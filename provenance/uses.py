"""Which files steps used, as far as they are on record: planned, opened, contributed, and what was made of what."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.files import known_files
from nightmill.backbone.schema import DerivationRow, FileRow, InputUseRow, PlannedInputRow
from nightmill.model.base import grouped
from nightmill.model.order import JobOrder, OrderStep, later_names
from nightmill.model.report import JobReport
from provenance.executions import AttemptIds, ExecutionIds, KnownExecution
from provenance.observed import UNKNOWN, Fact, facts, made_of, names_of

Use = tuple[int, str]
"""A file's ID, and the role that it had."""
FileIds = Mapping[tuple[int, str], int]
"""IDs of files on record, by the attempt's ID and the name."""
_NOT_SAID: Final = Fact(None, False, None)
_WILD: Final = re.compile(r"[*?\[{]")
"""In a pattern: more than one name may be meant."""


class _Read(NamedTuple):
    """A file on record that a step may read."""

    name: str
    id: int
    role: str

    @property
    def use(self) -> Use:
        return self.id, self.role


class _Used(NamedTuple):
    """That a step used a file."""

    planned: bool
    fact: Fact


def write_uses(
    session: Session,
    reports: Sequence[JobReport],
    attempts: AttemptIds,
    executions: ExecutionIds,
    made: Mapping[str, int],
    rows: Mapping[int, Mapping[str, KnownExecution]],
) -> FileIds:
    """Say of each step that began which files it used, as soon as the files are on record; return their IDs.

    What it read of files that are on no record (scratch files, what went to a working area) was made of others: it used
    those, though not as planned, but for what it reads itself. What it opened, or told that it used, and was planned
    for other steps of its job alone, it used as well.
    """
    planned = _planned(session, [attempts[report.attempt] for report in reports])
    known = {attempt_id for attempt_id, _step in planned}
    others = [report.order for report in reports if attempts[report.attempt] not in known]
    inputs = known_files(session, {item.name for order in others for item in order.inputs}) if others else {}
    before = [row.id for report in reports for row in rows[attempts[report.attempt]].values()]
    there = _there(session, before) if before else {}
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    derivations: list[dict[str, Any]] = []
    ids: dict[tuple[int, str], int] = {}
    for report in reports:
        attempt_id = attempts[report.attempt]
        of_job = _Job(report, made)
        if attempt_id not in known:
            of_job.add_inputs(
                _Read(item.name, inputs[item.name].id, role)
                for item in report.order.inputs
                if item.name in inputs
                for role in item.roles
            )
        of_steps = {step.name: planned.get((attempt_id, step.name), []) for step in report.order.steps}
        for step_name, used in of_job.uses(of_steps):
            execution_id = executions[attempt_id, step_name]
            for (file_id, role), (as_planned, fact) in used.items():
                key = (execution_id, file_id, role)
                row = {"execution_id": execution_id, "file_id": file_id, "role": role, **fact._asdict()}
                if key not in there:
                    new.append({**row, "planned": as_planned})
                elif fact not in (there[key], UNKNOWN):
                    changed.append(row)
        ids |= {(attempt_id, name): id_ for name, id_ in of_job.ids.items()}
        derivations += of_job.derivations
    if new:
        session.execute(insert(InputUseRow), new)
    if changed:
        session.execute(update(InputUseRow), changed)
    if derivations:
        session.execute(insert(DerivationRow), derivations)
    return ids


class _Job:
    """Finds out which files the steps of one attempt used, one step after the other."""

    def __init__(self, report: JobReport, made: Mapping[str, int]) -> None:
        self.ids: dict[str, int] = {}
        """Files on record that it may read, or that it made, by their names."""
        self.derivations: list[dict[str, Any]] = []
        self._report, self._made = report, made
        self._own: dict[str, list[_Read]] = {}
        for file in report.made:
            if file.name in made:
                self.ids[file.name] = made[file.name]
                for name in (file.name, later_names(file.role)):
                    self._own.setdefault(name, []).append(_Read(file.name, made[file.name], file.role))
        self._through: dict[str, dict[Use, Fact]] = {}
        """What stands in the order for files that are on no record, to what these were made of."""
        self._scratch: dict[str, list[tuple[str, str]]] = {}
        """The same to their names, each with its role, as far as these are known."""

    def add_inputs(self, inputs: Iterable[_Read]) -> None:
        """Add the inputs of an attempt whose planned ones are not on record."""
        for each in inputs:
            self._own.setdefault(each.name, []).append(each)
            self.ids[each.name] = each.id

    def uses(self, planned: Mapping[str, Sequence[_Read]]) -> Iterator[tuple[str, dict[Use, _Used]]]:
        """Yield each step that began, with what it used.

        Parameters
        ----------
        planned
            What is on record of the inputs of each step.
        """
        self.ids |= {each.name: each.id for reads in planned.values() for each in reads}
        began = {step.name: step for step in self._report.steps}
        for step in self._report.order.steps:
            if step.name not in began:
                continue
            read = [*planned[step.name], *(each for name in step.inputs for each in self._own.get(name, ()))]
            behind = {name: self._through[name] for name in step.inputs if name in self._through}
            scratch = {name: self._scratch[name] for name in behind}
            observed = began[step.name].observed
            pairs = [(each.name, each.role) for each in read]
            told = facts(observed, [*pairs, *(pair for of_item in scratch.values() for pair in of_item)])
            used: dict[Use, _Used] = {}
            for name, files in behind.items():
                fact = _together([told[pair] for pair in scratch[name]])
                for use, before in files.items():
                    used[use] = _Used(False, _either(used.get(use), fact.behind(before)))
            if observed is not None:
                strays = self._strays(step, planned, observed.names.difference(each.name for each in read))
                stray = facts(observed, [*pairs, *((each.name, each.role) for each in strays)]) if strays else {}
                used |= {each.use: _Used(False, stray[each.name, each.role]) for each in strays}
            itself = {each.id for each in read}
            used = {use: each for use, each in used.items() if use[0] not in itself}
            used |= {each.use: _Used(True, told[each.name, each.role]) for each in read}
            self._hand_on(step, used, scratch)
            yield step.name, used

    def _strays(self, step: OrderStep, planned: Mapping[str, Sequence[_Read]], names: frozenset[str]) -> list[_Read]:
        """Return the files of some names that other steps of the job were to read, or that steps before it made."""
        if not names:
            return []
        by_itself = {file.name for file in self._report.made if file.step == step.name}
        own = [each for name in names - by_itself for each in self._own.get(name, ())]
        return own + [each for reads in planned.values() for each in reads if each.name in names]

    def _hand_on(
        self, step: OrderStep, used: Mapping[Use, _Used], scratch: Mapping[str, Sequence[tuple[str, str]]]
    ) -> None:
        """Keep what the outputs of a step were made of: of those on no record for later steps."""
        observed = next(each.observed for each in self._report.steps if each.name == step.name)
        for item, names in _off_record(self._report.order, step):
            told = [made_of(observed, (name,)) for name, _role in names]
            inputs = frozenset().union(*(each for each in told if each)) if told and None not in told else None
            files = None if inputs is None else self._ids_of(inputs, scratch)
            self._scratch[item] = names
            self._through[item] = {
                use: each.fact if files is None or use[0] in files else _NOT_SAID for use, each in used.items()
            }
        for file in self._report.made:
            if file.step != step.name or file.name not in self._made:
                continue
            if (inputs := made_of(observed, names_of(file))) is not None:
                there = self._ids_of(inputs, scratch).intersection(id_ for id_, _role in used)
                own = self._made[file.name]
                self.derivations += [{"file_id": own, "from_id": id_} for id_ in sorted(there)]

    def _ids_of(self, names: Iterable[str], scratch: Mapping[str, Sequence[tuple[str, str]]]) -> set[int]:
        """Return the files of some names; for one that is on no record, those that it was made of.

        A name that nobody knows may be of any file of which the name is not known.
        """
        wanted = frozenset(names)
        found = {self.ids[name] for name in wanted if name in self.ids}
        known = self.ids.keys() | {name for theirs in scratch.values() for name, _role in theirs}
        for item, theirs in scratch.items():
            if not wanted.isdisjoint(name for name, _role in theirs) or (not theirs and wanted - known):
                found |= {id_ for (id_, _role), fact in self._through[item].items() if fact.contributed is not False}
        return found


def _together(known: Sequence[Fact]) -> Fact:
    """Return what is known of several files that were made of another, as one."""
    told = {fact.contributed for fact in known}
    return Fact(None, True) if True in told else known[0] if told == {False} else UNKNOWN


def _either(before: _Used | None, fact: Fact) -> Fact:
    """Return what is known of a file that was read by two ways."""
    if before is None or before.fact.contributed is False:
        return fact
    return before.fact if before.fact.contributed or fact.contributed is False else fact


def _off_record(order: JobOrder, step: OrderStep) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield what stands in an order for files of a step that no row is made for, with their names as far as known."""
    for each in step.outputs:
        if each.type and (not each.store or order.stores[each.store].catalogued):
            continue
        for name in each.names:
            yield name, [(name, each.role)]
        names = each.names or ((each.produces,) if each.produces and not _WILD.search(each.produces) else ())
        yield later_names(each.role), [(name, each.role) for name in names]


def _planned(session: Session, attempt_ids: Sequence[int]) -> Mapping[tuple[int, str], list[_Read]]:
    """Return the files that steps of attempts were to read, each with every role that it fills there."""
    query = (
        select(PlannedInputRow.attempt_id, PlannedInputRow.step, FileRow.name, FileRow.id, PlannedInputRow.role)
        .join(FileRow, FileRow.id == PlannedInputRow.file_id)
        .where(among(PlannedInputRow.attempt_id, attempt_ids))
    )
    return grouped(((attempt_id, step), _Read(*read)) for attempt_id, step, *read in session.execute(query))


def _there(session: Session, execution_ids: Sequence[int]) -> Mapping[tuple[int, int, str], Fact]:
    """Return what is on record of what steps used."""
    use = InputUseRow
    query = select(use.execution_id, use.file_id, use.role, use.opened, use.contributed, use.reason)
    rows = session.execute(query.where(among(use.execution_id, execution_ids)))
    return {
        (execution_id, file_id, role): Fact(opened, contributed, reason)
        for execution_id, file_id, role, opened, contributed, reason in rows
    }
