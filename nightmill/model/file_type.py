"""Kinds of files: how they are named, read and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field, JsonValue

from nightmill.model.base import Frozen
from nightmill.model.calibration import Calibration
from nightmill.model.dimensions import KeyType
from nightmill.model.footprint import FootprintKeys

COMPRESSIONS: Final = ("gz", "bz2", "xz", "fz")
"""How the bytes of a file may be compressed, as the end of its name tells; ``fz`` is what fpack makes, a FITS file."""


def compression_of(name: str) -> str:
    """Return how a file is compressed, by its name; an empty string for not at all."""
    stem, _, end = name.lower().rpartition(".")
    return end if stem and end in COMPRESSIONS else ""


class MetadataKey(Frozen):
    """One thing that is wanted of a file's header, under the name that the catalogue gives it.

    ``keywords`` are tried in their order and the first that is present and not empty counts. A key with ``compute``
    is derived from the other keys by a named function, as ``"end_of(begins_at, exposure_seconds)"``.
    """

    keywords: tuple[str, ...] = ()
    """Keywords of the header, tried in their order; what one is depends on the format of the file."""
    type: Literal["str", "int", "float", "bool", "time"] = "str"
    """Of its values; a time is UTC."""
    required: bool = False
    """Whether a file without it is refused."""
    hdu: int | str = 0
    """Number or EXTNAME of the HDU to look in first; the primary header is the fallback."""
    unit: str = ""
    """The unit that the catalogue keeps."""
    keyword_unit: str = ""
    """The unit that the header has, where it differs."""
    values: Mapping[str, str | int | float | None] = Field(default_factory=dict)
    """Replacements: what a header says (as text) to what the catalogue keeps; None where it says nothing."""
    min: float | None = None
    """The least that a number may be, in the unit that the catalogue keeps."""
    max: float | None = None
    """The greatest that a number may be, in the unit that the catalogue keeps."""
    constant: str | int | float | None = None
    """A value for every file of the type, where no keyword holds one."""
    compute: str = ""
    """A call that derives it from other keys."""
    told: bool = False
    """Whether the step that makes a file tells it, where no header can: by the name of the file, or in its sidecar."""


class WarningChecks(Frozen):
    """Checks by their names, with their options, that hold no file back: what they find is told, and on record."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue]


class Checks(Frozen):
    """What a file of the type must be, beside having its required metadata.

    Further checks stand beside those that every type has, by their names: their options, as JSON. What an order says of
    them is what the file type says.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue]

    min_bytes: int = 1
    """The least size, in bytes."""
    min_hdus: int = 1
    """Least number of HDUs, the primary one included (FITS only)."""
    checksum: Literal["if_present", "required", "ignored"] = "if_present"
    """What to do about CHECKSUM and DATASUM (FITS only)."""
    warn: WarningChecks = Field(default=WarningChecks(), exclude_if=lambda warn: warn == WarningChecks())
    """Those that hold no file back: what they find is told, and on record with the file."""

    def asked(self) -> Iterator[tuple[str, Any, bool]]:
        """Yield every check by its name, with its options and whether it warns alone."""
        for name, options in self:
            if name != "warn":
                yield name, options, False
        for name, options in self.warn:
            yield name, options, True

    @classmethod
    def of_every_type(cls, name: str, *, warns: bool = False) -> bool:
        """Whether every type has a check, which therefore does without files that it cannot look at."""
        return name in cls.model_fields and not warns


class Membership(Frozen):
    """A table in a file whose rows say which files belong to which units; they are put on record with the file."""

    columns: tuple[str, ...] | Mapping[str, KeyType] = Field(min_length=1)
    """Of the table, those to put on record; as a mapping, with the types of those that are keys."""
    table: int | str = 1
    """Number or name of the table in its file: of FITS the HDU, of JSON and HDF5 the path to it."""
    told: bool = Field(default=False, exclude_if=lambda told: not told)
    """Whether the step that makes the file tells the rows in its sidecar, and they are not read from the file."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(self.columns)

    @property
    def types(self) -> Mapping[str, KeyType]:
        """The types of those that say theirs."""
        return self.columns if isinstance(self.columns, Mapping) else {}


class FileType(Frozen):
    """A kind of file.

    ``template`` makes the name, as ``"{instrument}_{exposure:08d}_{detector:02d}_c{campaign:04d}a{attempt:02d}.fits"``.
    """

    name: str
    """How everything else speaks of it."""
    description: str = ""
    """What such a file is, in words."""
    format: str = "any"
    """What reads the files: a plug-in; ``any`` takes them as they are."""
    template: str = ""
    """Empty for a type whose files keep the names that they come with (raw files)."""
    name_pattern: str = ""
    """What the names of files say, as ``HAWKI.{begins_at}.fits``: each field is a key of theirs. A name that a step or
    whoever brings the file gave it must fit. Empty for names that say nothing."""
    metadata: Mapping[str, MetadataKey] = Field(default_factory=dict)
    """What is wanted of a header, under the name that the catalogue gives it."""
    checks: Checks = Checks()
    """What a file must be."""
    membership: Membership | None = None
    """What the rows of such a file say of units, where they do."""
    recognise: str = ""
    """An expression over its metadata: a file that is brought and fulfils it is of the type, and no other file is."""
    calibration: Calibration | None = None
    """Makes a file that is brought a calibration, from its own times."""
    footprint: Literal["wcs"] | FootprintKeys | None = None
    """What tells which part of the sky such a file covers, where that is to be on record."""
