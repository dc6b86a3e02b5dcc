"""Places for files."""

from __future__ import annotations

from typing import Literal

from nightmill.model.access import Access
from nightmill.model.base import Frozen


class Store(Frozen):
    """A place for files.

    Parameters
    ----------
    name
        How everything else speaks of it.
    url
        Where it is; the scheme picks the stager (``file:///data/backbone``). What is secret in it stands as
        ``${NAME}``, and is filled in by whoever opens the store.
    kind
        What a loss or a read of it means.
    verify
        What stage-in checks beside the size.
    access
        Who may read the files that nightmill makes there, where it is a folder.
    """

    name: str
    url: str
    kind: Literal["disk", "object", "tape", "enclave"] = "disk"
    verify: Literal["size", "checksum"] = "size"
    access: Access = Access.PRIVATE
    catalogued: bool = True
    """False for a working area: its files are delivered there and not registered (never inputs of a plan)."""
