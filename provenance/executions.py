"""Rows of executions: what ran, with what software, at what cost, and which files it used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.files import known_files
from nightmill.backbone.schema import ExecutionRow, InputUseRow, PlannedInputRow, SoftwareRow
from nightmill.backbone.upsert import add_missing
from nightmill.model.base import canonical_json
from nightmill.model.order import AttemptKey, ErrorName, JobOrder, OrderOutput, OrderStep, later_names
from nightmill.model.report import JobReport, StepReport
from nightmill.model.software import Stack
from nightmill.model.states import AttemptState

Stacks = Mapping[str, Stack]
"""Stacks by their digests."""
AttemptIds = Mapping[AttemptKey, int]
ExecutionIds = Mapping[tuple[int, str], int]
"""IDs of executions, by the attempt's ID and the step."""
AcceptedIds = Mapping[ErrorName, int]
"""IDs of the rules that accepted exit codes of steps, as far as they are on record."""


@dataclass(frozen=True)
class KnownExecution:
    """An execution as the backbone has it."""

    id: int
    ended: bool


def execution_rows(session: Session, attempt_ids: Sequence[int]) -> Mapping[int, Mapping[str, KnownExecution]]:
    """Return the executions that are recorded, by the attempt's ID and the step."""
    query = select(ExecutionRow.attempt_id, ExecutionRow.step, ExecutionRow.id, ExecutionRow.ended_at)
    rows: dict[int, dict[str, KnownExecution]] = {attempt_id: {} for attempt_id in attempt_ids}
    for attempt_id, step, number, ended_at in session.execute(query.where(among(ExecutionRow.attempt_id, attempt_ids))):
        rows[attempt_id][step] = KnownExecution(number, ended_at is not None)
    return rows


def _software_ids(session: Session, digests: set[str], stacks: Stacks) -> dict[str, int]:
    query = select(SoftwareRow.sha256, SoftwareRow.id).where(SoftwareRow.sha256.in_(digests))
    found = {digest: number for digest, number in session.execute(query)}
    if digests <= found.keys():
        return found
    write_stacks(session, {digest: stacks[digest] for digest in sorted(digests - found.keys())})
    return {digest: number for digest, number in session.execute(query)}


def write_stacks(session: Session, stacks: Stacks) -> None:
    """Put stacks on record, as far as they are not."""
    rows = [
        {"sha256": digest, "bare_sha256": stack.bare_sha256, "packages": stack.content}
        for digest, stack in stacks.items()
    ]
    add_missing(session, SoftwareRow, rows, unique=("sha256",))


def write_executions(
    session: Session,
    reports: Sequence[JobReport],
    attempts: AttemptIds,
    rows: Mapping[int, Mapping[str, KnownExecution]],
    stacks: Stacks,
    accepted: AcceptedIds,
) -> dict[tuple[int, str], int]:
    """Insert or update a row a step; return the IDs of all of them."""
    used = {step.known_software for report in reports for step in report.steps}
    # those of steps that were not started as well: who is to let them in can see what they are
    software = _software_ids(session, used | stacks.keys(), stacks)
    ids = {(attempt_id, step): row.id for attempt_id, steps in rows.items() for step, row in steps.items()}
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    for report in reports:
        attempt_id = attempts[report.attempt]
        ordered = {step.name: step for step in report.order.steps}
        for position, step in enumerate(report.steps):
            if (attempt_id, step.name) in ids:
                outcome = _outcome(report, step, accepted)
                changed.append(
                    {"id": ids[attempt_id, step.name], "software_id": software[step.known_software], **outcome}
                )
                continue
            new.append(
                {
                    "attempt_id": attempt_id,
                    "step": step.name,
                    "position": position,
                    "argv": list(step.argv),
                    "environment": dict(step.environment or ordered[step.name].environment),
                    "files_sha256": _files_sha256(ordered[step.name]),
                    "software_id": software[step.known_software],
                    "host": report.host,
                    "began_at": step.began_at,
                    **_outcome(report, step, accepted),
                }
            )
    if changed:
        session.execute(update(ExecutionRow), changed)
    if new:
        inserted = session.scalars(insert(ExecutionRow).returning(ExecutionRow.id, sort_by_parameter_order=True), new)
        ids |= {(row["attempt_id"], row["step"]): number for row, number in zip(new, inserted, strict=True)}
    return ids


def _files_sha256(step: OrderStep) -> str | None:
    """Return a digest of the files that are written for a step before it begins; None where there are none."""
    if not step.files:
        return None
    return sha256(canonical_json([[file.name, file.text] for file in step.files]).encode()).hexdigest()


