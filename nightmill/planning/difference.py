"""How two plans of one campaign differ, stage by stage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from nightmill.planning.planned import CampaignPlan, StagePlan
from nightmill.planning.sealed import PlannedJob

MOST: Final = 1_000
"""So many units of each kind are named."""


@dataclass(frozen=True, slots=True)
class StageDifference:
    """How the later plan of a stage differs from the earlier one.

    Parameters
    ----------
    before, after
        How many units each has.
    without
        Units that the later one has not.
    changed
        Units that would read other files, or other parts of them.
    """

    stage: str
    before: int
    after: int
    without: tuple[str, ...]
    changed: tuple[str, ...]


def differences(before: CampaignPlan, after: CampaignPlan) -> Iterator[StageDifference]:
    """Yield how stages differ in two plans of one campaign, of which the later one leaves more out."""
    for old, new in zip(before.stages, after.stages, strict=True):
        reads = {job.unit: hash(_read(job)) for job in new.jobs}
        without, changed = _units(old, reads)
        if without or changed or len(old.jobs) != len(new.jobs):
            yield StageDifference(old.stage.name, len(old.jobs), len(new.jobs), without, changed)


def _units(old: StagePlan, reads: dict[str, int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    without: list[str] = []
    changed: list[str] = []
    for job in old.jobs:
        if job.unit not in reads:
            told = without
        elif reads[job.unit] != hash(_read(job)):
            told = changed
        else:
            continue
        if len(told) < MOST:
            told.append(job.unit)
    return tuple(without), tuple(changed)


def _read(job: PlannedJob) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    return tuple([(each.role, file.name, file.excluded) for each in job.choices for file in each.files])
