"""A store of which nothing but the inputs is used: what would be published is kept in a folder."""

from __future__ import annotations

from pathlib import Path

from nightmill.model.ports import Stager
from nightmill.model.store import Store
from stagers.local import LocalStager


class KeptStager(LocalStager):
    """Fetches from a store, and keeps what is to go there in a folder of the same layout.

    Parameters
    ----------
    source
        The store's own stager; nothing is ever written by it.
    folder
        Where files are kept; made where it is missing.
    """

    def __init__(self, source: Stager, store: Store, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(store.model_copy(update={"url": folder.resolve().as_uri()}))
        self._source = source

    def fetch(self, path: str, target: Path) -> int:
        """Copy a file of the store to a local path that does not exist yet."""
        return self._source.fetch(path, target)
