"""What ``nightmill plan --against`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nightmill.cli.documents import Document


@dataclass(frozen=True, kw_only=True)
class ComparedPlan(Document):
    """One of two plans."""

    campaign: str
    """Name of its campaign."""
    number: int
    """The campaign's number, as names of files have it."""
    digest: str
    """Its digest."""
    what: str
    """What plan it is, in words."""


@dataclass(frozen=True, kw_only=True)
class ValueChange(Document):
    """A value of the configuration that differs."""

    key: str
    """As ``--set`` writes it; ``bundle`` for the pipeline's folder, ``number`` for that of the campaign."""
    before: Any
    """The value in the earlier plan; null where it has none."""
    after: Any
    """The value in the later plan; null where it has none."""
    origin_before: str
    """The layer that says so; ``absent`` where there is no such value."""
    origin_after: str
    """The same of the later plan."""


@dataclass(frozen=True, kw_only=True)
class StageChanges(Document):
    """How a stage differs."""

    stage: str
    """Its name."""
    before: int | None
    """How many units the earlier plan has of it; null where these are not known yet, or it has no such stage."""
    after: int | None
    """The same of the later plan."""
    counts: Mapping[str, int]
    """Units by what changes: ``added``, ``dropped``, ``input``, ``output``, ``rule``; only what does."""


@dataclass(frozen=True, kw_only=True)
class UnitChange(Document):
    """In what one unit differs."""

    stage: str
    """The stage."""
    unit: str
    """Its name."""
    change: str
    """``added``, ``dropped``, ``input``, ``output``, or ``rule`` where another rule chose the same files."""
    role: str
    """The input or, as ``step.role``, the output; empty for the whole unit."""
    before: Sequence[str]
    """Names of its files in the earlier plan."""
    after: Sequence[str]
    """Names of its files in the later plan."""
    rule_before: str
    """What decided: the rule that chose the files; where the unit is not there, why."""
    rule_after: str
    """The same of the later plan."""
    origin_before: str
    """The configuration layer that set the rule."""
    origin_after: str
    """The same of the later plan."""
    level_before: int | None
    """Of the lookup that chose the files, where it has one."""
    level_after: int | None
    """The same of the later plan."""


@dataclass(frozen=True, kw_only=True)
class PlanComparison(Document):
    """How a plan differs from an earlier one."""

    same: bool
    """Whether nothing differs."""
    before: ComparedPlan
    """The earlier plan."""
    after: ComparedPlan
    """The later plan."""
    config: Sequence[ValueChange]
    """Values of the configuration that differ."""
    stages: Sequence[StageChanges]
    """Every stage of either plan."""
    units: Sequence[UnitChange]
    """What changes of each unit."""
