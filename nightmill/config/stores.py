"""The stores of a site, as its nightmill.yaml describes them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from nightmill.config.build import build, named
from nightmill.config.document import Document, Key, Plain, dotted
from nightmill.config.rules import NOWHERE, check_fit
from nightmill.errors import ConfigError
from nightmill.model.access import Access
from nightmill.model.store import Store

BACKBONE: Final = "backbone"


def stores_of(
    stores: Mapping[str, Any],
    working_areas: Mapping[str, Any],
    access: Access,
    folder: Path,
    document: Document,
    errors: list[ConfigError],
) -> dict[str, Store]:
    """Return the stores and working areas of a site by their names; add everything that is wrong to errors.

    Parameters
    ----------
    access
        The site's, for those that do not say theirs.
    folder
        The site's.
    """
    found: dict[str, Store] = {}
    for kind, bodies in (("stores", stores), ("working_areas", working_areas)):
        for name, body in bodies.items():
            key: Key = (kind, name)
            if name in found or name == NOWHERE:
                why = "stands for no store" if name == NOWHERE else "is a store already"
                errors.append(ConfigError(f"{dotted(key)}: {name!r} {why}", where=document.where(key)))
            store = store_of(key, body, folder, document, errors)
            if store is None:
                continue
            if store.read_only and (name == BACKBONE or kind == "working_areas"):
                own = (*key, "url")
                why = f"outputs go to {name}, and a store over HTTP is read-only"
                errors.append(ConfigError(f"{dotted(own)}: {why}", where=document.where(own)))
            found[name] = store.model_copy(
                update={
                    "catalogued": kind == "stores",
                    "access": store.access if "access" in body else access,
                },
            )
    if BACKBONE not in stores:
        errors.append(
            ConfigError(
                f"stores has no {BACKBONE!r}, the store that outputs go to by default",
                where=document.where(("stores",)),
            )
        )
    return found


def store_of(key: Key, body: Any, folder: Path, document: Document, errors: list[ConfigError]) -> Store | None:
    """Return the store that a key describes; None where its body is wrong. All that is wrong is added to errors.

    Parameters
    ----------
    key
        Its last part is the name of the store.
    """
    name = str(key[-1])
    try:
        store = build(Store, named(name, body, key, document.where), document.where, written=body, prefix=key)
    except ConfigError as error:
        errors.append(error)
        return None
    if "catalogued" in body:
        remedy = "stores are, working_areas are not"
        errors.append(
            ConfigError(f"unknown key {dotted((*key, 'catalogued'))}", where=document.where(key), remedy=remedy)
        )
    errors += [ConfigError(text, where=document.where(key)) for text in check_fit("store name", name)]
    try:
        url = _store_url(store.url, _written(document, (*key, "url")), folder)
    except ValueError as error:
        own = (*key, "url")
        errors.append(ConfigError(f"{dotted(own)} is not a URL: {error}", where=document.where(own)))
        return None
    is_near = "verify" in body or urlsplit(url).scheme == "file"
    verify = store.verify if is_near else "checksum"  # nothing else proves what came over a network
    return store.model_copy(update={"url": url, "verify": verify})


def _written(document: Document, key: Key) -> str:
    """Return a value as it is written, with references to what is secret."""
    value: Plain = document.data
    for part in key:
        value = value[part]
    return str(value)


def _store_url(url: str, written: str, folder: Path) -> str:
    """Make the path of a folder absolute; any other URL stays as it is written, with references to what is secret."""
    scheme = urlsplit(url).scheme
    if not scheme:
        return (folder / home_of(url)).as_uri()
    return url if scheme == "file" else written


def home_of(path: str) -> Path:
    """Put in the home folder that a leading ~ stands for; as in a shell, one of nobody is left as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser() raises RuntimeError for nobody
