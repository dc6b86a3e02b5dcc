"""The partners of a site: other sites of its catalogue, and how it reads their stores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from nightmill.config.build import build
from nightmill.config.document import Document, Key, dotted
from nightmill.config.rules import check_fit
from nightmill.config.stores import BACKBONE, store_of
from nightmill.errors import ConfigError, guess
from nightmill.model.base import Frozen
from nightmill.model.partner import Partner, Types, far_store
from nightmill.model.store import Store


class PartnerBody(Frozen):
    """Another site of the catalogue, by its name there."""

    stores: Mapping[str, Any] = Field(min_length=1)
    """How its stores are read from here, by their names there."""
    ship: Types = ()
    """Types of files that are shipped from it where a campaign of this site needs them, or ``all``."""
    into: str = BACKBONE
    """The store of this site that what comes from it is put into."""


def partners_of(
    bodies: Mapping[str, Any],
    stores: Mapping[str, Store],
    folder: Path,
    document: Document,
    errors: list[ConfigError],
) -> dict[str, Partner]:
    """Return the partners of a site by their names; add everything that is wrong with them to errors.

    Parameters
    ----------
    stores
        The site's own.
    folder
        The site's.
    """
    found: dict[str, Partner] = {}
    for name, body in bodies.items():
        key: Key = ("partners", name)
        errors += [ConfigError(text, where=document.where(key)) for text in check_fit("site name", name)]
        try:
            partner = build(PartnerBody, body, document.where, prefix=key)
        except ConfigError as error:
            errors.append(error)
            continue
        theirs: dict[str, Store] = {}
        for each, described in partner.stores.items():
            store = store_of((*key, "stores", each), described, folder, document, errors)
            if store is not None:
                theirs[each] = store.model_copy(update={"name": far_store(name, each), "verify": "checksum"})
        errors += _wrong_target(partner.into, stores, (*key, "into"), document)
        found[name] = Partner(name=name, stores=theirs, ship=partner.ship, into=partner.into)
    return found


def _wrong_target(into: str, stores: Mapping[str, Store], key: Key, document: Document) -> Iterator[ConfigError]:
    store = stores.get(into)
    known = [name for name, each in stores.items() if each.catalogued and not each.read_only]
    if store is None or into not in known:
        why = "is not a store that can be written and that the catalogue knows"
        near = guess(into, known) or f" (there is {', '.join(known)})"
        yield ConfigError(f"{dotted(key)}: {into!r} {why}{near}", where=document.where(key))


def unknown_types(partners: Mapping[str, Partner], types: Mapping[str, Any], document: Document) -> list[ConfigError]:
    """Return what is wrong with the types of files that are to be shipped: the site must know them."""
    return [
        ConfigError(
            f"{dotted(('partners', name, 'ship'))}: {each!r} is not a file type{guess(each, sorted(types))}",
            where=document.where(("partners", name, "ship")),
        )
        for name, partner in partners.items()
        for each in (() if partner.ship == "all" else partner.ship)
        if each not in types
    ]
