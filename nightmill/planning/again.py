"""Orders that were issued, had again from what was kept: the same, to the byte, or an error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.error_rules import errors_by_id, in_force
from nightmill.backbone.schema import AttemptRow, CampaignRow, JobRow
from nightmill.backbone.sites import this_site
from nightmill.backbone.work.campaigns import job_named
from nightmill.errors import OrderChanged, RequestRefused
from nightmill.model.order import JobOrder, order_sha256
from nightmill.planning.accepting import Accepting
from nightmill.planning.copies import inputs_of
from nightmill.planning.orders import memory_wanted, render
from nightmill.planning.sealed import JobDetail, commons, job_of


def issued_order(session: Session, campaign: str, stage: str, unit: str, *, number: int | None = None) -> JobOrder:
    """Return the order of an attempt, as it was issued.

    Parameters
    ----------
    number
        Of the attempt; by default the last.

    Raises
    ------
    UnknownName
        Where there is no such campaign or job.
    RequestRefused
        Where the job has no such attempt.
    OrderChanged
        As :func:`issued_orders`.
    """
    job = job_named(session, campaign, stage, unit)
    query = select(AttemptRow.id).where(AttemptRow.job_id == job.id, AttemptRow.number == (number or job.attempts))
    attempt_id = session.scalar(query)
    if attempt_id is None:
        raise RequestRefused(
            f"{campaign}/{stage}/{unit} has {job.attempts} attempts"
            + (f", and none is a{number:02d}" if number else ""),
            remedy="an order is there once the job was issued",
        )
    [order] = issued_orders(session, [attempt_id])
    return order


def next_order(session: Session, campaign: str, stage: str, unit: str) -> JobOrder:
    """Return the order that the next attempt of a job would be issued with now; nothing is issued.

    Raises
    ------
    UnknownName
        Where there is no such campaign or job.
    RequestRefused
        Where an input has no copy at this site.
    """
    job = job_named(session, campaign, stage, unit)
    [(digest, common)] = commons(session, {job.plan_id}).values()
    detail = JobDetail.model_validate(job.detail)
    inputs = inputs_of(session, detail.file_ids, site_id=this_site(session))
    files = inputs.with_copies(inputs.preferred(common.stores))
    planned = job_of(job.unit, detail, files)
    wanted = memory_wanted(common, planned, job.memory_bytes)
    order = render(common, planned, job.attempts + 1, plan_sha256=digest, memory_bytes=wanted)
    return Accepting(in_force(session)).put_in(order)[0]


def issued_orders(session: Session, attempt_ids: Iterable[int]) -> Iterator[JobOrder]:
    """Yield the orders of attempts, as they were issued, in the order of the attempts; four statements for all.

    Raises
    ------
    OrderChanged
        Where what is kept of an attempt does not give the order that it was issued with.
    """
    query = (
        select(AttemptRow, CampaignRow.site_id, JobRow.unit, JobRow.detail)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
        .where(among(AttemptRow.id, list(attempt_ids)))
        .order_by(AttemptRow.id)
    )
    found = [
        (row, at, unit, JobDetail.model_validate(row.job_detail or detail))
        for row, at, unit, detail in session.execute(query)
    ]
    plans = commons(session, {row.plan_id for row, _, _, _ in found})
    inputs = {
        site_id: inputs_of(
            session, {id_ for _, at, _, detail in found if at == site_id for id_ in detail.file_ids}, site_id=site_id
        )
        for site_id in {at for _, at, _, _ in found}
    }
    errors = errors_by_id(session, {id_ for row, _, _, _ in found for id_ in row.rule_ids or ()})
    for row, at, unit, detail in found:
        digest, common = plans[row.plan_id]
        files = inputs[at].of(detail.file_ids).with_chosen(row.copies or {})
        job, wanted = job_of(unit, detail, files), row.memory_bytes
        order = render(common, job, row.number, plan_sha256=digest, memory_bytes=wanted)
        if row.rule_ids:
            order, _ids = Accepting([errors[id_] for id_ in row.rule_ids if id_ in errors]).put_in(order)
        if order_sha256(order) != row.order_sha256:
            raise OrderChanged(str(order.attempt), row.order_sha256, order_sha256(order))
        yield order
