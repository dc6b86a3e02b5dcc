"""Unique names for files that people bring: made by the type's template where that can be filled, else numbered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from sqlalchemy.orm import Session

from nightmill.backbone.catalogue import names_taken
from nightmill.errors import BadName
from nightmill.files.naming import Template, check_name
from nightmill.model.file_type import FileType
from tasks.arrivals import Arrival

MAX_STEM: Final = 120
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_+-]+")
_SUFFIX: Final = re.compile(r"(\.[A-Za-z0-9]{1,8}){0,1}(\.(fz|gz|bz2|xz))?\Z")


def propose_names(session: Session, arrivals: Sequence[Arrival], file_type: FileType) -> list[str]:
    """Propose a name for each file that no other file has: none of the catalogue, and none of these.

    A name is the one of the type's template, where the file's own metadata fill it and it is free; else the old name
    with ``_m`` and the first free number before its suffix.
    """
    bases = [_base(arrival, file_type) for arrival in arrivals]
    proposed: dict[int, str] = {}
    used: set[str] = set()
    first = 0
    count = 16
    while len(proposed) < len(arrivals):
        open_ = [number for number in range(len(arrivals)) if number not in proposed]
        taken = names_taken(session, {name for number in open_ for name in _numbered(*bases[number], first, count)})
        for number in open_:
            free = (name for name in _numbered(*bases[number], first, count) if name not in taken and name not in used)
            name = next(free, None)
            if name is not None:
                proposed[number] = name
                used.add(name)
        first, count = first + count, count * 4
    return [proposed[number] for number in range(len(arrivals))]


def _numbered(stem: str, suffix: str, plain: bool, first: int, count: int) -> list[str]:
    return [
        f"{stem}_m{number:03d}{suffix}" if number else f"{stem}{suffix}"
        for number in range(first, first + count)
        if number or plain
    ]


def _base(arrival: Arrival, file_type: FileType) -> tuple[str, str, bool]:
    """Return stem and suffix, and whether they may be a name without a number."""
    metadata = arrival.inspection.metadata
    values = {**metadata.values, **metadata.data_id, "file_type": file_type.name}
    if file_type.template:
        template = Template(file_type.template)
        if all(field in values for field in template.fields):
            try:
                return *_split(template.render(values)), True
            except BadName:
                pass  # a value of the header is not fit for a name: the old name is, once it is cleaned
    stem, suffix = _split(arrival.path.name)
    stem = _UNFIT.sub("_", stem).strip("_-+")[:MAX_STEM] or "file"
    check_name(f"{stem}_m001{suffix}")
    return stem, suffix, False


def _split(name: str) -> tuple[str, str]:
    match = _SUFFIX.search(name)
    suffix = match[0] if match and match.start() > 0 else ""
    return name[: len(name) - len(suffix)], suffix
