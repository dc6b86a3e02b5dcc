"""Templates read backwards: what the name of a file says, in the place of the fields that would make it.

Names are given by those who bring files, or by the programs that make them. A name is read strictly: what is read makes
the same name again. A text takes letters, digits and ``. _ + -``, as one that becomes part of a name does, a number
digits, a time what dates and times are written with. No field is greedy: a name that can be read in two ways is
refused, with both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from math import isfinite
from string import Formatter
from typing import Final, NamedTuple

from nightmill.errors import BadName
from nightmill.files.computed import type_of
from nightmill.files.naming import ATTEMPT_FIELDS, MAX_VALUE_LENGTH, STEM, Template, is_fit
from nightmill.files.times import has_clock, parse_time
from nightmill.model.dimensions import DIMENSIONS, NAME, TIMES, KeyType
from nightmill.model.file_type import FileType, compression_of

NameValue = str | int | float | datetime

_SPECS: Final[Mapping[KeyType, str]] = {
    "str": "",
    "int": "(0[1-9][0-9]{0,2})?d?",
    "float": r"((0[1-9][0-9]{0,2})?\.[0-9]{1,3}[efgEFG])?",
    "time": "",
}
"""Formats that write no blanks, and change no value but for the digits of a number."""
_CHARACTERS: Final[Mapping[KeyType, str]] = {
    "str": "A-Za-z0-9._+-",
    "int": "0-9-",
    "float": "0-9.eE+-",
    "time": "0-9TZ:.+-",
}
_RUNS: Final = {kind: re.compile(f"[{characters}]+") for kind, characters in _CHARACTERS.items()}
_MAX_DIGITS: Final = 20
"""Of a whole number."""


def characters_of(kind: KeyType, spec: str) -> str:
    """Return what a format writes the values of a key with: characters as in the brackets of a regular expression."""
    return _CHARACTERS[kind if re.fullmatch(_SPECS.get(kind, "(?!)"), spec) else "str"]


def fields_in(text: str) -> tuple[str, ...]:
    """Return the fields of a text in their order; none of a glob.

    Raises
    ------
    BadName
        Where its braces are not those of fields.
    """
    return tuple([field for _before, field, _spec in _parts(text) if field is not None])


def _parts(text: str) -> list[tuple[str, str | None, str]]:
    """Return the fields of a text, each with the text before it and its format; None stands for the end."""
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise _bad(text, str(error)) from error
    for _before, field, spec, conversion in parts:
        if field is not None and (not field.isidentifier() or conversion or "{" in (spec or "")):
            raise _bad(text, f"the field {field!r} is not a plain name")
    return [(before, field, spec or "") for before, field, spec, _conversion in parts]


class _Field(NamedTuple):
    """A field, and the text between it and the field before it."""

    before: str
    name: str
    kind: KeyType
    spec: str
    digits: int
    """Of a whole number that touches another field; 0 where what is around it ends it."""

    def __str__(self) -> str:
        return f"{{{self.name}:{self.spec}}}" if self.spec else f"{{{self.name}}}"

    def value(self, text: str) -> NameValue | None:
        """Return what a text says; None where this field never writes it."""
        try:
            match self.kind:
                case "int":
                    number = int(text) if len(text) <= _MAX_DIGITS else None
                    return number if format(number, self.spec) == text else None
                case "float":
                    real = float(text)
                    return real if isfinite(real) and (not self.spec or format(real, self.spec) == text) else None
                case "time":
                    return parse_time(text)
                case _:
                    return text if is_fit(text) else None
        except ValueError:
            return None

    def ends(self, name: str, start: int, then: str) -> Iterator[int]:
        """Yield where a value that begins at a place may end, with ``then`` behind it."""
        run = _RUNS[self.kind].match(name, start)
        if run is None:
            return
        if self.digits:
            end = start + self.digits
            if run.end() >= end and name[start:end].isdecimal() and name.startswith(then, end):
                yield end
            return
        for end in range(start + 1, min(run.end(), start + MAX_VALUE_LENGTH) + 1):
            if name.startswith(then, end):
                yield end


class NamePattern:
    """A template of names, to be read backwards.

    Parameters
    ----------
    text
        Literal text and fields with or without formats: ``im{exposure:06d}.head``.
    kinds
        The type of the values of each field that is not a text.

    Raises
    ------
    BadName
        Where it cannot be parsed, names could be read in more than one way whatever they are, or a format is not one
        that can be read backwards: ``{exposure:06d}`` of a whole number, ``{seconds:.1f}`` of another, none of a text
        or time.
    """

    __slots__ = ("_fields", "_tail", "text")

    def __init__(self, text: str, kinds: Mapping[str, KeyType]) -> None:
        self.text = text
        parts = _parts(text)
        self._tail = parts.pop()[0] if parts and parts[-1][1] is None else ""
        self._fields: list[_Field] = []
        for number, (before, field, spec) in enumerate(parts):
            assert field is not None
            touches = (number > 0 and not before) or (number + 1 < len(parts) and not parts[number + 1][0])
            self._fields.append(self._made(before, field, kinds.get(field, "str"), spec, touches=touches))
        for one, other in zip(self._fields, self._fields[1:], strict=False):
            if not other.before and not (one.digits or other.digits):
                raise self._bad(f"nothing stands between {one} and {other}, to tell where the one ends")
        if len(set(self.fields)) < len(self._fields):
            raise self._bad("a field stands in it twice")
        if not self._fields:
            raise self._bad("it has no field: nothing can be read of a name")

    def __repr__(self) -> str:
        return f"NamePattern({self.text!r})"

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of its fields, in their order."""
        return tuple([each.name for each in self._fields])

    def match(self, name: str) -> dict[str, NameValue]:
        """Return what a name says, by the names of the fields.

        Raises
        ------
        BadName
            Where it does not fit, or can be read in two ways.
        """
        return {field: self.value(field, text) for field, text in self.texts(name).items()}

    def fits(self, name: str) -> bool:
        """Say whether a name can be read, be it in two ways."""
        try:
            return bool(self._readings(name))
        except BadName:
            return False

    def value(self, field: str, text: str) -> NameValue:
        """Return what a part of a name says, as :meth:`texts` gives it."""
        value = self._field(field).value(text)
        assert value is not None, text
        return value

    def texts(self, name: str) -> dict[str, str]:
        """Return the part of a name that stands for each field.

        Raises
        ------
        BadName
            As :meth:`match`.
        """
        one, *others = [dict(zip(self.fields, way, strict=True)) for way in self._readings(name)]
        if others:
            both = (", ".join(map("=".join, way.items())) for way in (one, *others[:1]))
            raise BadName(f"{name!r} can be read in two ways by {self.text!r}: {', or '.join(both)}")
        return one

    def _readings(self, name: str) -> Sequence[tuple[str, ...]]:
        """Return the parts of a name that stand for the fields; of many ways, two or more."""
        ways: dict[int, list[tuple[str, ...]]] = {0: [()]}
        for field, then in zip(self._fields, [*(each.before for each in self._fields[1:]), self._tail], strict=True):
            begun = {at + len(field.before): way for at, way in ways.items() if name.startswith(field.before, at)}
            if not begun:
                raise self._unfit(name, f"{field.before!r} does not stand at {name[max(ways) :]!r}")
            ways = {}
            for start, before in begun.items():
                for end in field.ends(name, start, then):
                    found = ways.setdefault(end, [])
                    if len(found) < 2 and field.value(name[start:end]) is not None:
                        found += [(*way, name[start:end]) for way in before[: 2 - len(found)]]
            if not any(ways.values()):
                raise self._unfit(name, f"{field}{then} cannot be read at {name[max(begun) :]!r}")
        read = [way for at, found in ways.items() if name[at:] == self._tail for way in found]
        if not read:
            raise self._unfit(name, f"it goes on after {field}{self._tail}")
        return read

    def agrees(self, field: str, text: str, value: NameValue) -> bool:
        """Say whether a value is what a part of a name says, as precisely as that says it.

        Parameters
        ----------
        text
            As :meth:`texts` gives it.
        value
            Of the type of the field.
        """
        own = self._field(field)
        if isinstance(value, datetime):
            decimals = re.search(r"\.([0-9]+)", text)
            second = 10.0 ** -len(decimals[1]) if decimals else 1.0 if text.count(":") > 1 else 60.0
            off = abs((value - parse_time(text)).total_seconds())
            return off < (max(second, 1e-6) if has_clock(text) else 86_400)
        return value == own.value(text) or format(value, own.spec) == text

    def _field(self, name: str) -> _Field:
        return next(each for each in self._fields if each.name == name)

    def _made(self, before: str, name: str, kind: KeyType, spec: str, *, touches: bool) -> _Field:
        if kind not in _SPECS:
            raise self._bad(f"{name} is of type {kind}, which no name says")
        if not re.fullmatch(_SPECS[kind], spec):
            raise self._bad(f"the format {spec!r} of {{{name}}} cannot be read backwards for a value of type {kind}")
        width = re.match("0([0-9]+)", spec)
        digits = int(width[1]) if touches and width and kind == "int" else 0
        return _Field(before, name, kind, spec, digits)

    def _unfit(self, name: str, why: str) -> BadName:
        return BadName(f"{name!r} does not fit {self.text!r}: {why}")

    def _bad(self, why: str) -> BadName:
        return _bad(self.text, why)


