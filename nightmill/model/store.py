"""Places for files."""

from __future__ import annotations

from typing import Final, Literal
from urllib.parse import urlsplit

from pydantic import Field

from nightmill.model.access import Access
from nightmill.model.base import Frozen

READ_ONLY: Final = ("http", "https")
"""Schemes of URLs of stores that can be read and not written."""


class Store(Frozen):
    """A place for files."""

    name: str
    """How everything else speaks of it."""
    url: str
    """Where it is; the scheme picks the stager (``file:///data/backbone``). What is secret in it stands as ``${NAME}``,
    and is filled in by whoever opens the store."""
    kind: Literal["disk", "object", "tape", "enclave"] = "disk"
    """What a loss or a read of it means."""
    verify: Literal["size", "checksum"] = "size"
    """What stage-in checks: the size alone, or the checksum too."""
    transfers: int = Field(default=0, ge=0, exclude=True)
    """How many transfers run at a time with it from each host, at most; 0 for no limit. It changes nothing of what jobs
    make, and no order or plan has it."""
    access: Access = Access.PRIVATE
    """Who may read the files that nightmill makes there, where it is a folder."""
    catalogued: bool = True
    """False for a working area: its files are delivered there and not registered (never inputs of a plan)."""

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written there."""
        return urlsplit(self.url).scheme in READ_ONLY
