"""Rows of files: what an attempt made, which execution generated it, and what it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.attachments import attach
from nightmill.backbone.catalogue.registration import NewFile, register
from nightmill.backbone.schema import CalibrationRow, DeliveryRow, GenerationRow
from nightmill.model.journal import MadeFile
from nightmill.model.order import AttemptKey, OrderOutput
from nightmill.model.origin import Origin
from nightmill.model.report import JobReport
from nightmill.model.states import AttemptState
from provenance.executions import AttemptIds, ExecutionIds
from provenance.observed import made_of, names_of

Attachments = Mapping[str, int]


def registered(report: JobReport) -> list[MadeFile]:
    """Files of a report that become rows: what stands in a store of the backbone, and intermediates of a success."""
    stores = report.order.stores
    kept = [file for file in report.published if stores[file.store].catalogued]
    if report.state is not AttemptState.PUBLISHED:
        return kept
    return kept + [file for file in report.made if not file.store]


def write_files(
    session: Session,
    reports: Sequence[JobReport],
    attempts: AttemptIds,
    executions: ExecutionIds,
    submitters: Mapping[AttemptKey, str],
    attachments: Attachments,
    *,
    now: datetime,
) -> dict[str, int]:
    """Register what ended attempts made, with what made it and what it is for; return the files' IDs by their names.

    Parameters
    ----------
    submitters
        Who submitted the campaigns of the attempts: in their name all of it happens, whoever records it.
    attachments
        The IDs of what is loaded of the files, by digest.
    """
    files = [(report, file) for report in reports for file in registered(report)]
    made: dict[str, int] = {}
    for who in sorted({submitters[report.attempt] for report, _file in files}):
        theirs = [(report, file) for report, file in files if submitters[report.attempt] == who]
        ids = register(
            session,
            [_new_file(file) for _report, file in theirs],
            who=who,
            now=now,
            attempt_ids=[attempts[report.attempt] for report, _file in theirs],
        )
        attach(session, ids, [[attachments[each.sha256] for each in file.attachments] for _report, file in theirs])
        made |= {file.name: number for (_report, file), number in zip(theirs, ids, strict=True)}
    generations: list[dict[str, Any]] = []
    calibrations: list[dict[str, Any]] = []
    for report, file in files:
        if not file.step:
            continue
        generations.append(
            {
                "file_id": made[file.name],
                "execution_id": executions[attempts[report.attempt], file.step],
                "role": file.role,
                "produced_name": file.produced_name or None,
                "told": _is_told(report, file) or None,
            }
        )
        output = _output(report, file)
        if output.calibration is not None:
            calibrations.append(_calibration(output, made[file.name], report, submitters[report.attempt], now))
    _insert(session, GenerationRow, generations)
    _insert(session, CalibrationRow, calibrations)
    _insert(session, DeliveryRow, [row for report in reports for row in _deliveries(report, attempts)])
    return made


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
        footprints=file.footprints,
        warnings=file.warnings,
    )


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


def _is_told(report: JobReport, file: MadeFile) -> bool:
    """Whether the step that made a file told what it was made of."""
    step = next((step for step in report.steps if step.name == file.step), None)
    return step is not None and made_of(step.observed, names_of(file)) is not None


def _deliveries(report: JobReport, attempts: AttemptIds) -> list[dict[str, Any]]:
    return [
        {
            "attempt_id": attempts[report.attempt],
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