def _bad(text: str, why: str) -> BadName:
    return BadName(f"pattern {text!r} cannot be read backwards: {why}")


def name_kinds(file_type: FileType) -> dict[str, KeyType]:
    """Return the types of the keys that the names of files of a type give; none where they give none.

    That of a key of its metadata or a dimension; else by its format a whole number (``d``), another (``f``) or a text.

    Raises
    ------
    BadName
        Where its pattern cannot be parsed.
    """
    return {field: _kind(file_type, field, spec) for field, spec in _specs(file_type.name_pattern)}


@lru_cache(maxsize=1024)
def _specs(text: str) -> tuple[tuple[str, str], ...]:
    """Return the fields of a template, each with its format."""
    Template(text)
    return tuple([(field, spec) for _before, field, spec in _parts(text) if field])


def _kind(file_type: FileType, field: str, spec: str) -> KeyType:
    if (key := file_type.metadata.get(field)) is not None:
        return type_of(key)
    if field in DIMENSIONS:
        return "int" if DIMENSIONS[field] is int else "str"
    if field in TIMES:
        return "time"
    return "int" if spec.endswith("d") else "float" if spec.endswith("f") else "str"


def pattern_of(file_type: FileType) -> NamePattern | None:
    """Return what reads the names of files of a type; None where they say nothing.

    Raises
    ------
    BadName
        Where its pattern cannot be read backwards, or has a field that is not a key of files.
    """
    kinds = name_kinds(file_type)
    return _pattern(file_type.name_pattern, tuple(kinds.items())) if kinds or file_type.name_pattern else None


@lru_cache(maxsize=1024)
def _pattern(text: str, kinds: tuple[tuple[str, KeyType], ...]) -> NamePattern:
    for name, _ in kinds:
        if name in (*ATTEMPT_FIELDS, NAME, STEM):
            raise BadName(f"pattern {text!r} has the field {{{name}}}, which is not a key of files")
    return NamePattern(text, dict(kinds))


def texts_of(name: str, pattern: NamePattern) -> dict[str, str]:
    """Return what the name of a file says; a pattern may leave out the end that tells how its bytes are compressed.

    Raises
    ------
    BadName
        As :meth:`NamePattern.texts`, of the whole name.
    """
    compression = compression_of(name)
    if compression:
        try:
            return pattern.texts(name[: -len(compression) - 1])
        except BadName:
            pass
    return pattern.texts(name)
