"""What a plan needs that only other sites have, and that the site's rules let come from there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.copies_elsewhere import copies_elsewhere
from nightmill.backbone.schema import SiteRow
from nightmill.model.campaign import Campaign
from nightmill.model.found_file import FoundFile
from nightmill.model.partner import Partner


@dataclass(frozen=True)
class ToShip:
    """Files that a campaign needs, and that come from a store of another site before its jobs begin."""

    store: str
    """As SITE:STORE."""
    into: str
    """The store of this site."""
    files: int
    size_bytes: int


class Shipments:
    """Tells which files of a plan can be shipped, and counts them.

    Parameters
    ----------
    session
        To read the catalogue with.
    partners
        Those of the site, the one that is asked first before others.
    """

    def __init__(self, session: Session, partners: Mapping[str, Partner]) -> None:
        self._session = session
        self._partners = partners
        self._sources: dict[int, tuple[str, str] | None] = {}
        self._files: Counter[tuple[str, str]] = Counter()
        self._bytes: Counter[tuple[str, str]] = Counter()

    def take(self, file: FoundFile) -> bool:
        """Say whether a file that no store of this site has can be shipped; count it where it can."""
        if not self._partners:
            return False
        if file.id not in self._sources:
            self._sources[file.id] = source = self._source(file)
            if source is not None:
                self._files[source] += 1
                self._bytes[source] += file.size_bytes
        return self._sources[file.id] is not None

    def told(self) -> tuple[ToShip, ...]:
        """Return what is to be shipped, by where it comes from and goes to."""
        return tuple(
            [
                ToShip(store, into, count, self._bytes[store, into])
                for (store, into), count in sorted(self._files.items())
            ]
        )

    def _source(self, file: FoundFile) -> tuple[str, str] | None:
        sites = {store.name: partner for partner in self._partners.values() for store in partner.stores.values()}
        stores = [file.elsewhere]
        if len(self._partners) > 1 or file.elsewhere not in sites:  # it may be told of another copy than comes
            found = copies_elsewhere(self._session, [file.id], self._partners)
            stores = [copy.store for copy in found.get(file.id, ())]
        ships = [store for store in stores if sites[store].ships(file.type)]
        return (ships[0], sites[ships[0]].into) if ships else None


def unknown_home(session: Session, campaign: Campaign) -> Iterator[str]:
    """Yield that the catalogue does not know the site which a campaign names as the home of its outputs."""
    home = campaign.home.site
    if home and session.scalar(select(SiteRow.id).where(SiteRow.name == home)) is None:
        known = ", ".join(session.scalars(select(SiteRow.name).order_by(SiteRow.name)))
        layer = campaign.origins.get("home.site", "a default")
        yield f"home.site, {layer}: the catalogue has no site {home!r} (there is {known})"
