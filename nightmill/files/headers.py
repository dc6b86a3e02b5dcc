"""What a file says of itself: its header and its name become dimensions, times and metadata, as its file type asks.

Nothing but the file is needed: no repository, no configuration, no database.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from math import isfinite
from typing import Final

from nightmill.errors import BadMetadata, BadName
from nightmill.files.computed import Value, parse_call
from nightmill.files.formats import open_format
from nightmill.files.name_patterns import NamePattern, pattern_of, texts_of
from nightmill.files.naming import MAX_VALUE_LENGTH, is_fit
from nightmill.files.reading import StrPath
from nightmill.files.times import clock_keywords, has_clock, parse_days, parse_time
from nightmill.files.units import unit_converter
from nightmill.files.values import CONVERTERS, as_text, is_number, lack_of, limited
from nightmill.model.content import Metadata, Section, SectionValue
from nightmill.model.dimensions import DIMENSIONS, TIMES
from nightmill.model.file_type import FileType, MetadataKey
from nightmill.model.journal import MetadataValue

_JULIAN: Final = re.compile("(?<![HB])MJD|(?<![HBM])JD")
"""Names of keywords and units of days; heliocentric and barycentric ones are of another clock."""


def read_metadata(path: StrPath, file_type: FileType | None = None) -> Metadata:
    """Read the metadata of a file.

    Parameters
    ----------
    file_type
        What is wanted of it. Without one, the file is FITS, and every card of every header that has a value is given
        under its keyword, those of extensions as ``1.EXTNAME``.

    Raises
    ------
    BadFile
        Where it is not whole.
    BadMetadata
        Where a required key has no value (``missing_keyword``), a value cannot be what its key wants or the file ends
        before it begins (``bad_value``), a value is not fit to tell files apart (``unfit_value``), its name does not
        fit the pattern of its type (``other_name``), or header and name disagree (``contradiction``).
    """
    sections = open_format(file_type.format if file_type else "fits").read(path).sections
    return metadata_of(sections, file_type, path) if file_type else Metadata(values=_all_cards(sections))


def metadata_of(
    headers: Sequence[Section],
    file_type: FileType,
    path: StrPath,
    told: Mapping[str, Value] | None = None,
    *,
    own_name: bool = True,
) -> Metadata:
    """Take what a file type wants from the headers and the name of a file.

    Parameters
    ----------
    headers
        Its sections; none for a file that says nothing of itself.
    path
        For messages; its last part is the name.
    told
        What the step that made it tells, which counts where no header says it. None for a file that no step made: what
        only a step can tell is not asked for.
    own_name
        Whether the name is to say something: that of a file that a plan named says nothing new.

    Raises
    ------
    BadMetadata
        As :func:`read_metadata` says.
    """
    reader = _Reader(headers, file_type, path, told)
    if own_name:
        reader.read_name()
    return _sorted_out(reader, reader.read())


def some_metadata(headers: Sequence[Section], file_type: FileType, names: Collection[str], path: StrPath) -> Metadata:
    """Take some keys of a file type alone, whatever else it requires.

    Parameters
    ----------
    headers, path
        As for :func:`metadata_of`.
    names
        The keys; those that a computed one needs are read, too.

    Raises
    ------
    BadMetadata
        Where a value of them cannot be what its key wants.
    """
    wanted = _with_needed(file_type.metadata, names)
    reader = _Reader(headers, file_type, path, None)
    reader.read_name()
    return _sorted_out(reader, reader.values({name: file_type.metadata[name] for name in wanted}))


def _with_needed(metadata: Mapping[str, MetadataKey], names: Iterable[str]) -> list[str]:
    """Return keys, with those that computed ones of them need, each once."""
    wanted: dict[str, None] = {}
    waiting = [name for name in names if name in metadata]
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted[name] = None
            compute = metadata[name].compute
            waiting += [need for need in parse_call(compute).keys if need in metadata] if compute else []
    return list(wanted)


def _sorted_out(reader: _Reader, found: Mapping[str, Value]) -> Metadata:
    """Divide values in dimensions, times and everything else."""
    data_id: dict[str, str | int] = {}
    values: dict[str, MetadataValue] = {}
    times: dict[str, datetime] = {}
    for name, value in found.items():
        if name in DIMENSIONS and isinstance(value, str | int):
            data_id[name] = value
        elif not isinstance(value, datetime):
            values[name] = value
        elif name in TIMES:
            times[name] = value
        else:
            values[name] = value.isoformat(timespec="microseconds")
    left_out = tuple([f"{name}: {why}" for name, why in reader.no_value.items() if name not in found])
    return Metadata(data_id, times.get("begins_at"), times.get("ends_at"), values, left_out)


def _elsewhere(key: MetadataKey) -> str:
    return "told by its step" if key.told else "its name"


class _Reader:
    def __init__(
        self, headers: Sequence[Section], file_type: FileType, path: StrPath, told: Mapping[str, Value] | None
    ) -> None:
        self.headers = headers
        self.file_type = file_type
        self.path = path
        self.told = told
        self.no_value: dict[str, str] = {}
        """What the header has for a key and is not a value."""
        self.pattern: NamePattern | None = None
        self.of_name: Mapping[str, str] = {}
        """The parts of its name, by the keys that they give."""

    def read_name(self) -> None:
        """Read what the name says, where the type has a pattern of it."""
        if (pattern := pattern_of(self.file_type)) is None:
            return
        name = os.fspath(self.path).rpartition("/")[2]
        try:
            self.of_name = texts_of(name, pattern)
        except BadName as error:
            raise BadMetadata(
                f"{self.path}: {error}, which is the name_pattern of file type {self.file_type.name!r}",
                reason="other_name",
            ) from error
        self.pattern = pattern

    def read(self) -> dict[str, Value]:
        wanted = self.file_type.metadata
        found = self.values(wanted)
        missing = [
            name
            for name, key in wanted.items()
            if key.required and name not in found and not (key.told and self.told is None)
        ]
        if missing:
            raise self.lacks(missing)
        self.check_values(found)
        return found

    def values(self, wanted: Mapping[str, MetadataKey]) -> dict[str, Value]:
        """Return the values of keys, those that are computed last."""
        found: dict[str, Value] = {}
        for name, key in wanted.items():
            value = None if key.compute else self.look_up(name, key)
            if value is None and self.told is not None and not key.compute:
                value = self.told.get(name)
            if (value := self.agreed(name, value)) is None and not key.compute:
                value = key.constant
            if value is not None:
                found[name] = value
        for name in self.of_name:
            if name not in wanted and (value := self.agreed(name, None)) is not None:
                found[name] = value
        for name in computing_order(wanted) if any(key.compute for key in wanted.values()) else ():
            try:
                value = parse_call(wanted[name].compute)(found)
            except ValueError as error:
                raise self.refuse(name, str(error), "bad_value") from error
            if (value := self.agreed(name, value)) is not None:
                found[name] = value
        return found

    def check_values(self, found: Mapping[str, Value]) -> None:
        """Refuse what cannot tell files apart, and a time that ends before it begins."""
        for name in DIMENSIONS:
            if isinstance(value := found.get(name), str):
                self.check_text(name, value)
        begins_at, ends_at = found.get("begins_at"), found.get("ends_at")
        if isinstance(begins_at, datetime) and isinstance(ends_at, datetime) and ends_at < begins_at:
            raise self.refuse("ends_at", f"it ends at {ends_at}, before it begins at {begins_at}", "bad_value")

    def agreed(self, name: str, value: Value | None) -> Value | None:
        """Return the value that header and name of the file give a key, where they agree: that of the header.

        A constant of a key counts where neither has one.
        """
        if self.pattern is None or (text := self.of_name.get(name)) is None:
            return value
        key = self.file_type.metadata.get(name, MetadataKey())
        read = self.pattern.value(name, text)
        replaced = key.values.get(text, read)
        if replaced is None:
            return value
        if (
            value is not None
            and value != replaced
            and not (replaced is read and self.pattern.agrees(name, text, value))
        ):
            shown = value.isoformat() if isinstance(value, datetime) else value
            raise self.refuse(name, f"its header says {shown}, its name {text}", "contradiction")
        if value is not None or isinstance(replaced, datetime) or key.compute:
            return replaced if value is None else value
        try:
            return limited(replaced if replaced is read else CONVERTERS[key.type](replaced), key)
        except ValueError as error:
            raise self.refuse(name, f"{text} of its name: {error}", "bad_value") from error

    def look_up(self, name: str, key: MetadataKey) -> Value | None:
        """Return the first value that is present and not empty, converted; None where there is none."""
        for keyword in key.keywords:
            for header in self.places(key.hdu):
                try:
                    raw = header.get(keyword)
                    if raw is None or (isinstance(raw, str) and not raw.strip()):
                        continue
                    value = self.convert(raw, keyword, key, header)
                except ValueError as error:
                    raise self.refuse(name, f"{self.at(keyword, header)}: {error}", "bad_value") from error
                if lack := lack_of(value, name):
                    self.no_value.setdefault(name, f"{self.at(keyword, header)} {lack}")
                elif value is not None:
                    return value
        return None

    def at(self, keyword: str, header: Section) -> str:
        """Name the place of a value, for messages."""
        if self.file_type.format == "fits":
            return f"{keyword} of HDU {header.number}"
        return f"{keyword} of section {header.number}" if len(self.headers) > 1 else keyword

    def places(self, hdu: int | str) -> Sequence[Section]:
        """Return the headers to look in: that of an HDU, then the primary one."""
        primary = self.headers[:1]
        if hdu == 0:
            return primary
        if isinstance(hdu, int):
            return (*self.headers[hdu : hdu + 1], *primary)
        own = [header for header in self.headers if header.name == hdu.upper()][:1]
        return (*own, *primary)

    def convert(self, raw: SectionValue, keyword: str, key: MetadataKey, header: Section) -> Value | None:
        """Return the value of a card as its key wants it; a number that is not finite as it is."""
        replaced: SectionValue | None = raw
        if key.values:
            short = f"{raw:g}" if isinstance(raw, float) else ""
            replaced = key.values.get(as_text(raw), key.values.get(short, raw))
        if isinstance(replaced, str) and key.type in ("int", "float") and is_number(replaced, finite=False):
            replaced = float(replaced)
        if replaced is None or (isinstance(replaced, float) and not isfinite(replaced)):
            return replaced
        if key.type == "time":
            return self.time(replaced, keyword, key, header)
        value = CONVERTERS[key.type](replaced)
        if key.keyword_unit and isinstance(value, int | float):
            value = CONVERTERS[key.type](unit_converter(key.keyword_unit, key.unit)(value))
        return limited(value, key)

    def time(self, raw: SectionValue, keyword: str, key: MetadataKey, header: Section) -> datetime:
        timesys = self.text_of(("TIMESYS",), header) or "UTC"
        if isinstance(raw, str) and not is_number(raw):
            clock = "" if has_clock(raw) else self.clock(clock_keywords(keyword), header)
            try:
                return parse_time(raw, clock, timesys)
            except ValueError as error:
                raise ValueError(f"{raw!r}: {error}") from None
        count = key.unit.upper() or keyword.upper()
        if isinstance(raw, bool) or not _JULIAN.search(count):
            raise ValueError(f"{as_text(raw)} is not a date; if it is a (Modified) Julian Date, say unit: MJD or JD")
        try:
            return parse_days(float(raw), "MJD" if "MJD" in count else "JD", timesys)
        except ValueError as error:
            raise ValueError(f"{raw}: {error}") from None

    def clock(self, keywords: Sequence[str], header: Section) -> str:
        """Return the time of day under the first keyword that has one; refuse a number, whose unit nobody tells."""
        if clock := self.text_of(keywords, header):
            return clock
        for keyword in keywords:
            for each in (header, self.headers[0]):
                if isinstance(value := each.get(keyword), int | float):
                    raise ValueError(f"its time of day stands under {keyword}, which is {value} and not hh:mm:ss")
        return ""

    def text_of(self, keywords: Sequence[str], header: Section) -> str:
        """Return the first text that a header, or the primary one, has under some keywords."""
        for keyword in keywords:
            for each in (header, self.headers[0]):
                value = each.get(keyword)
                if isinstance(value, str) and value.strip():
                    return value.strip()
        return ""

    def check_text(self, name: str, value: str) -> None:
        """Refuse a text that is not an identifier where it would tell files apart."""
        if not is_fit(value):
            shown = value if len(value) <= 60 else f"{value[:60]}... ({len(value)} characters)"
            raise self.refuse(
                name,
                f"{shown!r} cannot tell files apart: names are made of it, and take at most {MAX_VALUE_LENGTH}"
                " letters, digits and . _ + -, not . or - first",
                "unfit_value",
                f"say what it means here under 'values' of {name} in file type {self.file_type.name!r}",
            )

    def lacks(self, names: Sequence[str]) -> BadMetadata:
        parts = [
            f"{name} ({self.no_value.get(name) or ' or '.join(key.keywords) or key.compute or _elsewhere(key)})"
            for name, key in self.file_type.metadata.items()
            if name in names
        ]
        return BadMetadata(
            f"{self.path} has no value for {', '.join(parts)}, which file type {self.file_type.name!r} requires",
            reason="missing_keyword",
        )

    def refuse(self, name: str, why: str, reason: str, remedy: str = "") -> BadMetadata:
        return BadMetadata(f"{self.path}: {name}: {why}", reason=reason, remedy=remedy)


def computing_order(metadata: Mapping[str, MetadataKey]) -> tuple[str, ...]:
    """Return the computed keys of a file type, each after those that it needs.

    Raises
    ------
    ConfigError
        Where an expression cannot be parsed.
    ValueError
        Where keys need each other in a circle; its arguments are their names.
    """
    return _order(tuple([(name, key.compute) for name, key in metadata.items() if key.compute]))


@lru_cache(maxsize=1024)
def _order(computed: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    pending = {name: parse_call(text).keys for name, text in computed}
    order: list[str] = []
    while pending:
        ready = [name for name, needs in pending.items() if not any(need in pending for need in needs)]
        if not ready:
            raise ValueError(*pending)
        order += ready
        for name in ready:
            del pending[name]
    return tuple(order)


def _all_cards(headers: Sequence[Section]) -> dict[str, MetadataValue]:
    return {
        f"{header.number}.{keyword}" if header.number else keyword: value
        for header in headers
        for keyword, value in header.items()
    }
