"""Values: what a header says, made what a key wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from operator import gt, lt
from typing import Final

from nightmill.files.computed import Value
from nightmill.model.content import SectionValue
from nightmill.model.dimensions import DIMENSIONS
from nightmill.model.file_type import MetadataKey

_INT64: Final = range(-(1 << 63), 1 << 63)
_BOOLS: Final = {"T": True, "TRUE": True, "YES": True, "1": True, "F": False, "FALSE": False, "NO": False, "0": False}


def limited(value: str | int | float, key: MetadataKey) -> str | int | float:
    """Return a value that is within the limits of its key.

    Raises
    ------
    ValueError
        Where it is not.
    """
    if isinstance(value, int | float):
        for limit, beyond, than in ((key.min, lt, "less"), (key.max, gt, "more")):
            if limit is not None and beyond(value, limit):
                raise ValueError(f"{value} is {than} than {limit:g}")
    return value


def as_text(raw: SectionValue) -> str:
    """Return what a header says as text."""
    if isinstance(raw, bool):
        return "T" if raw else "F"
    return str(raw).strip()


def lack_of(value: Value | None, name: str) -> str:
    """Say why what the header has is not a value; texts that tell files apart are looked at elsewhere."""
    if isinstance(value, float) and not isfinite(value):
        return f"is {value}"
    if isinstance(value, str) and not value.isprintable() and name not in DIMENSIONS:
        return "holds control characters"
    return ""


def is_number(text: str, *, finite: bool = True) -> bool:
    """Say whether a text is a number, finite or not."""
    try:
        return isfinite(float(text)) is finite
    except ValueError:
        return False


def _int(raw: SectionValue) -> int:
    if isinstance(raw, bool):
        raise ValueError(f"{as_text(raw)} is not a whole number")
    try:
        value = raw if isinstance(raw, int) else int(raw) if isinstance(raw, str) and "." not in raw else float(raw)
        if value != int(value):
            raise ValueError
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{raw!r} is not a whole number") from error
    if int(value) not in _INT64:
        raise ValueError(f"{raw!r} is too large")
    return int(value)


def _float(raw: SectionValue) -> float:
    if isinstance(raw, bool):
        raise ValueError(f"{as_text(raw)} is not a number")
    try:
        return float(raw)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{raw!r} is not a number") from error


def _bool(raw: SectionValue) -> bool:
    if isinstance(raw, bool):
        return raw
    value = _BOOLS.get(as_text(raw).upper())
    if value is None:
        raise ValueError(f"{raw!r} is neither true nor false")
    return value


CONVERTERS: Final[Mapping[str, Callable[[SectionValue], str | int | float | bool]]] = {
    "str": as_text,
    "int": _int,
    "float": _float,
    "bool": _bool,
}
"""What makes a value of each type of what a header says; they raise ValueError where it cannot be."""
