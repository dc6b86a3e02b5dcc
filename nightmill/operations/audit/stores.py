"""Stores compared with the catalogue: files without a copy on record, copies without their file, uploads left behind.

A store is listed once, and looked up a thousand paths at a time. Which copies were met is kept in a bit each, so that
those that were not met are found by one pass over their rows.
"""

from __future__ import annotations

import fcntl
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from sqlalchemy import func, select

from nightmill.backbone.among import among
from nightmill.backbone.schema import CampaignRow, FileRow, ReplicaRow, StoreRow
from nightmill.backbone.sites import is_here
from nightmill.errors import StoreError
from nightmill.execution.journal import JournalBroken, journals, read_whole_journal, recorded_journals
from nightmill.execution.scratch import token
from nightmill.model.ports import Stager
from nightmill.model.report import JobReport, fold
from nightmill.operations.audit.contradiction import FETCH, Contradiction, Ground, Kind
from nightmill.operations.flight.note import names_noted
from nightmill.operations.transport.bring import file_of, goes_on

_CAMPAIGN_AND_ATTEMPT: Final = re.compile(r"c(\d{2,})_?a(\d{2,})")
_INGEST: Final = "ingest-"


def find(ground: Ground) -> Iterator[Contradiction]:
    """Yield what contradicts the catalogue in each store, and what was left in each store and working area."""
    for name, store in ground.site.config.stores.items():
        stager = ground.site.stagers[name]
        try:
            if store.catalogued:
                yield from _Comparison(ground, name, stager, can_list=not store.read_only).find()
            yield from _uploads(ground, name, stager)
        except StoreError as error:
            yield Contradiction(Kind.UNREADABLE, f"store {name}", error.message, error.remedy or "see who may read it")


@dataclass
class _Comparison:
    """One store and what the catalogue says of it."""

    ground: Ground
    name: str
    stager: Stager
    can_list: bool = True
    """Where the store cannot, what is on record is looked at file by file."""
    _met: bytearray = field(default_factory=bytearray)
    """A bit a row of a copy: whether its file was met with the size on record."""
    _unnamed: dict[str, int] = field(default_factory=dict)

    def find(self) -> Iterator[Contradiction]:
        with self.ground.site.database.reading() as session:
            store_id = session.scalar(select(StoreRow.id).where(is_here(session), StoreRow.name == self.name))
            total = session.scalar(select(func.count()).where(ReplicaRow.store_id == store_id)) or 0
        listed, done = self.stager.list() if self.can_list else self._on_record(store_id), 0
        while batch := dict(islice(listed, FETCH)):
            yield from self._look_up(store_id, batch)
            done += len(batch)
            if self.ground.report is not None:
                self.ground.report(done, max(done, total))
        yield from self._strangers(store_id)
        yield from self._missing(store_id)

    def _on_record(self, store_id: int | None) -> Iterator[tuple[str, int]]:
        """Yield path and size in bytes of every copy on record that is there."""
        query = (
            select(ReplicaRow.path)
            .where(ReplicaRow.store_id == store_id, ReplicaRow.state == "present")
            .order_by(ReplicaRow.id)
            .execution_options(yield_per=FETCH)
        )
        with self.ground.site.database.reading() as session, session.scalars(query) as paths:
            for path in paths:
                if (size_bytes := self.stager.size(path)) is not None:
                    yield path, size_bytes

    def _look_up(self, store_id: int | None, batch: Mapping[str, int]) -> Iterator[Contradiction]:
        query = (
            select(ReplicaRow.id, ReplicaRow.path, ReplicaRow.state, FileRow.size_bytes, FileRow.sha256)
            .join(FileRow, FileRow.id == ReplicaRow.file_id)
            .where(ReplicaRow.store_id == store_id, among(ReplicaRow.path, batch))
        )
        with self.ground.site.database.reading() as session:
            rows = session.execute(query).all()
        self._unnamed |= {path: batch[path] for path in batch.keys() - {row.path for row in rows}}
        for id_, path, state, size_bytes, sha256 in rows:
            self._meet(id_)
            if state != "present":
                continue
            if batch[path] != size_bytes:
                told = f"it has {batch[path]} bytes, and {size_bytes} are on record"
            elif self.ground.checksums and self.stager.sha256(path) != sha256:
                told = f"its SHA-256 is another than on record ({sha256})"
            else:
                continue
            yield Contradiction(
                Kind.REPLICA_CHANGED,
                f"{self.name}:{path}",
                told,
                "keep it aside, and bring back the right bytes from another copy or a backup",
            )

    def _strangers(self, store_id: int | None) -> Iterator[Contradiction]:
        """Yield files that nobody names still, once the whole store was listed."""
        paths = sorted(self._unnamed)
        if not paths:
            return
        with self.ground.site.database.reading() as session:
            # Another site may have a store in the same place: what it has there is not unnamed.
            url = select(StoreRow.url).where(StoreRow.id == store_id).scalar_subquery()
            same = select(StoreRow.id).where(StoreRow.url == url)
            query = select(ReplicaRow.path).where(ReplicaRow.store_id.in_(same), among(ReplicaRow.path, paths))
            named = set(session.scalars(query))
        under_way = {
            file.path
            for report in self.ground.told_by_the_living().values()
            for file in report.intended
            if file.store == self.name
        }
        checks = names_noted(self.ground.site.config.spool)
        strange = [path for path in paths if path not in named | under_way and path.partition(".")[0] not in checks]
        left = [path for path in strange if self.stager.size(path) is not None]
        whose = self._owners(left)
        for path in left:
            who, remedy = whose[path]
            yield Contradiction(
                Kind.FILE_UNNAMED,
                f"{self.name}:{path}",
                f"{self._unnamed[path]} bytes, and no copy on record is there; {who}",
                remedy,
            )

    def _owners(self, paths: list[str]) -> dict[str, tuple[str, str]]:
        """Say of each file whose it probably is, and what to do: by the journals, else by its name."""
        found: dict[str, tuple[str, str]] = {}
        wanted = set(paths)
        if wanted:
            for report in _all_reports(self.ground):
                for file in report.intended:
                    if file.store == self.name and file.path in wanted:
                        told = f"it is probably of {report.attempt}, whose journal declares it"
                        found[file.path] = (told, "'nightmill recover' shows whether it can be had back")
        with self.ground.site.database.reading() as session:
            campaigns = {number: name for number, name in session.execute(select(CampaignRow.id, CampaignRow.name))}
        for path in wanted - found.keys():
            match = _CAMPAIGN_AND_ATTEMPT.search(path.rpartition("/")[2])
            if match is None:
                told = "neither a journal nor its name tells whose it is"
                remedy = "'nightmill ingest --mode in-place' takes it in; else move it out of the store"
            else:
                number, attempt = int(match[1]), int(match[2])
                campaign = campaigns.get(number, "which the database does not know")
                told = f"by its name it is of attempt {attempt} of campaign {number} ({campaign})"
                remedy = "no journal tells of it any more: see what it is, then move it out of the store"
            found[path] = (told, remedy)
        return found

    def _missing(self, store_id: int | None) -> Iterator[Contradiction]:
        query = (
            select(ReplicaRow.id, ReplicaRow.path, FileRow.name, ReplicaRow.verified_at)
            .join(FileRow, FileRow.id == ReplicaRow.file_id)
            .where(ReplicaRow.store_id == store_id, ReplicaRow.state == "present")
            .order_by(ReplicaRow.id)
            .execution_options(yield_per=FETCH)
        )
        with self.ground.site.database.reading() as session, session.execute(query) as copies:
            for id_, path, name, verified_at in copies:
                if self._was_met(id_) or self.stager.size(path) is not None:
                    continue  # what was registered since the store was listed is there
                yield Contradiction(
                    Kind.REPLICA_MISSING,
                    f"{self.name}:{path}",
                    f"the file of {name} is not there, and was when it was seen last",
                    f"bring it back, or see with 'nightmill show {name}' where other copies are",
                    since=verified_at,
                )

    def _meet(self, number: int) -> None:
        if len(self._met) <= number >> 3:
            self._met.extend(bytes((number >> 3) + 4096 - len(self._met)))
        self._met[number >> 3] |= 1 << (number & 7)

    def _was_met(self, number: int) -> bool:
        return number >> 3 < len(self._met) and bool(self._met[number >> 3] & 1 << (number & 7))


