"""Copies of files in the stores of other sites that this one can read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.replicas import is_doubted
from nightmill.backbone.schema import ReplicaRow, SiteRow, StoreRow
from nightmill.model.partner import Partner, far_store


@dataclass(frozen=True, slots=True)
class FarCopy:
    """A copy of a file at a partner."""

    site: str
    store: str
    """As SITE:STORE."""
    store_id: int
    path: str


def copies_elsewhere(
    session: Session, file_ids: Collection[int], partners: Mapping[str, Partner]
) -> dict[int, list[FarCopy]]:
    """Return the copies of files that are present in stores of partners, by the files' IDs.

    Those of the partner that stands first come first, and those that were tried in vain after the others.
    """
    stores = [store.name for partner in partners.values() for store in partner.stores.values()]
    rank = {name: number for number, name in enumerate(stores)}
    query = (
        select(ReplicaRow.file_id, SiteRow.name, StoreRow.name, StoreRow.id, ReplicaRow.path, is_doubted())
        .join(StoreRow, StoreRow.id == ReplicaRow.store_id)
        .join(SiteRow, SiteRow.id == StoreRow.site_id)
        .where(among(ReplicaRow.file_id, file_ids), ReplicaRow.state == "present", SiteRow.name.in_(partners))
    )
    found: dict[int, list[tuple[bool, int, FarCopy]]] = {}
    for file_id, site, store, store_id, path, doubted in session.execute(query):
        name = far_store(site, store)
        if name in rank:
            copy = FarCopy(site, name, store_id, path)
            found.setdefault(file_id, []).append((bool(doubted), rank[name], copy))
    return {id_: [copy for *_, copy in sorted(copies, key=lambda each: each[:2])] for id_, copies in found.items()}
