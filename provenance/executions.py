"""Rows of executions: what ran, with what software, and at what cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import ExecutionRow, SoftwareRow
from nightmill.backbone.upsert import add_missing
from nightmill.model.base import canonical_json
from nightmill.model.order import AttemptKey, ErrorName, OrderStep
from nightmill.model.report import JobReport, StepReport
from nightmill.model.software import Stack
from nightmill.model.states import AttemptState
from provenance.observed import observed_columns

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
    observed: bool
    """Whether anything is on record of how it was confined, and what it opened."""


def execution_rows(session: Session, attempt_ids: Sequence[int]) -> Mapping[int, Mapping[str, KnownExecution]]:
    """Return the executions that are recorded, by the attempt's ID and the step."""
    query = (
        select(ExecutionRow.attempt_id, ExecutionRow.step)
        .add_columns(ExecutionRow.id, ExecutionRow.ended_at.is_not(None), ExecutionRow.level.is_not(None))
        .where(among(ExecutionRow.attempt_id, attempt_ids))
    )
    rows: dict[int, dict[str, KnownExecution]] = {attempt_id: {} for attempt_id in attempt_ids}
    for attempt_id, step, *known in session.execute(query):
        rows[attempt_id][step] = KnownExecution(*known)
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
        **observed_columns(step.observed),
    }


def _execution_state(report: JobReport, step: StepReport) -> str:
    if step.ended_at is None:
        return "lost" if report.state.ended else "running"
    failed = report.state is AttemptState.FAILED and report.failed_step == step.name
    return "succeeded" if not failed and (step.exit_code == 0 or step.accepted) else "failed"