def _uploads(ground: Ground, store: str, stager: Stager) -> Iterator[Contradiction]:
    found = dict(stager.uploads())
    if not found:
        return
    open_ = ground.open_tokens()  # after the list: whoever began since is not in it
    left = {place: attempt for place, attempt in found.items() if not _called(attempt) & open_}
    if any(attempt.startswith(_INGEST) for attempt in left.values()) and _ingest_goes_on(ground):
        left = {place: attempt for place, attempt in left.items() if not attempt.startswith(_INGEST)}
    left = {place: attempt for place, attempt in left.items() if not goes_on(ground.site.config.spool, attempt)}
    still = dict(stager.uploads()) if left else {}
    names = {token(report.attempt): str(report.attempt) for report in _all_reports(ground)} if left else {}
    for place, attempt in left.items():
        if place not in still:
            continue
        if attempt.startswith(_INGEST):
            who, remedy = "of an ingest that did not end", "type that ingest again, or remove it"
        elif file_of(attempt) is not None:
            who, remedy = "of a transfer between sites that did not end", "the next one takes its place; or remove it"
        else:
            called = next((names[name] for name in _called(attempt) & names.keys()), f"an attempt called {attempt}")
            who = f"of {called}, which is not open"
            remedy = "'nightmill record' removes it where its journal waits; else remove it"
        yield Contradiction(Kind.UPLOAD_LEFT, f"{store}:{place}", f"an upload is left {who}", remedy)


def _called(upload: str) -> set[str]:
    """Return what the attempt of an upload may be called: its name may end with that of its writer."""
    return {upload, upload.rpartition("-")[0]}


def _ingest_goes_on(ground: Ground) -> bool:
    lock = ground.site.private / "ingest.lock"
    try:
        with lock.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _all_reports(ground: Ground) -> Iterator[JobReport]:
    """Yield what every journal tells, recorded or not."""
    spool = ground.site.config.spool
    for path in (*journals(spool), *recorded_journals(spool)):
        try:
            yield from fold(read_whole_journal(path).entries).values()
        except (JournalBroken, OSError):
            continue  # the part of the journals tells of it
