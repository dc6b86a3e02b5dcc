"""The well-known dimensions of files, and data IDs made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

DataId = Mapping[str, str | int]
"""Dimension names to values: what a unit or a file is of, as ``{"exposure": 12, "detector": 3}``."""

DIMENSIONS: Final[Mapping[str, type[str | int]]] = {
    "instrument": str,
    "night": int,
    "exposure": int,
    "detector": int,
    "band": str,
    "tile": str,
    "run": str,
}
"""Every dimension with the type of its values. ``night`` is the local night that begins on that date, YYYYMMDD."""

EPOCHS: Final = frozenset({"night", "exposure", "run"})
"""Dimensions that say when: what a calibration is chosen for is mostly of another night, exposure and run."""

TIMES: Final = ("begins_at", "ends_at")
"""The two times of a file, UTC: typed columns beside the dimensions, but no part of a data ID."""


def unit_name(data_id: DataId, order: Iterable[str] = ()) -> str:
    """Write a data ID as the one canonical string that names a unit.

    Parameters
    ----------
    data_id
        What to write.
    order
        The dimensions in the order wanted (a stage's ``per``); any others follow by name.

    Returns
    -------
    str
        As ``exposure=12,detector=3``; ``all`` where the data ID is empty.
    """
    first = [key for key in order if key in data_id]
    keys = first + sorted(set(data_id) - set(first))
    return ",".join(f"{key}={data_id[key]}" for key in keys) or "all"
