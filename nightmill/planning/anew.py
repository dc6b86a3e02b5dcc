"""What jobs that were sealed before would read if they were planned now."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import FileRow
from nightmill.planning.jobs import blocks
from nightmill.planning.planned import StagePlan
from nightmill.planning.seal import chosen
from nightmill.planning.sealed import PlannedJob, StageCommon, detail_of


class OtherInput(NamedTuple):
    """An input that would be others now: names of its files, with what of them must not be used and the rule."""

    role: str
    before: str
    after: str


class Anew(NamedTuple):
    """A job as it would be planned now, and how its inputs differ; nothing differs where it would be the same."""

    unit: str
    detail: Mapping[str, Any]
    inputs: tuple[OtherInput, ...]


def anew(
    session: Session, plan: StagePlan, sealed: Mapping[str, tuple[StageCommon, Mapping[str, Any]]]
) -> Iterator[Anew]:
    """Yield jobs of a stage as they are planned now; those that the plan has not any more are left out.

    Parameters
    ----------
    sealed
        By their units: what their plan has in common, and their details.
    """
    for block in blocks(plan.jobs):
        jobs = {job.unit: job for job in block if job.unit in sealed}
        other = {unit for unit, job in jobs.items() if chosen(sealed[unit][1]) != chosen(detail_of(job, 0))}
        ids = {id_ for unit in other for _rule, of_role in sealed[unit][1]["inputs"].values() for id_ in of_role}
        names = _names(session, ids) if ids else {}
        for unit, job in jobs.items():
            common, before = sealed[unit]
            told = tuple(_others(before, common, plan.common, job, names)) if unit in other else ()
            yield Anew(unit, detail_of(job, before["number"]), told)


def _names(session: Session, ids: Collection[int]) -> dict[int, str]:
    return dict(session.execute(select(FileRow.id, FileRow.name).where(among(FileRow.id, ids))).tuples().all())


def _others(
    before: Mapping[str, Any], sealed: StageCommon, common: StageCommon, job: PlannedJob, names: Mapping[int, str]
) -> Iterator[OtherInput]:
    excluded = before.get("excluded", {})
    after = {role: (rule, files) for role, rule, files in job.choices}
    for role in dict.fromkeys([*before["inputs"], *after]):
        rule, ids = before["inputs"].get(role, (None, []))
        told = _told([(names[id_], excluded.get(str(id_), ())) for id_ in ids], sealed, rule)
        new_rule, files = after.get(role, (None, ()))
        now = _told([(file.name, file.excluded) for file in files], common, new_rule)
        if list(ids) != [file.id for file in files] or _parts(excluded, ids) != [list(file.excluded) for file in files]:
            yield OtherInput(role, told, now)


def _parts(excluded: Mapping[str, list[str]], ids: list[int]) -> list[list[str]]:
    return [list(excluded.get(str(id_), ())) for id_ in ids]


def _told(files: list[tuple[str, Collection[str]]], common: StageCommon, rule: int | None) -> str:
    """Name files, and why they were chosen."""
    named = ", ".join([f"{name} without {', '.join(parts)}" if parts else name for name, parts in files])
    why = "" if rule is None or not files else f" ({common.rules[rule]})"
    return f"{named}{why}" if named else "none"
