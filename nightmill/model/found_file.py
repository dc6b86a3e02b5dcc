"""Files as those see them who choose among them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from nightmill.model.dimensions import NAME, KeyValue


class FoundFile(NamedTuple):
    """A file with one of its copies: what a plan needs to know of it."""

    id: int
    name: str
    type: str
    size_bytes: int
    sha256: str
    data_id: Mapping[str, KeyValue]
    """Its dimensions."""
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
    excluded: tuple[str, ...] = ()
    """Parts of it that must not be used: names or numbers of HDUs, amplifiers."""

    def get(self, key: str) -> KeyValue | None:
        """Return its value of a key: a dimension, its name, or what its type has read of it; None where it has none."""
        value: KeyValue | None = self.data_id.get(key)
        if value is None:
            value = self.name if key == NAME else self.metadata.get(key)
        return value