def _outcome(report: JobReport, step: StepReport, accepted: AcceptedIds) -> dict[str, Any]:
    cost = step.cost
    return {
        "state": _execution_state(report, step),
        "ended_at": step.ended_at,
        "exit_code": step.exit_code,
        "signal": step.signal,
        "accepted_id": accepted.get(step.accepted) if step.accepted else None,
        "wall_seconds": cost and cost.wall_seconds,
        "user_seconds": cost and cost.user_seconds,
        "system_seconds": cost and cost.system_seconds,
        "max_rss_bytes": cost and cost.max_rss_bytes,
        "read_bytes": cost and cost.read_bytes,
        "written_bytes": cost and cost.written_bytes,
    }


def _execution_state(report: JobReport, step: StepReport) -> str:
    if step.ended_at is None:
        return "lost" if report.state.ended else "running"
    failed = report.state is AttemptState.FAILED and report.failed_step == step.name
    return "succeeded" if not failed and (step.exit_code == 0 or step.accepted) else "failed"


def write_uses(
    session: Session,
    reports: Sequence[JobReport],
    attempts: AttemptIds,
    executions: ExecutionIds,
    made: Mapping[str, int],
    rows: Mapping[int, Mapping[str, KnownExecution]],
) -> None:
    """Say of each step that began which files it used, as soon as the files are on record.

    What it read of files that are on no record (scratch files, what went to a working area) was made of others: it used
    those, though not as planned, but for what it reads itself.
    """
    planned = _planned(session, [attempts[report.attempt] for report in reports])
    known = {attempt_id for attempt_id, _step in planned}
    others = [report.order for report in reports if attempts[report.attempt] not in known]
    inputs = known_files(session, {item.name for order in others for item in order.inputs}) if others else {}
    before = [row.id for report in reports for row in rows[attempts[report.attempt]].values()]
    query = select(InputUseRow.execution_id, InputUseRow.file_id, InputUseRow.role)
    there = set(session.execute(query.where(among(InputUseRow.execution_id, before))).tuples()) if before else set()
    uses: list[dict[str, Any]] = []
    for report in reports:
        attempt_id = attempts[report.attempt]
        own: dict[str, list[tuple[int, str]]] = {}
        for file in report.made:
            if file.name in made:
                for name in (file.name, later_names(file.role)):
                    own.setdefault(name, []).append((made[file.name], file.role))
        if attempt_id not in known:
            own |= {
                item.name: [(inputs[item.name].id, role) for role in item.roles]
                for item in report.order.inputs
                if item.name in inputs
            }
        began = {step.name for step in report.steps}
        through: dict[str, list[tuple[int, str]]] = {}
        for step in report.order.steps:
            if step.name not in began:
                continue
            execution_id = executions[attempt_id, step.name]
            read = [
                *planned.get((attempt_id, step.name), ()),
                *(use for name in step.inputs for use in own.get(name, ())),
            ]
            itself = {file_id for file_id, _role in read}
            behind = [use for name in step.inputs for use in through.get(name, ()) if use[0] not in itself]
            used = dict.fromkeys(behind, False) | dict.fromkeys(read, True)
            through |= {name: list(used) for name in _off_record(report.order, step)}
            uses += [
                {"execution_id": execution_id, "file_id": file_id, "role": role, "planned": as_planned}
                for (file_id, role), as_planned in used.items()
                if (execution_id, file_id, role) not in there
            ]
    if uses:
        session.execute(insert(InputUseRow), uses)


def _off_record(order: JobOrder, step: OrderStep) -> list[str]:
    """Return what stands in an order for files of a step that no row is made for."""
    outputs = [each for each in step.outputs if not (each.type and _catalogued(order, each))]
    return [name for each in outputs for name in (*each.names, later_names(each.role))]


def _catalogued(order: JobOrder, output: OrderOutput) -> bool:
    return not output.store or order.stores[output.store].catalogued


def _planned(session: Session, attempt_ids: Sequence[int]) -> Mapping[tuple[int, str], list[tuple[int, str]]]:
    """Return the files that steps of attempts were to read, each with every role that it fills there."""
    query = select(PlannedInputRow.attempt_id, PlannedInputRow.step, PlannedInputRow.file_id, PlannedInputRow.role)
    found: dict[tuple[int, str], list[tuple[int, str]]] = {}
    for attempt_id, step, file_id, role in session.execute(query.where(among(PlannedInputRow.attempt_id, attempt_ids))):
        found.setdefault((attempt_id, step), []).append((file_id, role))
    return found
