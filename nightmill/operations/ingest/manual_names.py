"""Unique names for files that people bring: the old name, made fit, with a number that tells it from all others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.files import names_taken

MAX_STEM: Final = 120
FIRST_LOOK: Final = 16
"""Numbers of a name that are looked up at first; each further look takes four times as many."""

_UNFIT: Final = re.compile(r"[^A-Za-z0-9_+-]+")
_SUFFIX: Final = re.compile(r"(\.[A-Za-z0-9]{1,8})?(\.(fz|gz|bz2|xz))?\Z")


def propose_names(session: Session, old_names: Sequence[str]) -> list[str]:
    """Propose a name for each file that no other has: none of the catalogue, and none of these.

    Returns
    -------
    list of str
        As ``mask_m001.fits``: the old name with ``_m`` and the first free number before its suffix.
    """
    parts = [_split(name) for name in old_names]
    proposed: dict[int, str] = {}
    used: set[str] = set()
    first, count = 1, FIRST_LOOK
    while len(proposed) < len(parts):
        waiting = [number for number in range(len(parts)) if number not in proposed]
        candidates = {
            number: [f"{stem}_m{serial:03d}{suffix}" for serial in range(first, first + count)]
            for number in waiting
            for stem, suffix in [parts[number]]
        }
        taken = names_taken(session, {name for names in candidates.values() for name in names})
        for number, names in candidates.items():
            free = next((name for name in names if name not in taken and name not in used), None)
            if free is not None:
                proposed[number] = free
                used.add(free)
        first, count = first + count, count * 4
    return [proposed[number] for number in range(len(parts))]


def _split(name: str) -> tuple[str, str]:
    """Divide a name in a stem, made fit for a name, and a suffix."""
    match = _SUFFIX.search(name)
    suffix = match[0] if match and match.start() > 0 else ""
    stem = name[: len(name) - len(suffix)]
    return _UNFIT.sub("_", stem).strip("_-+")[:MAX_STEM] or "file", suffix
