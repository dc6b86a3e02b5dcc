"""Names that programs give to what they make: the values of keys, read back from a name by a pattern with fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from math import isfinite
from string import Formatter
from typing import Final

from nightmill.errors import BadName
from nightmill.files.naming import is_fit
from nightmill.model.dimensions import KeyType, KeyValue

ANY: Final = "A-Za-z0-9._+-"
"""What any value of a name is written with, as a part of a regular expression."""
_FORMATS: Final[Mapping[str, tuple[str, str]]] = {
    "int": ("0-9-", r"0?\d{0,3}d?"),
    "float": ("0-9.eE+-", r"0?\d{0,3}(\.\d{1,3})?[eEfFgG]?"),
    "str": (ANY, ""),
}
"""What the values of each type are written with, by formats of this kind."""
_MAX_DIGITS: Final = 20


def fields_in(pattern: str) -> tuple[str, ...]:
    """Return the fields of a pattern in their order; none of a glob.

    Raises
    ------
    BadName
        Where its braces are not those of fields.
    """
    return tuple([field for _literal, field, _spec in _parts(pattern) if field is not None])


def written_with(kind: KeyType, spec: str) -> str | None:
    """Return the characters with which a format writes values; None where it may write others, or change a value."""
    characters, formats = _FORMATS.get(kind, ("", "(?!)"))
    return characters if re.fullmatch(formats, spec) else None


def _parts(pattern: str) -> list[tuple[str, str | None, str]]:
    try:
        parts = list(Formatter().parse(pattern))
    except ValueError as error:
        raise _bad(pattern, str(error)) from error
    for _literal, field, spec, conversion in parts:
        if field is not None and (not field.isidentifier() or conversion or "{" in (spec or "")):
            raise _bad(pattern, f"the field {field!r} is not a plain name")
    return [(literal, field, spec or "") for literal, field, spec, _conversion in parts]


class NamePattern:
    """A name with fields, as ``im{exposure:06d}.head``, that reads back what was written into it.

    A name has one reading or none: a value that is followed by text ends where this text begins first.

    Parameters
    ----------
    text
        Literal text, and at least one field.
    kinds
        The types of the keys that the fields are of.

    Raises
    ------
    BadName
        Where it cannot be read back; says why.
    """

    def __init__(self, text: str, kinds: Mapping[str, KeyType]) -> None:
        self.text = text
        self._fields: list[tuple[str, KeyType, str]] = []
        parts = [*_parts(text), ("", None, "")]
        expression = ""
        for (literal, field, spec), (after, following, _spec) in pairwise(parts):
            expression += re.escape(literal)
            if field is None:
                continue
            kind = kinds[field]
            characters = self._characters(field, kind, spec)
            self._fields.append((field, kind, spec))
            expression += (
                f"([{characters}]+)" if following is None else self._until(field, kind, f"[{characters}]", after)
            )
        self._expression = re.compile(expression)

    def _characters(self, field: str, kind: KeyType, spec: str) -> str:
        if kind not in _FORMATS:
            raise _bad(self.text, f"{field} is of type {kind}, and a name tells texts and numbers")
        if field in [each for each, _kind, _spec in self._fields]:
            raise _bad(self.text, f"it has {{{field}}} twice")
        if (characters := written_with(kind, spec)) is None:
            raise _bad(self.text, f"{field} is of type {kind}, and what {spec!r} writes cannot be read back")
        return characters

    def _until(self, field: str, kind: KeyType, allowed: str, after: str) -> str:
        """Return what a value is that another field comes after: it ends where the text between them begins."""
        if not after:
            raise _bad(self.text, f"nothing stands behind {{{field}}} that tells where it ends")
        if kind != "str" and re.fullmatch(allowed, after[0]):
            raise _bad(self.text, f"{after[0]!r} behind {{{field}}} may be a part of the number")
        return f"((?:(?!{re.escape(after[0])}){allowed})+)"

    def match(self, name: str) -> dict[str, KeyValue] | None:
        """Return the values that a name has; None where it was not written so.

        Numbers are as their formats write them: ``im12.head`` is not of ``im{exposure:06d}.head``.
        """
        found = self._expression.fullmatch(name)
        if found is None:
            return None
        values: dict[str, KeyValue] = {}
        for (field, kind, spec), text in zip(self._fields, found.groups(), strict=True):
            value = _value(text, kind)
            if value is None or format(value, spec) != text:
                return None
            values[field] = value
        return values


def _value(text: str, kind: KeyType) -> KeyValue | None:
    if kind == "str":
        return text if is_fit(text) else None
    try:
        number = float(text)
        if kind == "float":
            return number if isfinite(number) else None
        return int(text) if len(text) <= _MAX_DIGITS else None
    except ValueError:
        return None


def _bad(pattern: str, why: str) -> BadName:
    return BadName(f"{pattern!r} cannot be read as a name with fields: {why}", remedy="write fields as {exposure:06d}")
