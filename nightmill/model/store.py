"""Places for files."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field

from nightmill.model.access import Access
from nightmill.model.base import Frozen

READ_ONLY: Final = ("http", "https")
"""Schemes of URLs of stores that can be read and not written."""
TAPE_COST: Final = 10.0
"""What a read from tape costs by default: somebody or something has to fetch it."""


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
    cost: float | None = Field(default=None, ge=0, exclude_if=lambda cost: cost is None)
    """How dear it is to read from, beside the other stores: of several copies of a file, the cheapest is tried first.
    By default 0 for a folder, 1 for any other, 10 for tape."""
    access: Access = Access.PRIVATE
    """Who may read the files that nightmill makes there, where it is a folder."""
    catalogued: bool = True
    """False for a working area: its files are delivered there and not registered (never inputs of a plan)."""

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder that hosts see."""
        return self.folder is not None

    @property
    def folder(self) -> Path | None:
        """The folder that it is, or None where it is none."""
        parts = urlsplit(self.url)
        return Path(unquote(parts.path)) if parts.scheme in ("", "file") else None

    @property
    def read_cost(self) -> float:
        """How dear it is to read from: what is said, or what its kind costs."""
        if self.cost is not None:
            return self.cost
        return TAPE_COST if self.kind == "tape" else 0.0 if self.is_folder else 1.0

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written there."""
        return urlsplit(self.url).scheme in READ_ONLY
