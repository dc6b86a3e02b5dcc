"""Bytes: between stores and local folders. One module a kind of store; none knows the database."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlsplit

from nightmill import plugins
from nightmill.model.ports import Stager
from nightmill.model.secrets import masked, resolved
from nightmill.model.store import Store

ENTRY_POINT = "nightmill.stagers"
"""Group of the plug-ins: URL scheme to a class that is made with a :class:`nightmill.model.store.Store`."""


def open_stager(store: Store) -> Stager:
    """Return the stager of a store, chosen by the scheme of its URL (``file`` where it has none).

    References to secrets in the URL are filled in from the environment, here and nowhere else.

    Raises
    ------
    ConfigError
        Where the environment lacks one.
    UnknownName
        Where no plug-in is installed for the scheme.
    """
    url = resolved(f"store {store.name!r}", store.url, os.environ)
    scheme = urlsplit(url).scheme or "file"
    remedy = f"store {store.name!r} has the URL {masked(store.url)!r}; install a plug-in"
    stager = plugins.load(ENTRY_POINT, scheme, what="stager", remedy=remedy)
    return cast(Stager, stager(store.model_copy(update={"url": url})))


def open_stagers(stores: Mapping[str, Store]) -> dict[str, Stager]:
    """Return the stager of each store, by the store's name."""
    return {name: open_stager(store) for name, store in stores.items()}
