"""One lot of files, from their paths to their rows.

Bytes come first and rows second: a lot is read, looked up, brought into the store, and then registered in one
transaction with its refusals. No file is touched inside of a transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.attachments import attach
from nightmill.backbone.catalogue.calibrations import Role, give
from nightmill.backbone.catalogue.files import known_files
from nightmill.backbone.catalogue.registration import NewFile, add_copies, register
from nightmill.backbone.catalogue.replicas import in_store
from nightmill.backbone.catalogue.withdrawals import withdrawals, withdrawn
from nightmill.backbone.schema import FileRow, RefusalRow
from nightmill.clock import utc_now
from nightmill.errors import FileRefused, NameTaken, StoreError
from nightmill.files.naming import fit_name, name_of_content
from nightmill.files.recognition import Sorting
from nightmill.model.base import storable
from nightmill.model.file_warning import FileWarning
from nightmill.model.origin import Origin
from nightmill.operations.attachments import load_rows
from nightmill.operations.ingest.arrivals import LARGE_BYTES, Arrival, Offered, Refused, inspect_all, side_by_side
from nightmill.operations.ingest.manual_names import propose_names
from nightmill.operations.ingest.placement import Mode, Placement
from nightmill.operations.site import Site

TAKE_BACK: Final = "'nightmill retype' takes it back, as what it is"
TRIES: Final = 3
"""How often a lot is registered anew when another process took one of its names in that very moment."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Offer:
    """A file with what is to be registered of it."""

    arrival: Arrival
    new: NewFile
    path: str
    """In the store."""

    def refuse(self, reason: str, why: str) -> Refused:
        """Make the refusal of the file."""
        return _refused(self.arrival, reason, why)

    @property
    def role(self) -> Role | None:
        """Its role as calibration, where its type gives it one."""
        return Role.of_type(self.arrival.file_type, self.new.begins_at, self.new.ends_at)


@dataclass
class Lot:
    """What became of the files of a lot."""

    wanted: list[Offer] = field(default_factory=list)
    """To be taken in."""
    registered: list[Offer] = field(default_factory=list)
    copied: list[Offer] = field(default_factory=list)
    """In the catalogue before, with the same bytes, and now in this store as well."""
    skipped: list[Offer] = field(default_factory=list)
    """In the catalogue before, with the same bytes."""
    refused: list[Refused] = field(default_factory=list)
    failure: StoreError | None = None
    """What the store could not do; some files of the lot were not even tried to the end."""


