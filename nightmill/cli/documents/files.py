"""What verbs print of files: where they came from, what became of them, and in which role they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nightmill.cli.documents import Document
from nightmill.cli.documents.file_warnings import FileWarning
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
    doubt: str
    """Why it could not be had when it was tried last; empty where it could, or was not tried."""


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
    withdrawn_at: datetime | None
    """When it was withdrawn, or another row took its place as it was retyped; null for what holds."""
    copies: Sequence[Copy]
    """Its copies; none where it is known and not kept."""
    warnings: Sequence[FileWarning]
    """What those checks of its type found that hold no file back."""


@dataclass(frozen=True, kw_only=True)
class ShownFile(File):
    """A file of the catalogue, with what made it and the sets that it is a calibration of."""

    made_by: str | None
    """The attempt and the step, as ``first/clean/exposure=1/a01 reduce``."""
    calibrations: Mapping[str, str]
    """Sets of calibrations to its maturity in each."""
    junk: Sequence[JunkMember]
    """What a tar of junk holds; none of any other file."""


@dataclass(frozen=True, kw_only=True)
class JunkMember(Document):
    """What a step left, or the gate refused."""

    step: str
    """The step that left it."""
    path: str
    """Where it was, below the folder of the step; in the tar below the name of the step."""
    kind: str
    """``file``, ``folder`` that was not looked into, ``link to ...``, or ``pipe, socket or device``."""
    size_bytes: int
    """Its size, bytes."""
    sha256: str | None
    """Its digest; null of what is not in the tar."""
    why: str
    """``undeclared``, ``refused`` by the gate, or ``unfinished`` as its step failed."""
    kept: bool
    """Whether it is in the tar."""


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
    """What the step was to read of the catalogue; then what steps before it were to read for files of theirs that it
    read and that are on no record."""
    attempt_name: str
    """The attempt, as people write it."""
    made_of: Sequence[str] | None
    """Names of all that the file was made of, where the step told it; null where it did not."""


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
class Withdrawal(Document):
    """That a file was withdrawn, or retyped."""

    type: str
    """What it was taken for until then."""
    retyped: str
    """What it is taken for since then; empty where it was withdrawn."""
    at: datetime
    """When."""
    who: str
    """By whom."""
    why: str
    """Why, in their words."""


@dataclass(frozen=True, kw_only=True)
class Withdrawn(Document):
    """Files that were withdrawn now."""

    withdrawn: Sequence[str]
    """Their names."""


@dataclass(frozen=True, kw_only=True)
class Retyped(Document):
    """A file that was retyped now."""

    name: str
    """Its name."""
    before: str
    """Its file type until then."""
    type: str
    """Its file type from now on."""
    roles: Sequence[str]
    """Sets that it was a calibration of until then; the new type says of which it is now."""


@dataclass(frozen=True, kw_only=True)
class Why(Document):
    """Why a file is here, or is not."""

    file: File | None
    """The file; null where none was taken in."""
    made_by: Maker | None
    """What made it; null where people brought it."""
    withdrawals: Sequence[Withdrawal]
    """When it was withdrawn or retyped, the first time first."""
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
    type: str
    """Its file type."""
    left_out: Sequence[str]
    """What of its metadata was left out, and why."""
    warnings: Sequence[FileWarning]
    """What those checks of its type found that hold no file back; of a file that was there already, none."""


@dataclass(frozen=True, kw_only=True)
class Skipped(Document):
    """A file that was in the catalogue before, with the same bytes."""

    path: str
    """Where it was found."""
    name: str
    """Its name in the catalogue."""
    type: str
    """Its file type."""


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
class Foreseen(Document):
    """A file that would be registered."""

    path: str
    """Where it was found."""
    type: str
    """Its file type."""
    name: str
    """The name that it would get."""
    store: str
    """The store that it would go to."""
    store_path: str
    """Where it would stand there."""
    size_bytes: int
    """Its size, bytes."""
    sha256: str
    """Its digest."""
    data_id: Mapping[str, str | int]
    """What would stand in the columns of the dimensions."""
    begins_at: datetime | None
    """When what it holds begins."""
    ends_at: datetime | None
    """When what it holds ends."""
    metadata: Mapping[str, Any]
    """What would stand in its metadata."""
    left_out: Sequence[str]
    """What of its metadata would be left out, and why."""
    warnings: Sequence[FileWarning]
    """What those checks of its type found that hold no file back."""
    calibration: ForeseenRole | None
    """Its role as calibration, where its type gives it one."""


@dataclass(frozen=True, kw_only=True)
class ForeseenRole(Document):
    """A role that a file would be given."""

    set_name: str
    """Name of the set."""
    valid_from: datetime
    """When it would begin to be valid."""
    valid_until: datetime
    """When it would cease to be."""
    maturity: str
    """``draft`` or ``certified``."""


@dataclass(frozen=True, kw_only=True)
class DryIngest(Document):
    """What would become of each file that was offered; nothing was done."""

    foreseen: Sequence[Foreseen]
    """Those that would be taken in."""
    skipped: Sequence[Skipped]
    """Those that are there already."""
    refused: Sequence[Refused]
    """Those that would not be taken in."""
    hidden: Sequence[str]
    """Paths that would be passed over, as their names begin with a dot."""


@dataclass(frozen=True, kw_only=True)
class Ingest(Document):
    """What became of each file that was offered."""

    registered: Sequence[Registered]
    """Those that were taken in."""
    copied: Sequence[Registered]
    """Those that were there already, and have a copy in this store now."""
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
