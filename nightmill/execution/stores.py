"""Opening stores: for each what moves its bytes, with the secrets filled in that its URL refers to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast
from urllib.parse import urlsplit

from nightmill import plugins
from nightmill.model.ports import Stager
from nightmill.model.secrets import masked, resolved
from nightmill.model.store import Store

ENTRY_POINT: Final = "nightmill.stagers"
"""Group of the plug-ins: URL scheme to a class that is made with a :class:`nightmill.model.store.Store`."""


def open_stager(store: Store, secrets: Mapping[str, str]) -> Stager:
    """Return the stager of a store, chosen by the scheme of its URL (``file`` where it has none).

    Parameters
    ----------
    secrets
        What references in the URL stand for: filled in here, and nowhere else.

    Raises
    ------
    ConfigError
        Where one is missing.
    UnknownName
        Where no plug-in is installed for the scheme.
    """
    url = resolved(f"store {store.name!r}", store.url, secrets)
    scheme = urlsplit(url).scheme or "file"
    remedy = f"store {store.name!r} has the URL {masked(store.url)!r}; install a plug-in"
    stager = plugins.load(ENTRY_POINT, scheme, what="stager", remedy=remedy)
    return cast(Stager, stager(store.model_copy(update={"url": url})))


def open_stagers(stores: Mapping[str, Store], secrets: Mapping[str, str]) -> dict[str, Stager]:
    """Return the stager of each store, by the store's name."""
    return {name: open_stager(store, secrets) for name, store in stores.items()}
