"""Which copies of its inputs an order names, in which order: chosen at issue, kept with the attempt, and had again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.files import file_columns, found_file
from nightmill.backbone.catalogue.replicas import Replica, is_doubted
from nightmill.backbone.schema import FileRow, ReplicaRow, StoreRow
from nightmill.errors import RequestRefused
from nightmill.model.found_file import FoundFile
from nightmill.model.store import Store

Chosen = Mapping[str, Sequence[int]]
"""File ID, as JSON has it, to the IDs of copies in the order in which they are tried."""


@dataclass(frozen=True, slots=True)
class FileCopy:
    """One copy of a file, whether or not it is there now."""

    id: int
    store: str
    path: str
    present: bool
    doubted: bool = False
    """Whether it was tried in vain since it was verified last."""


@dataclass
class Inputs:
    """The files that jobs take, each with every copy that it has or had, the first registered one first."""

    files: dict[int, FoundFile]
    copies: dict[int, list[FileCopy]]

    def preferred(self, stores: Mapping[str, Store]) -> dict[int, list[FileCopy]]:
        """Return the copies that a job is to try: those that are present in the stores, the nearest first.

        How near a store is, its cost says, and of those that cost the same their order. Copies that were tried in vain
        come last, and are never left out. Of a file that has none present, those that it had: for the job to find out,
        and to tell.

        Raises
        ------
        RequestRefused
            Where a file never had a copy.
        """
        rank = {name: number for number, name in enumerate(by_cost(stores))}
        chosen = {}
        for file_id, copies in self.copies.items():
            present = [copy for copy in copies if copy.present]
            there = [copy for copy in present if copy.store in rank] or present or copies
            if not there:
                raise RequestRefused(
                    f"{self.files[file_id].name} is an input of a job that is to be issued, and no store of this"
                    " site has it or had it",
                    remedy="register a copy of it, then rerun",
                )
            chosen[file_id] = sorted(there, key=lambda copy: (copy.doubted, rank.get(copy.store, len(rank)), copy.id))
        return chosen

    def of(self, file_ids: Iterable[int]) -> Inputs:
        """Return those of some files."""
        ids = set(file_ids)
        return Inputs({id_: self.files[id_] for id_ in ids}, {id_: self.copies[id_] for id_ in ids})

    def with_chosen(self, chosen: Chosen) -> dict[int, FoundFile]:
        """Return the files, each with the copies that were chosen once; see :meth:`unusual`."""
        known = {copy.id: copy for copies in self.copies.values() for copy in copies}
        return self.with_copies(
            {
                id_: [known[each] for each in chosen[str(id_)] if each in known] if str(id_) in chosen else copies[:1]
                for id_, copies in self.copies.items()
            }
        )

    def with_copies(self, chosen: Mapping[int, Sequence[FileCopy]]) -> dict[int, FoundFile]:
        """Return the files, each with copies that were chosen."""
        return {
            id_: file._replace(
                store=chosen[id_][0].store if chosen[id_] else "",
                path=chosen[id_][0].path if chosen[id_] else "",
                also=tuple([(copy.store, copy.path) for copy in chosen[id_][1:]]),
            )
            for id_, file in self.files.items()
        }

    def unusual(self, chosen: Mapping[int, Sequence[FileCopy]], file_ids: Iterable[int]) -> Chosen | None:
        """Return what an attempt must keep of the copies that were chosen for its files.

        Copies are never forgotten, nor do they move within their store. So nothing is to be kept of a file of which the
        first registered copy alone was chosen; None where that is so of all.
        """
        kept = {
            str(id_): [copy.id for copy in chosen[id_]]
            for id_ in file_ids
            if [copy.id for copy in chosen[id_]] != [self.copies[id_][0].id]
        }
        return kept or None


def by_cost(stores: Mapping[str, Store]) -> list[str]:
    """Return the names of stores in the order in which copies in them are tried."""
    return sorted(stores, key=lambda name: stores[name].read_cost)


def nearest_first(copies: Iterable[Replica], stores: Mapping[str, Store]) -> list[Replica]:
    """Return the copies of a file in the order in which jobs try them, then those that none here would try."""
    rank = {name: number for number, name in enumerate(by_cost(stores))}
    return sorted(copies, key=lambda copy: (copy.state != "present", bool(copy.doubt), rank.get(copy.store, len(rank))))


def inputs_of(session: Session, ids: Collection[int], *, site_id: int) -> Inputs:
    """Look up files with all their copies at a site, by one query."""
    found = Inputs({}, {})
    of_site = select(StoreRow.id).where(StoreRow.site_id == site_id)
    query = (
        select(*file_columns(session), ReplicaRow.id, ReplicaRow.state, StoreRow.name, ReplicaRow.path, is_doubted())
        .select_from(FileRow)
        .outerjoin(ReplicaRow, (ReplicaRow.file_id == FileRow.id) & ReplicaRow.store_id.in_(of_site))
        .outerjoin(StoreRow, ReplicaRow.store_id == StoreRow.id)
        .where(among(FileRow.id, ids))
        .order_by(FileRow.id, ReplicaRow.id)
    )
    # Not streamed: behind a cursor PostgreSQL would walk the whole catalogue in the order of its IDs.
    for *columns, replica_id, state, store, path, doubted in session.execute(query):
        file_id: int = columns[0]
        if file_id not in found.files:
            found.files[file_id], found.copies[file_id] = found_file(columns), []
        if replica_id is not None:
            found.copies[file_id].append(FileCopy(replica_id, store, path, state == "present", bool(doubted)))
    return found
