"""What is on record of an attempt, as the report that its journal came to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from sqlalchemy import select
from sqlalchemy.orm import Session, aliased

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.file_warnings import warnings_of
from nightmill.backbone.catalogue.files import data_id
from nightmill.backbone.schema import (
    DeliveryRow,
    DerivationRow,
    ErrorRuleRow,
    ExecutionRow,
    FileRow,
    GenerationRow,
    InputUseRow,
    SoftwareRow,
)
from nightmill.model.fate import Fate
from nightmill.model.journal import Cost, MadeFile
from nightmill.model.observed import Confined, DependsOn, Difference, Eliminated, Level, Observation
from nightmill.model.order import ErrorName, JobOrder
from nightmill.model.report import JobReport, StepReport
from nightmill.model.states import AttemptState
from provenance.history import Attempt
from provenance.knowledge import observed


def report_of(session: Session, attempt: Attempt, order: JobOrder) -> JobReport:
    """Return the report of an attempt, made of what the backbone knows.

    Parameters
    ----------
    order
        That it was issued with. Files of the report have the stores and paths that it says.
    """
    made = [*_registered(session, attempt.id, order), *_delivered(session, attempt.id, order)]
    return JobReport(
        attempt=order.attempt,
        order=order,
        state=AttemptState(attempt.state),
        fate=Fate(attempt.fate) if attempt.fate else None,
        host=attempt.host or "",
        began_at=attempt.began_at or attempt.issued_at,
        ended_at=attempt.ended_at,
        steps=tuple(_steps(session, attempt.id)),
        published=tuple([file for file in made if file.store]),
        made=tuple([file for file in made if file.step]),
        failed_step=attempt.failed_step or "",
        evidence=attempt.evidence or "",
        adopted=attempt.adopted,
    )


def _steps(session: Session, attempt_id: int) -> Iterator[StepReport]:
    query = (
        select(ExecutionRow, SoftwareRow.sha256, ErrorRuleRow.name, ErrorRuleRow.version)
        .outerjoin(ErrorRuleRow, ErrorRuleRow.id == ExecutionRow.accepted_id)
        .outerjoin(SoftwareRow, ExecutionRow.software_id == SoftwareRow.id)
        .where(ExecutionRow.attempt_id == attempt_id)
        .order_by(ExecutionRow.position)
    )
    rows = session.execute(query).tuples().all()
    seen = _observations(session, [row for row, *_ in rows])
    for row, software, error, version in rows:
        yield StepReport(
            name=row.step,
            argv=tuple(row.argv),
            began_at=row.began_at,
            ended_at=row.ended_at,
            exit_code=row.exit_code,
            signal=row.signal,
            accepted=ErrorName(error=error, version=version) if error else None,
            cost=_cost(row),
            software=software or "",
            environment=row.environment,
            observed=seen.get(row.id),
        )


def _observations(session: Session, executions: Sequence[ExecutionRow]) -> dict[int, Observation]:
    """Return what is known of runs, by their IDs: of files, of those on record; in the order of their names."""
    known = observed(session, executions)
    use, of_runs = InputUseRow, among(InputUseRow.execution_id, known)
    files = select(use.execution_id, FileRow.name, use.opened, use.contributed, use.reason)
    uses: dict[int, dict[str, tuple[bool | None, bool | None, str | None]]] = {id_: {} for id_ in known}
    query = files.join(FileRow, FileRow.id == use.file_id).where(of_runs).order_by(FileRow.name)
    for id_, name, *facts in session.execute(query):
        uses[id_][name] = (facts[0], facts[1], facts[2])
    source, derived = aliased(FileRow), GenerationRow.execution_id
    depends: dict[int, dict[str, list[str]]] = {id_: {} for id_ in known}
    told = (
        select(derived, FileRow.name, source.name)
        .join(FileRow, FileRow.id == GenerationRow.file_id)
        .outerjoin(DerivationRow, DerivationRow.file_id == FileRow.id)
        .outerjoin(source, source.id == DerivationRow.from_id)
        .where(among(derived, known), GenerationRow.told.is_(True))
        .order_by(FileRow.name, source.name)
    )
    for id_, output, name in session.execute(told):
        depends[id_].setdefault(output, []).extend([name] if name else [])
    return {
        id_: Observation(
            confined=Confined(level=Level(each.level), by=each.by, lacking=each.lacking),
            witness=each.witness,
            opened=tuple(name for name, (opened, *_) in uses[id_].items() if opened),
            reached=each.reached,
            told=each.told,
            used=tuple(name for name, (_opened, contributed, _why) in uses[id_].items() if contributed),
            eliminated=tuple(Eliminated(name=name, reason=why) for name, (*_, why) in uses[id_].items() if why),
            depends=tuple(DependsOn(output=output, inputs=tuple(names)) for output, names in depends[id_].items()),
            differences=tuple(Difference.model_validate(asdict(difference)) for difference in each.differences),
        )
        for id_, each in known.items()
    }


def _cost(row: ExecutionRow) -> Cost | None:
    if row.wall_seconds is None:
        return None
    return Cost(
        wall_seconds=row.wall_seconds,
        user_seconds=row.user_seconds or 0.0,
        system_seconds=row.system_seconds or 0.0,
        max_rss_bytes=row.max_rss_bytes or 0,
        read_bytes=row.read_bytes or 0,
        written_bytes=row.written_bytes or 0,
    )


def _registered(session: Session, attempt_id: int, order: JobOrder) -> Iterator[MadeFile]:
    """Yield the files of the catalogue that an attempt made, and its log."""
    query = (
        select(FileRow, ExecutionRow.step, GenerationRow.role, GenerationRow.produced_name)
        .outerjoin(GenerationRow, GenerationRow.file_id == FileRow.id)
        .outerjoin(ExecutionRow, GenerationRow.execution_id == ExecutionRow.id)
        .where(FileRow.attempt_id == attempt_id)
        .order_by(FileRow.id)
    )
    places = {output.role: (output.store, output.directory) for step in order.steps for output in step.outputs}
    rows = session.execute(query).all()
    warnings = warnings_of(session, [row.id for row, *_ in rows])
    for row, step, role, produced_name in rows:
        store, directory = places.get(role or "", (order.log_store, order.log_directory))
        yield MadeFile(
            name=row.name,
            role=role or row.type,
            type=row.type,
            step=step or "",
            size_bytes=row.size_bytes,
            sha256=row.sha256,
            store=store,
            path=f"{directory}/{row.name}".removeprefix("/") if store else "",
            produced_name=produced_name or "",
            data_id=data_id(row),
            metadata=row.attributes,
            begins_at=row.begins_at,
            ends_at=row.ends_at,
            warnings=tuple(warnings.get(row.id, ())),
        )


def _delivered(session: Session, attempt_id: int, order: JobOrder) -> Iterator[MadeFile]:
    """Yield what went to working areas; of its metadata nothing is on record."""
    query = select(DeliveryRow).where(DeliveryRow.attempt_id == attempt_id).order_by(DeliveryRow.id)
    of = {name: (step.name, output) for step in order.steps for output in step.outputs for name in output.names}
    for row in session.scalars(query):
        name = row.path.rpartition("/")[2]
        step, output = of.get(name, ("", None))
        yield MadeFile(
            name=name,
            role=output.role if output else "delivery",
            type=output.type if output else "",
            step=step,
            size_bytes=row.size_bytes,
            sha256=row.sha256,
            store=row.area,
            path=row.path,
        )
