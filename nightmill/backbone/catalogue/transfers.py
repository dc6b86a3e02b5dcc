"""Transfers between sites: what came, from where, for whom, and what it cost; written once, never changed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, case, func, insert, select, update
from sqlalchemy.orm import Session, aliased

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.registration import add_copy
from nightmill.backbone.catalogue.replicas import is_doubted
from nightmill.backbone.schema import CampaignRow, ReplicaRow, SiteRow, StoreRow, TransferRow
from nightmill.backbone.sites import is_here
from nightmill.model.partner import far_store
from nightmill.model.states import Purpose, ReplicaState, TransferState


@dataclass(frozen=True)
class Transfer:
    """That a file was fetched from another site, or could not be.

    Parameters
    ----------
    from_id
        The store that it was read from, or tried last.
    into
        The store of this site.
    campaign_id
        The campaign that needs it, or made it.
    evidence
        Why it failed, or a try before did; else empty.
    """

    file_id: int
    from_id: int
    into: str
    campaign_id: int
    purpose: Purpose
    state: TransferState
    size_bytes: int
    began_at: datetime
    wall_seconds: float
    tries: int
    host: str
    evidence: str


def put_on_record(session: Session, transfer: Transfer) -> None:
    """Put a transfer on record."""
    to_id = session.scalars(select(StoreRow.id).where(is_here(session), StoreRow.name == transfer.into)).one()
    session.execute(
        insert(TransferRow).values(
            file_id=transfer.file_id,
            from_id=transfer.from_id,
            to_id=to_id,
            campaign_id=transfer.campaign_id,
            purpose=transfer.purpose.value,
            state=transfer.state.value,
            size_bytes=transfer.size_bytes,
            began_at=transfer.began_at,
            wall_seconds=transfer.wall_seconds,
            tries=transfer.tries,
            host=transfer.host,
            evidence=transfer.evidence,
        )
    )


def arrived(session: Session, file_id: int, store: str, path: str, *, now: datetime) -> None:
    """Register a copy that was just put into a store of this site and verified: the same copy, where it had one."""
    add_copy(session, file_id, store, path, now=now)
    own = select(StoreRow.id).where(is_here(session), StoreRow.name == store).scalar_subquery()
    session.execute(
        update(ReplicaRow)
        .where(ReplicaRow.file_id == file_id, ReplicaRow.store_id == own)
        .values(state=ReplicaState.PRESENT.value, verified_at=now),
        execution_options={"synchronize_session": False},
    )


def is_had(session: Session, file_id: int) -> bool:
    """Say whether a store of this site has a copy of a file that was not tried in vain since it was verified."""
    return session.scalar(here(session).where(ReplicaRow.file_id == file_id).limit(1)) is not None


def here(session: Session) -> Select[tuple[int]]:
    """Select the IDs of files of which a store of this site has a good copy."""
    joined = select(ReplicaRow.file_id).join(StoreRow, StoreRow.id == ReplicaRow.store_id)
    return joined.where(is_here(session), ReplicaRow.state == ReplicaState.PRESENT.value, ~is_doubted())


def once_here(session: Session, ids: Collection[int]) -> set[int]:
    """Return those of some files of which a store of this site has a copy, or had one."""
    joined = select(ReplicaRow.file_id).join(StoreRow, StoreRow.id == ReplicaRow.store_id)
    return set(session.scalars(joined.where(is_here(session), among(ReplicaRow.file_id, ids))))


def place_of_copy(session: Session, file_id: int, store: str) -> str | None:
    """Return where a store of this site has, or had, its copy of a file; None where it never had one."""
    query = select(ReplicaRow.path).join(StoreRow, StoreRow.id == ReplicaRow.store_id)
    return session.scalar(query.where(is_here(session), StoreRow.name == store, ReplicaRow.file_id == file_id))


def holder_of(session: Session, store: str, path: str) -> int | None:
    """Return the ID of the file that is registered at a place of a store of this site; None where none is."""
    query = select(ReplicaRow.file_id).join(StoreRow, StoreRow.id == ReplicaRow.store_id)
    return session.scalar(query.where(is_here(session), StoreRow.name == store, ReplicaRow.path == path))


@dataclass(frozen=True)
class Route:
    """What came on one way, for one purpose of one campaign.

    Parameters
    ----------
    source, target
        The stores, as SITE:STORE.
    wall_seconds
        Of all transfers that ended well, one after another.
    failed
        Transfers that failed, whatever became of the file later.
    """

    campaign: str
    purpose: Purpose
    source: str
    target: str
    files: int
    size_bytes: int
    wall_seconds: float
    failed: int

    def __str__(self) -> str:
        """Say what came: ``3 files, 25.1 MB in 0.8 s, from a:backbone to b:backbone; 1 transfer failed``."""
        size = f"{self.size_bytes / 1e6:,.1f} MB in {self.wall_seconds:.2g} s"
        failed = f"; {self.failed} {'transfer' if self.failed == 1 else 'transfers'} failed" if self.failed else ""
        return f"{self.files} files, {size}, from {self.source} to {self.target}{failed}"

    @property
    def bytes_per_second(self) -> float | None:
        """How fast one transfer was; None where nothing came."""
        return self.size_bytes / self.wall_seconds if self.files and self.wall_seconds > 0 else None


def routes(session: Session, *, campaign: str = "") -> Iterator[Route]:
    """Yield what was transferred between the sites of the catalogue, campaign after campaign.

    Parameters
    ----------
    campaign
        Of this one alone; by default of all.
    """
    source, target, from_site, to_site = aliased(StoreRow), aliased(StoreRow), aliased(SiteRow), aliased(SiteRow)
    is_done = TransferRow.state == TransferState.DONE.value
    key = (CampaignRow.name, TransferRow.purpose, from_site.name, source.name, to_site.name, target.name)
    query = (
        select(
            *key,
            func.count(case((is_done, 1))),
            func.coalesce(func.sum(TransferRow.size_bytes), 0),
            func.coalesce(func.sum(case((is_done, TransferRow.wall_seconds))), 0.0),
            func.count(case((~is_done, 1))),
        )
        .join(CampaignRow, CampaignRow.id == TransferRow.campaign_id)
        .join(source, source.id == TransferRow.from_id)
        .join(from_site, from_site.id == source.site_id)
        .join(target, target.id == TransferRow.to_id)
        .join(to_site, to_site.id == target.site_id)
        .group_by(CampaignRow.id, *key)
        .order_by(CampaignRow.id, *key)
    )
    if campaign:
        query = query.where(CampaignRow.name == campaign)
    for name, purpose, site_a, store_a, site_b, store_b, files, size, seconds, failed in session.execute(query):
        yield Route(
            campaign=name,
            purpose=Purpose(purpose),
            source=far_store(site_a, store_a),
            target=far_store(site_b, store_b),
            files=files,
            size_bytes=int(size),
            wall_seconds=seconds,
            failed=failed,
        )
