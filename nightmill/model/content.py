"""What a file holds: as its format reads it, and as its checks look at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from nightmill.model.dimensions import DataId
from nightmill.model.journal import MetadataValue

SectionValue = str | int | float | bool

SAID_BYTES: Final = 4096
"""So much of the last that a program wrote is looked at."""


class Section(Protocol):
    """A part of a file that says something of itself under keywords, as the header of an HDU does."""

    @property
    def number(self) -> int:
        """Its place in the file, from 0."""
        ...

    @property
    def name(self) -> str:
        """Its name in capitals; empty where it has none."""
        ...

    def get(self, keyword: str) -> SectionValue | None:
        """Return the value of a keyword; None where it is not there or has no value.

        Raises
        ------
        ValueError
            Where what stands there is not a value.
        """
        ...

    def items(self) -> Iterator[tuple[str, SectionValue]]:
        """Yield every keyword that has a value, once and in order, with that value."""
        ...


class Digest(Protocol):
    """Takes in bytes, as the objects of :mod:`hashlib` do."""

    def update(self, data: bytes, /) -> None:
        """Take in the bytes that follow."""
        ...


class Content(NamedTuple):
    """What a format found in a file that is whole."""

    sections: tuple[Section, ...]
    """Numbered by their places. The first is where a key looks that no other section has."""
    size_bytes: int
    compression: str | None = None
    """What its bytes are inside of: ``gz``, ``bz2``, or nothing; None where nobody looked into it."""
    unsigned: tuple[str, ...] = ()
    """Which parts hold no checksum of their own, as sentences about the file: ``HDU 1 has no CHECKSUM and DATASUM``."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a file says of itself, under the names that the catalogue gives it.

    Parameters
    ----------
    data_id
        The dimensions that it has.
    begins_at, ends_at
        UTC, or None.
    values
        Everything else; times in here are ISO 8601 texts, UTC, to the microsecond.
    left_out
        What the header has for an optional key and is not a value, one sentence each: ``airmass: AIRMASS of HDU 0 is
        nan``.
    """

    data_id: DataId = field(default_factory=dict)
    begins_at: datetime | None = None
    ends_at: datetime | None = None
    values: Mapping[str, MetadataValue] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProgramRun:
    """What a program that looks at a file is run with.

    Parameters
    ----------
    argv
        Program and arguments; no shell sees them.
    folder
        Where it works: an empty folder of its own.
    environment
        The whole of it.
    file
        What it looks at, by the path that it was given.
    seconds
        How long it may take.
    """

    argv: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    file: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ProgramEnd:
    """How a program ended.

    Parameters
    ----------
    code
        Its exit code, the number of a signal with a minus before it; None where it had to be ended.
    said
        The last of what it wrote: so much as :data:`SAID_BYTES` says at most.
    """

    code: int | None
    said: bytes


class Programs(Protocol):
    """Runs programs that look at files."""

    @property
    def root(self) -> Path | None:
        """Where the folders are made that they work in; None for where the system has such."""
        ...

    def path_of(self, path: str) -> str:
        """Return where a program finds what this process finds by a path."""
        ...

    def run(self, program: ProgramRun) -> ProgramEnd:
        """Run a program, and end it where it takes too long, and all that it started.

        Raises
        ------
        OSError
            Where it cannot be started.
        BadFile
            Where it must not be started.
        """
        ...


class Candidate(NamedTuple):
    """A file that its format has read, for checks to look at."""

    name: str
    """What messages call it."""
    path: str
    """Leads to its bytes, and to no others, as long as checks look at it."""
    content: Content
    told: Callable[[], Metadata]
    format: str = ""
    """What read it."""
    sha256: str = ""
    """Hexadecimal digits."""
    pipeline_dir: str = ""
    """Leads to the bundle of the pipeline whose step made it; empty for any other file."""
    programs: Programs | None = None
    """Runs programs as a step is run, where one made the file: confined, and ended with all that they leave."""

    @property
    def metadata(self) -> Metadata:
        """What its type wants of it, read anew at each call.

        Raises
        ------
        BadMetadata
            Where it has not got that; let it pass.
        """
        return self.told()


@dataclass(frozen=True, slots=True)
class StepInput:
    """A file that the step read which made a candidate.

    Parameters
    ----------
    role
        What it is for the step.
    type
        Name of its file type.
    path
        Leads to its bytes, as long as checks look.
    """

    name: str
    role: str
    type: str
    path: str
