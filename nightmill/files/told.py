"""What a step tells of its files beside their headers: each value must be of its key's type, and is never converted."""

from __future__ import annotations

from math import isfinite
from typing import Final

from nightmill.files.computed import Value
from nightmill.files.naming import MAX_VALUE_LENGTH, is_fit
from nightmill.files.times import parse_time
from nightmill.model.dimensions import DIMENSIONS, KeyType
from nightmill.model.file_type import MetadataKey

_INT64: Final = range(-(1 << 63), 1 << 63)


def told_value(raw: object, name: str, kind: KeyType, key: MetadataKey | None = None) -> Value:
    """Return a value that a name or a sidecar tells, as a header would have given it.

    Parameters
    ----------
    raw
        As JSON has it; a time as ISO 8601 text, UTC where it has no zone.
    name
        Of the key.
    kind
        Its type at the site.
    key
        What the file type says of it; None where it says nothing, as of a dimension.

    Raises
    ------
    ValueError
        Where it is of another type, or not a value; says why.
    """
    value = _of_kind(raw, kind)
    if isinstance(value, str):
        _check_text(value, name)
    if key is not None and isinstance(value, int | float):
        if key.min is not None and value < key.min:
            raise ValueError(f"is {value}, less than {key.min:g}")
        if key.max is not None and value > key.max:
            raise ValueError(f"is {value}, more than {key.max:g}")
    return value


def _of_kind(raw: object, kind: KeyType) -> Value:
    if kind == "bool" and isinstance(raw, bool):
        return raw
    if kind == "int" and isinstance(raw, int) and not isinstance(raw, bool):
        if raw not in _INT64:
            raise ValueError("is too large for a whole number")
        return raw
    if kind == "float" and isinstance(raw, int | float) and not isinstance(raw, bool):
        try:
            number = float(raw)
        except OverflowError:
            raise ValueError("is too large for a number") from None
        if not isfinite(number):
            raise ValueError(f"is {number}, which is not a value")
        return number
    if kind == "str" and isinstance(raw, str):
        return raw
    if kind == "time" and isinstance(raw, str):
        try:
            return parse_time(raw, "", "UTC")
        except ValueError as error:
            raise ValueError(f"is {raw[:60]!r}, which is not a time: {error}") from None
    raise ValueError(f"is {_shown(raw)}, and its type is {kind}")


def _check_text(value: str, name: str) -> None:
    if not value.strip():
        raise ValueError("is an empty text")
    if not value.isprintable():
        raise ValueError("holds control characters")
    if name in DIMENSIONS and not is_fit(value):
        raise ValueError(
            f"is {value[:60]!r}: what tells files apart takes at most {MAX_VALUE_LENGTH} letters, digits and . _ + -,"
            " not . or - first"
        )


def _shown(raw: object) -> str:
    text = str(raw).lower() if isinstance(raw, bool) else "null" if raw is None else repr(raw)
    return text if len(text) <= 60 else f"{text[:60]}..."
