"""The well-known dimensions of files, the keys that stand beside them, and data IDs made of both."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, Literal

KeyType = Literal["str", "int", "float", "bool", "time"]
"""What the values of a key are; a time stands in a data ID as its ISO 8601 text, UTC."""
KeyValue = str | int | float | bool
VALUES: Final[Mapping[KeyType, tuple[type, ...]]] = {
    "str": (str,),
    "time": (str,),
    "int": (int,),
    "float": (float, int),
    "bool": (bool,),
}
"""What values of a type are in Python; a database may give a float that is whole as a whole number."""
DataId = Mapping[str, KeyValue]
"""Keys to values: what a unit or a file is of, as ``{"exposure": 12, "dit": 10.0}``."""

DIMENSIONS: Final[Mapping[str, type[str | int]]] = {
    "instrument": str,
    "night": int,
    "exposure": int,
    "detector": int,
    "band": str,
    "tile": str,
    "run": str,
}
"""The keys that every catalogue has as columns, with the types of their values.

``night`` is the local night that begins on that date, YYYYMMDD.
"""

EPOCHS: Final = frozenset({"night", "exposure", "run"})
"""Dimensions that say when: what a calibration is chosen for is mostly of another night, exposure and run."""

TIMES: Final = ("begins_at", "ends_at")
"""The two times of a file, UTC: typed columns beside the dimensions, but no part of a data ID."""

NAME: Final = "name"
"""The key that every file has: its own name, by which each file makes a unit of its own."""

_UNFIT: Final = re.compile(r"[%,=/\\\x00-\x20\x7f-\xa0]")
"""What would make two units one, or their name hard to type."""


def unit_name(data_id: DataId, order: Iterable[str] = ()) -> str:
    """Write a data ID as the one canonical string that names a unit.

    Parameters
    ----------
    data_id
        What to write.
    order
        The keys in the order wanted (a stage's ``per``); any others follow by name.

    Returns
    -------
    str
        As ``exposure=12,dit=10.0``; ``all`` where the data ID is empty. What would be taken for a part of it stands as
        in a URL: ``target=NGC%204039``.
    """
    first = [key for key in order if key in data_id]
    keys = first + sorted(set(data_id) - set(first))
    return ",".join([f"{key}={written(data_id[key])}" for key in keys]) or "all"


def split(data_id: DataId) -> tuple[DataId, DataId]:
    """Return the part of a unit's data ID that its products have as dimensions, and that which they have as metadata.

    The name of the file that makes a unit is its own, and stands in neither.
    """
    dimensions = {key: value for key, value in data_id.items() if key in DIMENSIONS}
    return dimensions, {key: value for key, value in data_id.items() if key not in DIMENSIONS and key != NAME}


def written(value: KeyValue) -> str:
    """Write a value of a key as the name of a unit has it."""
    if isinstance(value, str):
        return _UNFIT.sub(lambda match: "".join([f"%{byte:02X}" for byte in match[0].encode()]), value)
    return str(value).lower() if value is True or value is False else str(value)
