"""What jobs of a stage made, as it can be compared with what another campaign made of the same units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.files import data_id
from nightmill.backbone.schema import AttemptRow, FileRow, GenerationRow, JobRow, ReplicaRow
from nightmill.model.breakpoint import Breakpoint
from nightmill.model.states import JobState

What = tuple[str, str, str, tuple[tuple[str, str | int], ...]]
"""A unit, a file type, the role of the output, and the file's data ID."""


@dataclass(frozen=True, slots=True)
class Product:
    """A file that counts."""

    name: str
    produced_name: str | None
    """The step's own name for it, where the job renamed it."""
    sha256: str
    metadata: Mapping[str, object]


def before(campaign_id: int, breakpoint: Breakpoint) -> ColumnElement[bool]:
    """Say of a job that a breakpoint lets it go before it."""
    waits = (JobRow.state == JobState.HELD) & (func.coalesce(JobRow.held_why, "") == breakpoint.name)
    return (JobRow.campaign_id == campaign_id) & (JobRow.stage == breakpoint.stage) & ~waits


def counts(session: Session, jobs: ColumnElement[bool]) -> dict[JobState, int]:
    """Return how many jobs there are of each state."""
    query = select(JobRow.state, func.count()).where(jobs).group_by(JobRow.state)
    return {JobState(state): count for state, count in session.execute(query)}


def products(session: Session, jobs: ColumnElement[bool]) -> dict[What, list[Product]]:
    """Return the files that count of those that steps of jobs made, by what they are."""
    query = (
        select(JobRow.unit, GenerationRow.role, GenerationRow.produced_name, FileRow)
        .join(AttemptRow, AttemptRow.job_id == JobRow.id)
        .join(FileRow, FileRow.attempt_id == AttemptRow.id)
        .join(GenerationRow, GenerationRow.file_id == FileRow.id)
        .where(jobs, AttemptRow.result)
        .where(select(ReplicaRow.id).where(ReplicaRow.file_id == FileRow.id).exists())
        .order_by(FileRow.id)
    )
    found: dict[What, list[Product]] = {}
    for unit, role, produced, file in session.execute(query.execution_options(yield_per=1000)):
        what = (unit, file.type, role, tuple(data_id(file).items()))
        found.setdefault(what, []).append(Product(file.name, produced, file.sha256, file.attributes))
    return found