@dataclass(frozen=True)
class Intake:
    """How files are taken in."""

    site: Site
    sorting: Sorting
    origin: Origin
    provenance: str
    placement: Placement
    who: str
    pool: Executor
    add_copies: bool = False
    """Whether a file that is registered, and not in the store, gets a copy there."""

    def take_in(self, files: Sequence[Offered], refused: Sequence[Refused] = ()) -> Lot:
        """Take in one lot.

        Parameters
        ----------
        refused
            What was refused before it was read: it goes on record with the lot.

        Raises
        ------
        DatabaseAway
            Where the database cannot be used: nothing of the lot is registered.
        """
        lot = self.look(files, refused, self.site.config.spool)
        brought, own = self._bring(lot.wanted, lot)
        self._register(brought, lot)
        kept = {offer.path for offer in [*lot.registered, *lot.copied, *lot.skipped]}
        late = {offer.path for offer in own} - kept
        for path in late:
            self.placement.stager.remove(path)
        return lot

    def look(self, files: Sequence[Offered], refused: Sequence[Refused] = (), spool: Path | None = None) -> Lot:
        """Say of each file what it is, and what is to become of it; the stores and the catalogue stay as they are.

        Parameters
        ----------
        refused
            As for :meth:`take_in`.
        spool
            As for :func:`~nightmill.operations.ingest.arrivals.inspect_all`.
        """
        lot = Lot(refused=list(refused))
        arrivals = []
        for outcome in inspect_all(files, self.sorting, spool, self.pool):
            if isinstance(outcome, Arrival):
                arrivals.append(outcome)
            else:
                lot.refused.append(outcome)
        with self.site.database.reading() as session:
            offers = self._offers(session, arrivals, lot)
            lot.wanted, lot.skipped, others = _judge(session, offers)
            if self.add_copies:
                lacking = self._without_copy(session, lot.skipped)
                lot.skipped = [offer for offer in lot.skipped if offer not in lacking]
                lot.wanted += lacking
        lot.refused += others
        return lot

    def _offers(self, session: Session, arrivals: Sequence[Arrival], lot: Lot) -> list[Offer]:
        """Say under which name, and where, each file is to stand; refuse those whose place does not fit the mode."""
        manual = self.origin is Origin.MANUAL
        names = self._manual_names(session, arrivals) if manual else [fit_name(_told(each)) for each in arrivals]
        offers = []
        for arrival, name in zip(arrivals, names, strict=True):
            found = arrival.inspection
            metadata = found.metadata
            kind = arrival.file_type.name
            folder = f"manual/{kind}" if manual else f"raw/{metadata.data_id.get('night', 'undated')}"
            try:
                path = self.placement.path_of(arrival, folder, name)
            except FileRefused as error:
                lot.refused.append(_refused(arrival, error.reason, str(error)))
                continue
            new = NewFile(
                name=name,
                type=kind,
                origin=self.origin,
                size_bytes=found.size_bytes,
                sha256=found.sha256,
                data_id=metadata.data_id,
                begins_at=metadata.begins_at,
                ends_at=metadata.ends_at,
                metadata=metadata.values,
                original_name=storable(arrival.path.name),
                provenance=self.provenance if manual else None,
                store=self.placement.store,
                path=path,
                footprints=found.footprints,
                warnings=_storable(found.warnings),
            )
            offers.append(Offer(arrival, new, path))
        return offers

    def _manual_names(self, session: Session, arrivals: Sequence[Arrival]) -> list[str]:
        """Give a file that was brought before the name that it got then, and any other a new one."""
        query = select(FileRow.sha256, FileRow.original_name, FileRow.type, FileRow.name, withdrawn()).where(
            among(FileRow.sha256, {arrival.inspection.sha256 for arrival in arrivals}), FileRow.origin == Origin.MANUAL
        )
        before = [tuple(row) for row in session.execute(query)]
        names = {(sha256, original, type_): name for sha256, original, type_, name, _ in before}
        gone = {(sha256, original): name for sha256, original, _, name, is_gone in before if is_gone}
        keys = [
            (arrival.inspection.sha256, storable(arrival.path.name), arrival.file_type.name) for arrival in arrivals
        ]
        names |= {key: gone[key[:2]] for key in keys if key not in names and key[:2] in gone}
        unnamed = list(dict.fromkeys(key for key in keys if key not in names))
        told = {key: storable(_told(arrival)) for key, arrival in zip(keys, arrivals, strict=True)}
        proposed = propose_names(session, [told[key] for key in unnamed])
        names |= dict(zip(unnamed, proposed, strict=True))
        return [names[key] for key in keys]

    def _bring(self, offers: Sequence[Offer], lot: Lot) -> tuple[list[Offer], list[Offer]]:
        """Bring bytes into the store; return the offers whose bytes stand, and those of them that are of this lot."""
        place = self.placement
        if place.mode is Mode.IN_PLACE:
            unchanged = self._each(lambda arrival, _path: place.refuse_change(arrival), offers, lot)
            return [offer for offer, _ in unchanged], []
        with place.alone():
            uploaded = [offer for offer, _ in self._each(place.upload, offers, lot)]
            place.sync([offer.path for offer in uploaded])
            revealed = list(self._each(place.reveal, uploaded, lot))
            brought = [offer for offer, _ in revealed]
            place.stager.settle([offer.path for offer in brought])
        return brought, [offer for offer, is_own in revealed if is_own]

    def _each(
        self, work: Callable[[Arrival, str], Result], offers: Sequence[Offer], lot: Lot
    ) -> Iterator[tuple[Offer, Result]]:
        """Do something with each offer, and yield those with which it could be done."""

        def attempt(offer: Offer) -> Result | Refused | StoreError:
            try:
                return work(offer.arrival, offer.path)
            except FileRefused as error:
                return offer.refuse(error.reason, str(error))
            except StoreError as error:
                return error

        def is_slow(offer: Offer) -> bool:
            return not self.placement.is_local or offer.new.size_bytes >= LARGE_BYTES

        outcomes = side_by_side(attempt, offers, self.pool, where=is_slow)
        for offer, outcome in zip(offers, outcomes, strict=True):
            if isinstance(outcome, Refused):
                lot.refused.append(outcome)
            elif isinstance(outcome, StoreError):
                lot.failure = outcome
            else:
                yield offer, outcome

    def _register(self, brought: Sequence[Offer], lot: Lot) -> None:
        loads = load_rows(self.site, (each for offer in brought for each in offer.arrival.attachments))

        def work(session: Session) -> tuple[list[Offer], list[Offer], list[Offer], list[Refused]]:
            roles: dict[str, dict[int, Role]] = {}
            fresh, same, other = _judge(session, brought)
            copied = self._without_copy(session, same) if self.add_copies else []
            add_copies(session, [offer.new for offer in copied], now=utc_now())
            ids = register(session, [offer.new for offer in fresh], who=self.who, now=utc_now())
            attach(session, ids, [[loads[each.sha256] for each in offer.arrival.attachments] for offer in fresh])
            for offer, id_ in zip(fresh, ids, strict=True):
                if offer.role is not None:
                    roles.setdefault(offer.new.type, {})[id_] = offer.role
            for type_, of_type in roles.items():
                give(session, of_type, who=self.who, why=f"taken in as {type_}", now=utc_now())
            self._write_refusals(session, [*lot.refused, *other])
            return fresh, copied, [offer for offer in same if offer not in copied], other

        for number in range(1, TRIES + 1):
            try:
                lot.registered, lot.copied, same, other = self.site.database.write(work)
            except NameTaken:
                if number == TRIES:
                    raise
            else:
                lot.skipped += same
                lot.refused += other
                return

    def _without_copy(self, session: Session, offers: Sequence[Offer]) -> list[Offer]:
        """Return the offers whose files are registered, and have no copy in the store; each file once."""
        first = {offer.new.name: offer for offer in reversed(offers)}
        known, there = known_files(session, first), in_store(session, first, self.placement.store)
        return [offer for name, offer in first.items() if name in known and name not in there]

    def _write_refusals(self, session: Session, refused: Sequence[Refused]) -> None:
        given = self.sorting.given.name if self.sorting.given is not None else ""
        rows = [
            {
                "at": utc_now(),
                "who": self.who,
                "path": storable(each.path),
                "type": each.type or given,
                "origin": self.origin.value,
                "reason": each.reason,
                "message": storable(each.message),
                "size_bytes": each.size_bytes,
                "sha256": each.sha256,
            }
            for each in refused
        ]
        if rows:
            session.execute(insert(RefusalRow), rows)


