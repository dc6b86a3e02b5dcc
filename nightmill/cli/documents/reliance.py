"""What ``nightmill calib report`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nightmill.cli.documents import Document


@dataclass(frozen=True, kw_only=True)
class UsedCalibration(Document):
    """A calibration, and how many units it serves."""

    file: str
    """Name of the file."""
    units: int
    """How many units it serves."""


@dataclass(frozen=True, kw_only=True)
class CalibrationInput(Document):
    """An input that calibrations fill, and what serves it."""

    stage: str
    """The stage."""
    role: str
    """The input."""
    types: Sequence[str]
    """Its file types, in the order of its lookups."""
    units: int
    """How many units want it."""
    lacking: int
    """How many of them lack one."""
    levels: Mapping[str, int]
    """Units by the level of the lookup that matched; empty where lookups have none."""
    poorer: int
    """How many units got another than the best level."""
    older: int
    """How many got one that is further away in time than `older_days`."""
    median_days: float | None
    """How far away in time they are, in the middle of the units; null where no time is known."""
    worst_days: float | None
    """How far away in time the farthest is."""
    nights_without: Sequence[int]
    """The nights of which no unit is served."""
    files: int
    """How many files serve it."""
    most_used: Sequence[UsedCalibration]
    """Those of them that serve most units, at most ten."""


@dataclass(frozen=True, kw_only=True)
class WantedCalibration(Document):
    """A calibration to ask for."""

    type: str
    """Its file type."""
    of: Mapping[str, str]
    """What it must be of, beside its time."""
    lacking: int
    """How many units lack it."""
    poorer: int
    """How many have one of a poorer level instead."""
    older: int
    """How many have one that is further away in time than `older_days`."""
    worst_days: float | None
    """How far away in time the farthest of those is."""
    nights: Sequence[int]
    """The nights of these units."""


@dataclass(frozen=True, kw_only=True)
class CalibrationReport(Document):
    """What a campaign relies on."""

    campaign: str
    """Name of the campaign."""
    on_record: bool
    """Whether it is of the jobs that are sealed; else of what would be planned now."""
    older_days: float
    """How far from its unit in time a calibration counts as too old, days."""
    inputs: Sequence[CalibrationInput]
    """Its calibration inputs, in the order of its stages."""
    wanted: Sequence[WantedCalibration]
    """What to ask for, the most wanted first."""
    later: Sequence[str]
    """Stages whose units are not known yet."""
    problems: Sequence[str]
    """Why what would be planned now could not be carried out."""
