"""The cards of one FITS header, parsed as they are asked for.

This reads what the FITS standard (version 4) says of keyword records, long strings (CONTINUE) and ESO's HIERARCH
included. It exists beside ``astropy.io.fits.Header`` for speed alone: the few cards that a file type wants cost a
hundredth of a parsed header, and jobs need not import astropy.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from functools import cached_property, lru_cache
from typing import Final

from nightmill.files.reading import decoded
from nightmill.model.content import SectionValue

CARD_BYTES: Final = 80
MAX_TEXT: Final = 65_536
"""Characters of one long string; more of them are not a value of anything."""

_CARD: Final = struct.Struct("8s72s")
_VALUE: Final = re.compile(
    rb"= +(?:'(?P<str>(?:[^']|'')*)'|(?P<bool>[TF])|(?P<int>[+-]?\d+)"
    rb"|(?P<float>[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[EDed][+-]?\d+)?|nan|inf(?:inity)?))"
    rb"|(?P<complex>\([^()/]*\)))? *(?:/.*)?",
    re.DOTALL | re.IGNORECASE,
)
_CONTINUED: Final = re.compile(rb" *'(?P<str>(?:[^']|'')*)' *(?:/.*)?", re.DOTALL)
_COMMENTARY: Final = frozenset({b"COMMENT ", b"HISTORY ", b"CONTINUE", b" " * 8})
_END: Final = b"END     "


class Header:
    """One header of a FITS file.

    Parameters
    ----------
    number
        Of its HDU in the file, 0 for the primary one.
    raw
        Its blocks, from the first card to the END card and the blanks after it.
    """

    def __init__(self, number: int, raw: bytes) -> None:
        self.number = number
        self.raw = raw

    @cached_property
    def _cards(self) -> list[tuple[bytes, bytes]]:
        """Keyword and everything behind it of each card, up to END."""
        cards = list(_CARD.iter_unpack(self.raw))
        while cards[-1][0] != _END:
            cards.pop()
        return cards

    @cached_property
    def _fields(self) -> Mapping[bytes, bytes]:
        """Everything behind the keyword, by keyword; where one stands twice, the first counts."""
        fields = dict(reversed(self._cards))
        if b"".join(fields).isupper():
            return fields
        return {keyword.upper(): field for keyword, field in reversed(self._cards)}

    @cached_property
    def _hierarch(self) -> Mapping[str, bytes]:
        """The same of HIERARCH cards, by the words of the keyword."""
        fields = [(_split(field)[0], field) for keyword, field in self._cards if keyword == b"HIERARCH"]
        return dict(reversed(fields))

    @cached_property
    def _numbers(self) -> Mapping[int, int]:
        """The number of each card by the identity of its field."""
        return {id(field): number for number, (_, field) in enumerate(self._cards)}

    @property
    def name(self) -> str:
        """EXTNAME in capitals, or an empty string, also where it cannot be read."""
        try:
            value = self.get("EXTNAME")
        except ValueError:
            return ""
        return value.upper() if isinstance(value, str) else ""

    def get(self, keyword: str) -> SectionValue | None:
        """Return the value of a keyword.

        Parameters
        ----------
        keyword
            In either case; one with more than eight characters or with blanks is a HIERARCH keyword, with or without
            that word in front.

        Returns
        -------
        str, int, float, bool or None
            None where the keyword is not there or has no value. Strings have no blanks at their end. Complex numbers
            are given as they are written.

        Raises
        ------
        ValueError
            Where the value is none that FITS knows.
        """
        key = _key(keyword)
        if isinstance(key, bytes):
            field = self._fields.get(key)
            return None if field is None else self._value(field, field)
        field = self._hierarch.get(key)
        return None if field is None else self._value(field, _split(field)[1])

    def _value(self, field: bytes, text: bytes) -> SectionValue | None:
        """Return the value of a card; ``text`` is what stands behind its keyword, from the equals sign on."""
        if text[:2] != b"= ":
            return None
        value = _parse(text)
        if isinstance(value, str) and value.endswith("&"):
            return self._long(field, text)
        return value

    def _long(self, first: bytes, text: bytes) -> str:
        """Join a long string with the CONTINUE cards right after it; without any, ``&`` is part of the value.

        Joined as bytes: a character may begin on one card and end on the next.
        """
        match = _VALUE.fullmatch(text)
        parts = [_unquoted(match["str"]) if match else b""]
        length = len(parts[0])
        for number in range(self._numbers[id(first)] + 1, len(self._cards)):
            keyword, field = self._cards[number]
            part = _CONTINUED.fullmatch(field)
            if keyword != b"CONTINUE" or part is None or not parts[-1].endswith(b"&"):
                break
            parts[-1] = parts[-1][:-1]
            parts.append(_unquoted(part["str"]))
            length += len(parts[-1])
            if length > MAX_TEXT:
                raise ValueError(f"a text of more than {MAX_TEXT:,} characters")
        return decoded(b"".join(parts))

    def items(self) -> Iterator[tuple[str, SectionValue]]:
        """Yield every keyword that has a value, in order, with that; what is not a value of FITS as it is written."""
        seen: set[str] = set()
        for keyword, field in self._cards:
            name, text = decoded(keyword.upper()).rstrip(), field
            if keyword == b"HIERARCH":
                name, text = _split(field)
            if keyword in _COMMENTARY or name in seen:
                continue
            seen.add(name)
            try:
                value = self._value(field, text)
            except ValueError:
                value = decoded(text[1:]).strip()
            if value is not None:
                yield name, value


def _split(field: bytes) -> tuple[str, bytes]:
    """Return the words of a HIERARCH keyword, and its value as it stands behind any other keyword."""
    name, equals, value = field.partition(b"=")
    return " ".join(decoded(name).upper().split()), equals and b"= " + value


@lru_cache(maxsize=4096)
def _key(keyword: str) -> bytes | str:
    """Return the first eight bytes of a keyword's card, or the words of a HIERARCH keyword."""
    keyword = keyword.upper()
    if len(keyword) > 8 or " " in keyword:
        return " ".join(keyword.removeprefix("HIERARCH ").split())
    return keyword.ljust(8).encode()


def _parse(field: bytes) -> SectionValue | None:
    match = _VALUE.fullmatch(field)
    if match is None:
        raise ValueError(f"{decoded(field[1:]).strip()!r} is not a value of FITS")
    kind = match.lastgroup
    if kind is None:
        return None
    text = match[kind]
    if kind == "str":
        return decoded(_unquoted(text))
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(text.upper().replace(b"D", b"E"))
    if kind == "bool":
        return text in b"Tt"
    return decoded(text)


def _unquoted(quoted: bytes) -> bytes:
    """Return what the inside of a quoted string says: trailing blanks mean nothing, leading ones do."""
    return quoted.replace(b"''", b"'").rstrip(b" ")
