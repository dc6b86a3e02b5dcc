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

CardValue = str | int | float | bool
CARD_BYTES: Final = 80

_CARD: Final = struct.Struct("8s72s")
_VALUE: Final = re.compile(
    rb"= *(?:'(?P<str>(?:[^']|'')*)'|(?P<bool>[TF])|(?P<int>[+-]?\d+)"
    rb"|(?P<float>[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[EDed][+-]?\d+)?|nan|inf(?:inity)?))"
    rb"|(?P<complex>\([^()/]*\)))? *(?:/.*)?",
    re.DOTALL | re.IGNORECASE,
)
_CONTINUED: Final = re.compile(rb" *'(?P<str>(?:[^']|'')*)' *(?:/.*)?", re.DOTALL)
_COMMENTARY: Final = frozenset({b"COMMENT ", b"HISTORY ", b"CONTINUE", b"END     ", b" " * 8})


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
        return list(_CARD.iter_unpack(self.raw))

    @cached_property
    def _fields(self) -> Mapping[bytes, bytes]:
        """Everything behind the keyword, by keyword; where one stands twice, the first counts."""
        return dict(reversed(self._cards))

    @cached_property
    def _hierarch(self) -> Mapping[str, bytes]:
        fields: dict[str, bytes] = {}
        for keyword, field in self._cards:
            if keyword == b"HIERARCH":
                name, equals, value = field.partition(b"=")
                fields.setdefault(" ".join(_text(name).upper().split()), equals + value)
        return fields

    @property
    def name(self) -> str:
        """EXTNAME in capitals, or an empty string."""
        value = self.get("EXTNAME")
        return value.upper() if isinstance(value, str) else ""

    def get(self, keyword: str) -> CardValue | None:
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
        field = self._fields.get(key) if isinstance(key, bytes) else self._hierarch.get(key)
        if field is None or field[:1] != b"=":
            return None
        value = _parse(field)
        if isinstance(value, str) and value.endswith("&"):
            return self._long(field, value)
        return value

    def _long(self, first: bytes, value: str) -> str:
        """Join a long string with the CONTINUE cards right after it; without any, ``&`` is part of the value."""
        start = next(number for number, (_, field) in enumerate(self._cards) if field is first)
        for keyword, field in self._cards[start + 1 :]:
            part = _CONTINUED.fullmatch(field)
            if keyword != b"CONTINUE" or part is None or not value.endswith("&"):
                break
            value = value[:-1] + _string(part["str"])
        return value

    def items(self) -> Iterator[tuple[str, CardValue]]:
        """Yield every keyword that has a value, in order, with that; what is no value of FITS as it is written."""
        seen: set[str] = set()
        for keyword, field in self._cards:
            if keyword == b"END     ":
                return
            name = _text(field.partition(b"=")[0] if keyword == b"HIERARCH" else keyword).strip()
            if keyword in _COMMENTARY or name in seen:
                continue
            seen.add(name)
            try:
                value = self.get(f"HIERARCH {name}" if keyword == b"HIERARCH" else name)
            except ValueError:
                value = _text(field[1:]).strip()
            if value is not None:
                yield name, value


@lru_cache(maxsize=4096)
def _key(keyword: str) -> bytes | str:
    """Return the first eight bytes of a keyword's card, or the words of a HIERARCH keyword."""
    keyword = keyword.upper()
    if len(keyword) > 8 or " " in keyword:
        return " ".join(keyword.removeprefix("HIERARCH ").split())
    return keyword.ljust(8).encode()


def _parse(field: bytes) -> CardValue | None:
    match = _VALUE.fullmatch(field)
    if match is None:
        raise ValueError(f"{_text(field[1:]).strip()!r} is no value of FITS")
    kind = match.lastgroup
    if kind is None:
        return None
    text = match[kind]
    if kind == "str":
        return _string(text)
    if kind == "int":
        return int(text)
    if kind == "float":
        return float(text.upper().replace(b"D", b"E"))
    if kind == "bool":
        return text in b"Tt"
    return _text(text)


def _string(quoted: bytes) -> str:
    """Turn the inside of a quoted string to text: trailing blanks mean nothing, leading ones do."""
    return _text(quoted.replace(b"''", b"'")).rstrip(" ")


def _text(data: bytes) -> str:
    """Decode what should be ASCII and at times is not."""
    return data.decode("latin-1")
