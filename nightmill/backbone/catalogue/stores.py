"""The stores of a site by their names."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.schema import StoreRow
from nightmill.backbone.sites import is_here, this_site
from nightmill.backbone.upsert import add_missing
from nightmill.model.store import Store


def store_ids(session: Session, stores: Mapping[str, Store]) -> dict[str, int]:
    """Return the IDs of stores of this site by their names; those that are not in the catalogue yet are inserted.

    A store that moved keeps its ID: its URL here follows the site's configuration.
    """
    wanted = {name: store for name, store in sorted(stores.items()) if store.catalogued}
    there = set(session.scalars(select(StoreRow.name).where(is_here(session))))
    new = [
        {"site_id": this_site(session), "name": name, "url": store.url, "kind": store.kind}
        for name, store in wanted.items()
        if name not in there
    ]
    add_missing(session, StoreRow, new, unique=("site_id", "name"))
    rows = session.scalars(select(StoreRow).where(is_here(session), StoreRow.name.in_(wanted))).all()
    for row in rows:
        row.url, row.kind = wanted[row.name].url, wanted[row.name].kind
    session.flush()
    return {row.name: row.id for row in rows}
