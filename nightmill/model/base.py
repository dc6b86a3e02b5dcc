"""What all frozen nouns share."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

Key = TypeVar("Key")
Value = TypeVar("Value")


class Frozen(BaseModel):
    """An immutable, strictly keyed value: unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


def canonical_json(value: object) -> str:
    """Write plain JSON in the one form that digests are made of: sorted keys, no blanks, nothing rounded."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def grouped(pairs: Iterable[tuple[Key, Value]]) -> dict[Key, list[Value]]:
    """Return the values of each key, in their order."""
    found: defaultdict[Key, list[Value]] = defaultdict(list)
    for key, value in pairs:
        found[key].append(value)
    return dict(found)


def storable(text: str | os.PathLike[str]) -> str:
    """Write a text, or a path with bytes that are none, as text that any database, and any file, takes."""
    return os.fsencode(text).decode(errors="backslashreplace")


def unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of a JSON document, as the ``object_pairs_hook`` of its reader.

    Raises
    ------
    ValueError
        Where a key is given twice: other readers take one or the other.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        [(key, _count)] = Counter(key for key, _value in pairs).most_common(1)
        raise ValueError(f"the key {key[:60]!r} is given twice")
    return found