def _judge(session: Session, offers: Sequence[Offer]) -> tuple[list[Offer], list[Offer], list[Refused]]:
    """Divide offers by their names: free ones, those that are there with the same bytes, and those that are taken."""
    there = known_files(session, (offer.new.name for offer in offers))
    gone = withdrawals(session, [found.id for found in there.values()])
    known = {name: (found.sha256, found.type) for name, found in there.items()}
    free: list[Offer] = []
    same: list[Offer] = []
    taken: list[Refused] = []
    for offer in offers:
        new = offer.new
        found = known.get(new.name)
        if found is None:
            known[new.name] = (new.sha256, new.type)
            free.append(offer)
        elif new.name in there and there[new.name].id in gone and found[0] == new.sha256:
            last = gone[there[new.name].id][-1]
            taken.append(offer.refuse("withdrawn", f"{storable(offer.arrival.shown)}: {new.name} {last}; {TAKE_BACK}"))
        elif found == (new.sha256, new.type):
            same.append(offer)
        else:
            how = f"as {found[1]!r}" if found[0] == new.sha256 else "with other bytes"
            taken_by = f"the name {new.name} is taken: registered already, {how}; see 'nightmill show {new.name}'"
            why = f"{storable(offer.arrival.shown)}: {taken_by}"
            taken.append(offer.refuse("name_taken", why))
    return free, same, taken


def _refused(arrival: Arrival, reason: str, why: str) -> Refused:
    found = arrival.inspection
    return Refused(arrival.shown, reason, why, found.size_bytes, found.sha256, arrival.file_type.name)


def _told(arrival: Arrival) -> str:
    """Return the name that a file comes with, with an end that tells how its bytes are compressed."""
    compression = arrival.inspection.compression
    name = arrival.path.name
    return name if compression is None else name_of_content(name, compression)


def _storable(warnings: Sequence[FileWarning]) -> tuple[FileWarning, ...]:
    return tuple([each.model_copy(update={"message": storable(each.message)}) for each in warnings])
