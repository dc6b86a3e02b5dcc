"""Files as those see them who choose among them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple


class FoundFile(NamedTuple):
    """A file with one of its copies: what a plan needs to know of it."""

    id: int
    name: str
    type: str
    size_bytes: int
    sha256: str
    data_id: Mapping[str, str | int]
    begins_at: datetime | None
    ends_at: datetime | None
    metadata: Mapping[str, Any]
    store: str
    """Empty where no copy is present."""
    path: str
    also: tuple[tuple[str, str], ...] = ()
    """Store and path of further copies, where a job may take one of several."""
    elsewhere: str = ""
    """A store of another site that has it, as SITE:STORE, where none of this site does."""
