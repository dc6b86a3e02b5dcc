"""From reports to rows: the only writer of provenance.

A report that was recorded before changes nothing, so that a spool may be drained by anyone at any time. What an attempt
made becomes visible with its end, in one transaction: files, copies, metadata, executions, relations, calibrations and
the job's result, or none of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.catalogue import NewFile, register
from nightmill.backbone.schema import (
    AttemptRow,
    CalibrationRow,
    CampaignRow,
    DeliveryRow,
    ExecutionRow,
    FileRow,
    GenerationRow,
    InputUseRow,
    JobRow,
    SoftwareRow,
)
from nightmill.model.fate import AttemptState, JobState, Origin
from nightmill.model.journal import JobReport, MadeFile, StepReport
from nightmill.model.order import AttemptKey, OrderOutput

Stacks = Mapping[str, Mapping[str, str]]
_BATCH = 500


@dataclass(frozen=True)
class Known:
    """An attempt as the backbone has it."""

    attempt_id: int
    job_id: int
    state: AttemptState
    is_last: bool
    """Whether no later attempt of the job was issued."""
    decided: bool
    """Whether an attempt of the job is its result already."""


@dataclass
class Recorded:
    """What a call of :func:`record` did."""

    published: list[AttemptKey] = field(default_factory=list)
    failed: list[AttemptKey] = field(default_factory=list)
    superseded: list[AttemptKey] = field(default_factory=list)
    """Published after another attempt of the same job had been recorded: kept, and not the result."""
    running: list[AttemptKey] = field(default_factory=list)
    unknown: list[AttemptKey] = field(default_factory=list)
    """Issued by no database that this one knows; nothing was recorded of them."""


def record(session: Session, reports: Sequence[JobReport], stacks: Stacks, *, who: str, now: datetime) -> Recorded:
    """Write what reports tell, as far as it is not written yet.

    Parameters
    ----------
    session
        In a writing transaction, which the caller commits.
    reports
        Folds of journals, ended or not: a running attempt's executions are visible while it runs.
    stacks
        Software by digest, as :func:`nightmill.model.journal.stacks` gives it.
    who
        Recorded with the files.
    now
        The time of registration, UTC.
    """
    done = Recorded()
    for start in range(0, len(reports), _BATCH):
        _record_batch(session, reports[start : start + _BATCH], stacks, who, now, done)
    return done


def _record_batch(
    session: Session, reports: Sequence[JobReport], stacks: Stacks, who: str, now: datetime, done: Recorded
) -> None:
    known = _known(session, [report.attempt for report in reports])
    done.unknown += [report.attempt for report in reports if report.attempt not in known]
    news = [report for report in reports if report.attempt in known and _is_news(report, known[report.attempt])]
    if not news:
        return
    software = _software_ids(session, {step.software for report in news for step in report.steps}, stacks)
    executions = _executions(session, news, known, software)
    ended = [report for report in news if report.state.ended]
    _update_attempts(session, news, known, done)
    if ended:
        _files_and_relations(session, ended, known, executions, who, now)


def _known(session: Session, attempts: Iterable[AttemptKey]) -> dict[AttemptKey, Known]:
    wanted = list(attempts)
    rows = session.execute(
        select(
            CampaignRow.name, JobRow.stage, JobRow.unit, AttemptRow.number, AttemptRow.id, JobRow.id,
            AttemptRow.state, JobRow.state, JobRow.attempts,
        )
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
        .where(
            CampaignRow.name.in_({key.campaign for key in wanted}),
            JobRow.stage.in_({key.stage for key in wanted}),
            JobRow.unit.in_({key.unit for key in wanted}),
            AttemptRow.number.in_({key.number for key in wanted}),
        )
        .order_by(AttemptRow.id)
        .with_for_update(of=(AttemptRow, JobRow))
    )  # fmt: skip
    found = {
        AttemptKey(campaign=campaign, stage=stage, unit=unit, number=number): Known(
            attempt_id, job_id, AttemptState(state), number == last, job_state == JobState.DONE
        )
        for campaign, stage, unit, number, attempt_id, job_id, state, job_state, last in rows
    }
    return {key: found[key] for key in wanted if key in found}


def _is_news(report: JobReport, known: Known) -> bool:
    """Whether a report tells what is not recorded: an attempt given up as lost may still report its real end."""
    if known.state is AttemptState.LOST:
        return report.state.ended and report.state is not AttemptState.LOST
    return not known.state.ended


def _software_ids(session: Session, digests: set[str], stacks: Stacks) -> dict[str, int]:
    query = select(SoftwareRow.sha256, SoftwareRow.id).where(SoftwareRow.sha256.in_(digests))
    found = {digest: number for digest, number in session.execute(query)}
    for digest in sorted(digests - found.keys()):
        row = SoftwareRow(sha256=digest, packages=dict(stacks[digest]))
        session.add(row)
        session.flush()
        found[digest] = row.id
    return found


def _executions(
    session: Session, reports: Sequence[JobReport], known: Mapping[AttemptKey, Known], software: Mapping[str, int]
) -> dict[tuple[int, str], int]:
    """Insert or update a row a step; return their IDs by attempt ID and step."""
    attempt_ids = [known[report.attempt].attempt_id for report in reports]
    query = select(ExecutionRow.attempt_id, ExecutionRow.step, ExecutionRow.id)
    ids = {
        (attempt_id, step): number
        for attempt_id, step, number in session.execute(query.where(ExecutionRow.attempt_id.in_(attempt_ids)))
    }
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    for report, attempt_id in zip(reports, attempt_ids, strict=True):
        environments = {step.name: dict(step.environment) for step in report.order.steps}
        for position, step in enumerate(report.steps):
            if (attempt_id, step.name) in ids:
                changed.append({"id": ids[attempt_id, step.name], **_outcome(report, step)})
                continue
            new.append(
                {
                    "attempt_id": attempt_id,
                    "step": step.name,
                    "position": position,
                    "argv": list(step.argv),
                    "environment": environments[step.name],
                    "software_id": software[step.software],
                    "host": report.host,
                    "began_at": step.began_at,
                    **_outcome(report, step),
                }
            )
    if changed:
        session.execute(update(ExecutionRow), changed)
    if new:
        inserted = session.scalars(insert(ExecutionRow).returning(ExecutionRow.id, sort_by_parameter_order=True), new)
        ids |= {(row["attempt_id"], row["step"]): number for row, number in zip(new, inserted, strict=True)}
    return ids


def _outcome(report: JobReport, step: StepReport) -> dict[str, Any]:
    cost = step.cost
    return {
        "state": _execution_state(report, step),
        "ended_at": step.ended_at,
        "exit_code": step.exit_code,
        "signal": step.signal,
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
    return "failed" if failed or step.exit_code != 0 else "succeeded"


def _update_attempts(
    session: Session, reports: Sequence[JobReport], known: Mapping[AttemptKey, Known], done: Recorded
) -> None:
    attempts: list[dict[str, Any]] = []
    jobs: list[dict[str, Any]] = []
    for report in reports:
        is_known = known[report.attempt]
        published = report.state is AttemptState.PUBLISHED
        result = published and not is_known.decided
        attempts.append(
            {
                "id": is_known.attempt_id,
                "state": report.state.value,
                "fate": report.fate.value if report.fate and report.state.ended else None,
                "failed_step": report.failed_step or None,
                "evidence": report.evidence or None,
                "host": report.host,
                "began_at": report.began_at,
                "ended_at": report.ended_at,
                "adopted": report.adopted,
                "result": result,
            }
        )
        _sort_in(report, result, done)
        if result or (report.state.ended and is_known.is_last and not is_known.decided):
            jobs.append({"id": is_known.job_id, "state": (JobState.DONE if result else JobState.FAILED).value})
    session.execute(update(AttemptRow), attempts)
    if jobs:
        session.execute(update(JobRow), jobs)


def _sort_in(report: JobReport, result: bool, done: Recorded) -> None:
    if not report.state.ended:
        done.running.append(report.attempt)
    elif report.state is not AttemptState.PUBLISHED:
        done.failed.append(report.attempt)
    else:
        (done.published if result else done.superseded).append(report.attempt)


def _files_and_relations(
    session: Session,
    reports: Sequence[JobReport],
    known: Mapping[AttemptKey, Known],
    executions: Mapping[tuple[int, str], int],
    who: str,
    now: datetime,
) -> None:
    files = [(report, file) for report in reports for file in _registered(report)]
    ids = register(
        session,
        [_new_file(file) for _report, file in files],
        who=who,
        now=now,
        attempt_ids=[known[report.attempt].attempt_id for report, _file in files],
    )
    made = {file.name: number for (_report, file), number in zip(files, ids, strict=True)}
    names = made | _file_ids(session, {item.name for report in reports for item in report.order.inputs})
    generations: list[dict[str, Any]] = []
    calibrations: list[dict[str, Any]] = []
    for report, file in files:
        if not file.step:
            continue
        generations.append(
            {
                "file_id": made[file.name],
                "execution_id": executions[known[report.attempt].attempt_id, file.step],
                "role": file.role,
                "produced_name": file.produced_name or None,
            }
        )
        output = _output(report, file)
        if output.calibration is not None:
            calibrations.append(_calibration(output, made[file.name], report, who, now))
    _insert(session, GenerationRow, generations)
    _insert(session, CalibrationRow, calibrations)
    _insert(session, InputUseRow, [use for report in reports for use in _uses(report, known, executions, names)])
    _insert(session, DeliveryRow, [row for report in reports for row in _deliveries(report, known)])


def _registered(report: JobReport) -> list[MadeFile]:
    """Files of a report that become rows: what stands in a store of the backbone, and intermediates of a success."""
    stores = report.order.stores
    kept = [file for file in report.published if stores[file.store].catalogued]
    if report.state is not AttemptState.PUBLISHED:
        return kept
    return kept + [file for file in report.made if not file.store]


def _new_file(file: MadeFile) -> NewFile:
    return NewFile(
        name=file.name,
        type=file.type,
        origin=Origin.BATCH,
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        data_id=file.data_id,
        begins_at=file.begins_at,
        ends_at=file.ends_at,
        metadata=file.metadata,
        store=file.store or None,
        path=file.path or None,
    )


def _file_ids(session: Session, names: set[str]) -> dict[str, int]:
    wanted = sorted(names)
    found: dict[str, int] = {}
    for start in range(0, len(wanted), _BATCH):
        query = select(FileRow.name, FileRow.id).where(FileRow.name.in_(wanted[start : start + _BATCH]))
        found |= {name: number for name, number in session.execute(query)}
    return found


def _output(report: JobReport, file: MadeFile) -> OrderOutput:
    step = next(step for step in report.order.steps if step.name == file.step)
    return next(output for output in step.outputs if output.role == file.role)


def _calibration(output: OrderOutput, file_id: int, report: JobReport, who: str, now: datetime) -> dict[str, Any]:
    assert output.calibration is not None
    return {
        "file_id": file_id,
        "set_name": output.calibration.set,
        "valid_from": datetime.fromisoformat(output.valid_from),
        "valid_until": datetime.fromisoformat(output.valid_until),
        "maturity": output.calibration.maturity,
        "at": now,
        "who": who,
        "why": f"made by {report.attempt}",
    }


def _uses(
    report: JobReport,
    known: Mapping[AttemptKey, Known],
    executions: Mapping[tuple[int, str], int],
    names: Mapping[str, int],
) -> list[dict[str, Any]]:
    attempt_id = known[report.attempt].attempt_id
    roles = {item.name: item.role for item in report.order.inputs} | {item.name: item.role for item in report.made}
    began = {step.name for step in report.steps}
    return [
        {"execution_id": executions[attempt_id, step.name], "file_id": names[name], "role": roles[name]}
        for step in report.order.steps
        if step.name in began
        for name in dict.fromkeys(step.inputs)
        if name in names
    ]


def _deliveries(report: JobReport, known: Mapping[AttemptKey, Known]) -> list[dict[str, Any]]:
    return [
        {
            "attempt_id": known[report.attempt].attempt_id,
            "area": file.store,
            "path": file.path,
            "size_bytes": file.size_bytes,
            "sha256": file.sha256,
        }
        for file in report.published
        if not report.order.stores[file.store].catalogued
    ]


def _insert(session: Session, table: type[Any], rows: list[dict[str, Any]]) -> None:
    if rows:
        session.execute(insert(table), rows)
