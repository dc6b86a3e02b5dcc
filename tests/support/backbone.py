"""What a backbone holds before jobs run, for tests that need no plan; and all that it holds afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.files import known_files
from nightmill.backbone.catalogue.registration import NewFile, register
from nightmill.backbone.catalogue.stores import store_ids
from nightmill.backbone.database import Database
from nightmill.backbone.schema import (
    AttemptRow,
    Base,
    CalibrationRow,
    CampaignRow,
    DeliveryRow,
    ExecutionRow,
    FileRow,
    GenerationRow,
    InputUseRow,
    JobRow,
    PlanRow,
    ReplicaRow,
    SliceRow,
    StoreRow,
)
from nightmill.backbone.sites import this_site
from nightmill.backbone.work import leases
from nightmill.execution.owner import this_process
from nightmill.model.order import JobOrder, OrderInput, order_sha256
from nightmill.model.origin import Origin
from nightmill.model.states import AttemptState, JobState

NOW = datetime(2026, 1, 11, 9, 30, tzinfo=UTC)
EMPTY_SHA256 = "0" * 64


def create_schema(url: str) -> None:
    """Bring the schema into the database of this URL."""
    database = Database(url)
    database.create()
    database.close()


def issue(session: Session, *orders: JobOrder, lease_id: int | None = None) -> None:
    """Write the rows that say that attempts were issued, with whatever they stand on that is not there yet."""
    store_ids(session, {name: store for order in orders for name, store in order.stores.items()})
    _register_inputs(session, {item.name: item for order in orders for item in order.inputs})
    stages = {key: _stage(session, *key) for key in {(order.attempt.campaign, order.attempt.stage) for order in orders}}
    jobs = {
        (row.campaign_id, row.stage, row.unit): row
        for row in session.scalars(select(JobRow).where(JobRow.stage.in_({stage for _campaign, stage in stages})))
    }
    attempts = []
    for order in orders:
        key = order.attempt
        of_stage = stages[key.campaign, key.stage]
        job = jobs.get((of_stage["campaign_id"], key.stage, key.unit))
        if job is None:
            job = jobs[of_stage["campaign_id"], key.stage, key.unit] = JobRow(**of_stage, unit=key.unit, detail={})
            session.add(job)
        job.state, job.attempts = JobState.ACTIVE.value, key.number
        attempts.append((job, order))
    session.flush()
    session.add_all(
        AttemptRow(
            job_id=job.id,
            plan_id=job.plan_id,
            lease_id=lease_id,
            number=order.attempt.number,
            state=AttemptState.ISSUED.value,
            order_sha256=order_sha256(order),
            issued_at=NOW,
        )
        for job, order in attempts
    )
    session.flush()


def take_lease(session: Session) -> int:
    """Take a lease for this process."""
    return leases.take(session, this_process(), flow_run_id=None, now=NOW)


def _register_inputs(session: Session, inputs: Mapping[str, OrderInput]) -> None:
    known = known_files(session, inputs)
    files = [
        NewFile(name, item.type, Origin.RAW, item.size_bytes, item.sha256, store=item.store, path=item.path)
        for name, item in inputs.items()
        if name not in known
    ]
    register(session, files, who="ada", now=NOW)


def _stage(session: Session, campaign_name: str, stage: str) -> dict[str, Any]:
    campaign = session.scalar(select(CampaignRow).where(CampaignRow.name == campaign_name))
    if campaign is None:
        campaign = CampaignRow(
            site_id=this_site(session), name=campaign_name, pipeline="test", pipeline_version="1.0", definition={},
            sha256=EMPTY_SHA256, submitted_at=NOW, submitted_by="ada",
        )  # fmt: skip
        session.add(campaign)
        session.flush()
    of_stage: dict[str, Any] = {"campaign_id": campaign.id, "stage": stage}
    plan = session.scalar(select(PlanRow).filter_by(**of_stage))
    if plan is None:
        plan = PlanRow(**of_stage, position=0, revision=1, sha256=EMPTY_SHA256, watermark=0, common={}, sealed_at=NOW)
        session.add(plan)
        session.flush()
        session.add(SliceRow(**of_stage, plan_id=plan.id, number=1))
        session.flush()
    slice_id = session.scalars(select(SliceRow.id).filter_by(**of_stage)).one()
    return {**of_stage, "plan_id": plan.id, "slice_id": slice_id}


def dump(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table."""
    with database.reading() as session:
        return {
            table.name: sorted((tuple(row) for row in session.execute(select(table))), key=repr)
            for table in Base.metadata.sorted_tables
        }


def results(session: Session) -> dict[str, Any]:
    """Return what the jobs came to, without IDs, times, names and numbers of attempts.

    Two campaigns that did the same give the same, however often their jobs were tried.
    """
    return {
        unit: {"state": state, **(_result(session, job_id) if state == JobState.DONE.value else {})}
        for job_id, unit, state in session.execute(select(JobRow.id, JobRow.unit, JobRow.state)).tuples()
    }


def _result(session: Session, job_id: int) -> dict[str, Any]:
    attempt = session.scalars(select(AttemptRow).where(AttemptRow.job_id == job_id, AttemptRow.result)).one()
    of_attempt = ExecutionRow.attempt_id == attempt.id
    files = session.execute(
        select(
            FileRow.type, FileRow.sha256, FileRow.size_bytes, FileRow.exposure, FileRow.detector, FileRow.attributes,
            FileRow.begins_at, GenerationRow.role, ExecutionRow.step, StoreRow.name,
        )
        .outerjoin(GenerationRow, GenerationRow.file_id == FileRow.id)
        .outerjoin(ExecutionRow, ExecutionRow.id == GenerationRow.execution_id)
        .outerjoin(ReplicaRow, ReplicaRow.file_id == FileRow.id)
        .outerjoin(StoreRow, StoreRow.id == ReplicaRow.store_id)
        .where(FileRow.attempt_id == attempt.id, FileRow.type != "log")
    )  # fmt: skip
    executions = select(ExecutionRow.step, ExecutionRow.position, ExecutionRow.state, ExecutionRow.exit_code)
    uses = (
        select(ExecutionRow.step, InputUseRow.role, FileRow.sha256)
        .join(InputUseRow, InputUseRow.execution_id == ExecutionRow.id)
        .join(FileRow, FileRow.id == InputUseRow.file_id)
    )
    calibrations = select(CalibrationRow.set_name, FileRow.sha256).join(FileRow).where(FileRow.attempt_id == attempt.id)
    deliveries = select(DeliveryRow.area, DeliveryRow.sha256).where(DeliveryRow.attempt_id == attempt.id)
    logs = select(FileRow.type).where(FileRow.attempt_id == attempt.id, FileRow.type == "log")
    return {
        "files": _sorted(files.tuples()),
        "executions": _sorted(session.execute(executions.where(of_attempt)).tuples()),
        "uses": _sorted(session.execute(uses.where(of_attempt)).tuples()),
        "calibrations": _sorted(session.execute(calibrations).tuples()),
        "deliveries": _sorted(session.execute(deliveries).tuples()),
        "logs": _sorted(session.execute(logs).tuples()),
    }


def _sorted(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted((tuple(row) for row in rows), key=repr)
