"""What verbs print of files: where they came from, what became of them, and in which role they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nightmill.cli.documents import Document
from nightmill.cli.documents.work import ChosenInput, Execution


@dataclass(frozen=True, kw_only=True)
class Copy(Document):
    """A copy of a file."""

    store: str
    """Name of the store."""
    path: str
    """Below the store's URL."""
    state: str
    """Whether it is there: ``present``, or what was found instead."""


@dataclass(frozen=True, kw_only=True)
class File(Document):
    """A file of the catalogue."""

    name: str
    """Its unique name."""
    type: str
    """Its file type."""
    origin: str
    """``raw``, ``manual`` or ``batch``."""
    size_bytes: int
    """Its size, bytes."""
    sha256: str
    """Its digest."""
    data_id: Mapping[str, str | int]
    """The dimensions that it has a value for."""
    begins_at: datetime | None
    """When what it holds began."""
    ends_at: datetime | None
    """When what it holds ended."""
    metadata: Mapping[str, Any]
    """What else its type wants to be known, in the units that the type says."""
    original_name: str
    """The name that it came with."""
    provenance: str | None
    """Where it came from, in the words of whoever brought it."""
    registered_at: datetime
    """When it was registered."""
    registered_by: str
    """By whom."""
    copies: Sequence[Copy]
    """Its copies; none where it is known and not kept."""


@dataclass(frozen=True, kw_only=True)
class ShownFile(File):
    """A file of the catalogue, with what made it and the sets that it is a calibration of."""

    made_by: str | None
    """The attempt and the step, as ``first/clean/exposure=1/a01 reduce``."""
    calibrations: Mapping[str, str]
    """Sets of calibrations to its maturity in each."""


@dataclass(frozen=True, kw_only=True)
class Offer(Document):
    """A file that was not taken in."""

    path: str
    """Where it was offered."""
    type: str
    """The file type that it was to be of."""
    origin: str
    """``raw`` or ``manual``."""
    reason: str
    """A code, for queries."""
    message: str
    """Why, in words."""
    at: datetime
    """When."""
    who: str
    """Who offered it."""
    size_bytes: int | None
    """Its size, bytes, where that was seen."""
    sha256: str | None
    """Its digest, where it was read."""


@dataclass(frozen=True, kw_only=True)
class Maker(Document):
    """The run of a step that made a file."""

    role: str
    """The output of the step that the file fills."""
    produced_name: str | None
    """The step's own name for it, where the job renamed it."""
    campaign: str
    """Name of the campaign."""
    stage: str
    """Name of the stage."""
    unit: str
    """Name of the unit."""
    attempt: int
    """Number of the attempt."""
    bundle: str
    """Digest of the pipeline's folder that it saw; empty where it is of a time before bundles."""
    execution: Execution
    """What ran."""
    inputs: Sequence[ChosenInput]
    """What the step was to read of the catalogue."""
    attempt_name: str
    """The attempt, as people write it."""


@dataclass(frozen=True, kw_only=True)
class Role(Document):
    """A role of a file as calibration."""

    set_name: str
    """Name of the set."""
    valid_from: datetime
    """When it begins to be valid."""
    valid_until: datetime
    """When it ceases to be."""
    maturity: str
    """``draft``, ``certified`` or ``withdrawn``."""
    at: datetime
    """Since when."""
    who: str
    """Who said so."""
    why: str
    """Why, in their words."""


@dataclass(frozen=True, kw_only=True)
class Refusal(Document):
    """A time when a file was not taken in."""

    path: str
    """Where it was offered."""
    reason: str
    """A code, for queries."""
    at: datetime
    """When."""


@dataclass(frozen=True, kw_only=True)
class Why(Document):
    """Why a file is here, or is not."""

    file: File | None
    """The file; null where none was taken in."""
    made_by: Maker | None
    """What made it; null where people brought it."""
    calibration: Sequence[Role]
    """Its roles as calibration."""
    refused: Sequence[Refusal]
    """The times when it was not taken in."""


@dataclass(frozen=True, kw_only=True)
class CalibrationContext(Document):
    """Calibrations that are pinned under a name."""

    name: str
    """The name."""
    id: str
    """What contexts of the same roles have in common, at any site."""
    roles: int
    """How many calibrations it pins."""
    at: datetime
    """When they were pinned."""
    who: str
    """By whom."""
    why: str
    """Why, in words."""


@dataclass(frozen=True, kw_only=True)
class Calibration(Document):
    """A calibration with the role that it holds now."""

    set: str
    """Name of the set."""
    file: str
    """Name of the file."""
    type: str
    """Its file type."""
    data_id: Mapping[str, str | int]
    """The dimensions that it has a value for."""
    valid_from: datetime
    """When it begins to be valid."""
    valid_until: datetime
    """When it ceases to be."""
    maturity: str
    """``draft``, ``certified`` or ``withdrawn``."""
    at: datetime
    """Since when."""
    who: str
    """Who said so."""
    why: str
    """Why, in their words."""


@dataclass(frozen=True, kw_only=True)
class Registered(Document):
    """A file that was registered."""

    path: str
    """Where it was found."""
    name: str
    """Its name in the catalogue."""
    left_out: Sequence[str]
    """What of its metadata was left out, and why."""


@dataclass(frozen=True, kw_only=True)
class Skipped(Document):
    """A file that was in the catalogue before, with the same bytes."""

    path: str
    """Where it was found."""
    name: str
    """Its name in the catalogue."""


@dataclass(frozen=True, kw_only=True)
class Refused(Document):
    """A file that was not taken in now."""

    path: str
    """Where it was found."""
    reason: str
    """A code, for queries."""
    message: str
    """Why, in words."""


@dataclass(frozen=True, kw_only=True)
class Ingest(Document):
    """What became of each file that was offered."""

    registered: Sequence[Registered]
    """Those that were taken in."""
    skipped: Sequence[Skipped]
    """Those that were there already."""
    refused: Sequence[Refused]
    """Those that were not taken in."""
    left: Sequence[str]
    """Paths of files that were registered, and could not be removed where they came from."""
    hidden: Sequence[str]
    """Paths that were passed over, as their names begin with a dot."""
    not_reached: int
    """How many files were found and not come to."""
