"""Limiting the transfers with a store, from each host: what the site's file says, until an operator says otherwise.

The word of an operator is the act that is on record. Workers, which have no database, hear of it from a file of the
spool, which is written with the act, and again by each drain where it differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from sqlalchemy.orm import Session

from nightmill.backbone.audit import last_of_each
from nightmill.config.site import SITE_FILE
from nightmill.errors import RequestRefused, UnknownName
from nightmill.execution.transfers import SaidLimits, limits_file, said_limits
from nightmill.operations import memory
from nightmill.operations.acts import Act
from nightmill.operations.site import Site, read

LIMIT_STORE: Final = "limit --store"
"""The act by which an operator limits the transfers with a store."""


@dataclass(frozen=True)
class StoreLimit:
    """How many transfers run at a time with a store, from each host.

    Parameters
    ----------
    transfers
        At most so many; 0 for no limit.
    who, why
        Who said so, and why; empty where the site's file does.
    """

    store: str
    transfers: int
    who: str = ""
    why: str = ""

    def __str__(self) -> str:
        """Say what it is, and who said so: ``at most 2 transfers at a time from each host, by mara: slow disks``."""
        number = f"{self.transfers} {'transfer' if self.transfers == 1 else 'transfers'}"
        limit = f"at most {number} at a time from each host" if self.transfers else "no limit"
        return f"{limit}, by {self.who}: {self.why}" if self.who else f"{limit}, as {SITE_FILE} says"


@dataclass(frozen=True)
class StoreLimited:
    """What an act came to: the limit of a store, and whether it was otherwise before."""

    limit: StoreLimit
    changed: bool


def limit_transfers(site: Site, store: str, transfers: int | None, *, why: str, who: str | None = None) -> StoreLimited:
    """Say how many transfers run at a time with a store from each host; what runs goes on to its end.

    Who says what the site's file says leaves it to that from then on.

    Parameters
    ----------
    transfers
        At most so many; 0 for no limit.
    who
        See :meth:`~nightmill.operations.acts.Act.begin`.

    Raises
    ------
    RequestRefused
        Where there is no such store, or the number is missing or below 0; nothing was written.
    nightmill.execution.journal.SpoolAway
        Where the word stands in the database, and workers cannot be told: the next drain does it.
    """
    act = Act.begin(site, LIMIT_STORE, who=who, why=why, needs_why=True)
    stores = site.config.stores
    if store not in stores:
        raise UnknownName("store", store, sorted(stores), remedy=f"there are {', '.join(sorted(stores))}")
    if transfers is None:
        remedy = "give --transfers N, or 0 for no limit"
        raise RequestRefused(f"nothing is said of how store {store!r} is to be limited", remedy=remedy)
    if transfers < 0:
        remedy = "give how many run at a time, or 0 for no limit"
        raise RequestRefused(f"--transfers {transfers} is below 0", remedy=remedy)
    written = stores[store].transfers

    def write(session: Session) -> StoreLimited:
        before = _limit(site, store, _words(session))
        if before.transfers == transfers and bool(before.who) == (transfers != written):
            return StoreLimited(before, False)
        act.note(session, store, {"transfers": transfers, "written": written, "before": before.transfers})
        return StoreLimited(_limit(site, store, _words(session)), True)

    limited = site.database.write(write)
    tell(site)
    return limited


def store_limits(site: Site) -> list[StoreLimit]:
    """Return what holds for each store and working area of a site, in the order of the site's file."""
    words = read(site, _words)
    return [_limit(site, store, words) for store in site.config.stores]


def tell(site: Site) -> None:
    """Have the spool tell what operators say, where it tells otherwise.

    Raises
    ------
    nightmill.execution.journal.SpoolAway
        Where it cannot be written.
    """
    spool = site.config.spool
    if _is_told(site):
        return
    with memory.alone(spool):  # and read again: what was said last is told last
        if not _is_told(site):
            memory.write(limits_file(spool), _said(site))


def _is_told(site: Site) -> bool:
    with suppress(OSError, ValueError):
        return said_limits(site.config.spool) == _said(site)
    return False


def _said(site: Site) -> SaidLimits:
    return SaidLimits(transfers={store: word.transfers for store, word in read(site, _words).items()})


def _words(session: Session) -> Mapping[str, StoreLimit]:
    """Return what operators say, by store: their last acts, but for those that leave it to the site's file."""
    return {
        store: StoreLimit(store, act.detail["transfers"], act.who, act.why)
        for store, act in last_of_each(session, LIMIT_STORE).items()
        if act.detail["transfers"] != act.detail["written"]
    }


def _limit(site: Site, store: str, words: Mapping[str, StoreLimit]) -> StoreLimit:
    return words.get(store) or StoreLimit(store, site.config.stores[store].transfers)
