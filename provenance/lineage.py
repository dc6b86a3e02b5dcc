"""Where files came from, and what became of them: walks along the edges ``used`` and ``was_generated_by``.

A walk goes level by level, with two queries a level whatever its width. Files that were not kept are nodes like any
other: the chain from raw to final passes through them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.schema import (
    AttemptRow,
    CampaignRow,
    ExecutionRow,
    FileRow,
    GenerationRow,
    InputUseRow,
    JobRow,
    ReplicaRow,
)

Direction = Literal["up", "down"]
CHUNK: Final = 5_000


@dataclass(frozen=True, slots=True)
class FileNode:
    """A file in a lineage."""

    id: int
    name: str
    type: str
    origin: str
    kept: bool
    """Whether a copy of it is present in some store."""


@dataclass(frozen=True, slots=True)
class ExecutionNode:
    """One run of one step in a lineage."""

    id: int
    campaign: str
    stage: str
    unit: str
    attempt: int
    step: str
    state: str
    result: bool
    """Whether its attempt is the one of its job that counts."""

    def __str__(self) -> str:
        """Write it as ``campaign/stage/unit/a01 step``."""
        return f"{self.campaign}/{self.stage}/{self.unit}/a{self.attempt:02d} {self.step}"


@dataclass(frozen=True, slots=True)
class Edge:
    """A relation between an execution and a file: ``used`` or ``was_generated_by``."""

    execution_id: int
    file_id: int
    role: str


@dataclass
class Lineage:
    """Part of the graph of provenance, found from one file.

    Attributes
    ----------
    files, executions
        The nodes by their IDs, in the order in which they were reached.
    used, generated
        The edges among them.
    complete
        False where the walk was ended by its depth and would have gone on.
    """

    start: int
    direction: Direction
    files: dict[int, FileNode] = field(default_factory=dict)
    executions: dict[int, ExecutionNode] = field(default_factory=dict)
    used: list[Edge] = field(default_factory=list)
    generated: list[Edge] = field(default_factory=list)
    complete: bool = True


def walk(session: Session, file_id: int, direction: Direction, *, depth: int | None = None) -> Lineage:
    """Follow the provenance of a file.

    Parameters
    ----------
    file_id
        Where to begin.
    direction
        ``up`` to what it was made of, ``down`` to what was made of it.
    depth
        At most so many executions away; by default all the way.

    Returns
    -------
    Lineage
        With the file itself; nothing else where no execution made it (or used it).
    """
    found = Lineage(file_id, direction)
    towards, onwards = (_makers, _uses) if direction == "up" else (_users, _products)
    level = [file_id]
    _add_files(session, found, level)
    while level:
        edges = list(towards(session, level))
        news = sorted({edge.execution_id for edge in edges} - found.executions.keys())
        if depth is not None and depth <= 0:
            found.complete = not edges
            break
        _keep(found, direction, edges, near=True)
        _add_executions(session, found, news)
        edges = list(onwards(session, news))
        _keep(found, direction, edges, near=False)
        level = sorted({edge.file_id for edge in edges} - found.files.keys())
        _add_files(session, found, level)
        depth = None if depth is None else depth - 1
    return found


def _keep(found: Lineage, direction: Direction, edges: Sequence[Edge], *, near: bool) -> None:
    (found.generated if near == (direction == "up") else found.used).extend(edges)


def _makers(session: Session, file_ids: Collection[int]) -> Iterator[Edge]:
    return _edges(session, GenerationRow, GenerationRow.file_id, file_ids)


def _products(session: Session, execution_ids: Collection[int]) -> Iterator[Edge]:
    return _edges(session, GenerationRow, GenerationRow.execution_id, execution_ids)


def _users(session: Session, file_ids: Collection[int]) -> Iterator[Edge]:
    return _edges(session, InputUseRow, InputUseRow.file_id, file_ids)


def _uses(session: Session, execution_ids: Collection[int]) -> Iterator[Edge]:
    return _edges(session, InputUseRow, InputUseRow.execution_id, execution_ids)


def _edges(
    session: Session, row: type[GenerationRow] | type[InputUseRow], key: Any, ids: Collection[int]
) -> Iterator[Edge]:
    query = select(row.execution_id, row.file_id, row.role).order_by(row.execution_id, row.role, row.file_id)
    return (Edge(*each) for each in _rows(session, query, key, ids))


def _add_files(session: Session, found: Lineage, ids: Collection[int]) -> None:
    kept = (
        select(ReplicaRow.id)
        .where(ReplicaRow.file_id == FileRow.id, ReplicaRow.state == "present")
        .correlate(FileRow)
        .exists()
    )
    query = select(FileRow.id, FileRow.name, FileRow.type, FileRow.origin, kept).order_by(FileRow.id)
    for row in _rows(session, query, FileRow.id, ids):
        found.files[row[0]] = FileNode(*row)


def _add_executions(session: Session, found: Lineage, ids: Collection[int]) -> None:
    query = (
        select(
            ExecutionRow.id,
            CampaignRow.name,
            JobRow.stage,
            JobRow.unit,
            AttemptRow.number,
            ExecutionRow.step,
            ExecutionRow.state,
            AttemptRow.result,
        )
        .join(AttemptRow, ExecutionRow.attempt_id == AttemptRow.id)
        .join(JobRow, AttemptRow.job_id == JobRow.id)
        .join(CampaignRow, JobRow.campaign_id == CampaignRow.id)
        .order_by(ExecutionRow.id)
    )
    for row in _rows(session, query, ExecutionRow.id, ids):
        found.executions[row[0]] = ExecutionNode(*row)


def _rows(session: Session, query: Any, key: Any, ids: Collection[int]) -> Iterator[Any]:
    """Yield the rows of a query whose key is one of many, some thousands at a time."""
    wanted = sorted(ids)
    for start in range(0, len(wanted), CHUNK):
        yield from session.execute(query.where(key.in_(wanted[start : start + CHUNK])))
