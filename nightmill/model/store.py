"""Places for files."""

from __future__ import annotations

from typing import Literal

from nightmill.model.base import Frozen


class Store(Frozen):
    """A place for files.

    Parameters
    ----------
    name
        How everything else speaks of it.
    url
        Where it is; the scheme picks the stager (``file:///data/backbone``).
    kind
        What a loss or a read of it means.
    verify
        What stage-in checks beside the size.
    """

    name: str
    url: str
    kind: Literal["disk", "object", "tape", "enclave"] = "disk"
    verify: Literal["size", "checksum"] = "size"
    catalogued: bool = True
    """False for a working area: its files are delivered there and not registered (never inputs of a plan)."""
