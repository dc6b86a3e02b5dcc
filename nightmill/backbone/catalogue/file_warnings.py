"""What checks say of files that they do not hold back: written with the file, and asked for by file and campaign."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from sqlalchemy import distinct, func, insert, select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import AttemptRow, FileRow, FileWarningRow, JobRow
from nightmill.model.base import grouped
from nightmill.model.file_warning import FileWarning


def add_warnings(session: Session, file_ids: Sequence[int], warnings: Sequence[Sequence[FileWarning]]) -> None:
    """Write the warnings of files that are registered, in the transaction that does it."""
    rows = [
        {"file_id": id_, "number": number, "check_name": each.check, "reason": each.reason, "message": each.message}
        for id_, of_file in zip(file_ids, warnings, strict=True)
        for number, each in enumerate(of_file)
    ]
    if rows:
        session.execute(insert(FileWarningRow), rows)


def warnings_of(session: Session, file_ids: Iterable[int]) -> dict[int, list[FileWarning]]:
    """Return the warnings of files that have some, by the file's ID, in the order of the checks."""
    query = (
        select(FileWarningRow)
        .where(among(FileWarningRow.file_id, file_ids))
        .order_by(FileWarningRow.file_id, FileWarningRow.number)
    )
    return grouped(
        (row.file_id, FileWarning(check=row.check_name, reason=row.reason, message=row.message))
        for row in session.scalars(query)
    )


def warned_in(session: Session, campaign_ids: Collection[int]) -> dict[int, dict[str, int]]:
    """Return of how many results of campaigns each check warns, by the campaign's ID and the check's name."""
    query = (
        select(JobRow.campaign_id, FileWarningRow.check_name, func.count(distinct(FileWarningRow.file_id)))
        .join(FileRow, FileRow.id == FileWarningRow.file_id)
        .join(AttemptRow, AttemptRow.id == FileRow.attempt_id)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .where(among(JobRow.campaign_id, campaign_ids), AttemptRow.result)
        .group_by(JobRow.campaign_id, FileWarningRow.check_name)
        .order_by(FileWarningRow.check_name)
    )
    found: dict[int, dict[str, int]] = {}
    for campaign_id, check, files in session.execute(query):
        found.setdefault(campaign_id, {})[check] = files
    return found
