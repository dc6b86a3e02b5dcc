"""Verifying what is on record and in the stores by what workers signed, without their journals.

A statement is believed where a key of the site signed it. Then the record is compared with it: the order, the files
and their digests, what was read, the steps; and the bytes of every copy that is here with the record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.files import files_named, name_meant, near_names
from nightmill.backbone.catalogue.replicas import Replica, replicas
from nightmill.backbone.catalogue.signing_keys import Signing, signing_keys
from nightmill.backbone.schema import (
    AttemptRow,
    CampaignRow,
    DeliveryRow,
    FileRow,
    JobRow,
    PlannedInputRow,
)
from nightmill.backbone.work.campaigns import campaigns, exists
from nightmill.errors import StoreError, UnknownName
from nightmill.execution.sealing import unsealed
from nightmill.model.fate import Fate
from nightmill.model.order import AttemptKey
from nightmill.model.statement import Envelope, Statement
from nightmill.model.states import ReplicaState
from nightmill.operations.site import Site
from provenance.signed import contradictions, steps_of
from provenance.statements import breaks, statements_of

_BATCH: Final = 200
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Wrong:
    """Something that is not as it was signed.

    Parameters
    ----------
    what
        The file, attempt or journal.
    why
        What is wrong with it, in words.
    """

    what: str
    why: str


@dataclass
class Verified:
    """What was looked at, and what is wrong with it."""

    attempts: int = 0
    """Attempts that ended, published or not."""
    signed: int = 0
    """Those whose statement a key of the site signed."""
    before: int = 0
    """Those that were carried out before the site had a key."""
    files: int = 0
    copies: int = 0
    """Copies of these that were read, and have the bytes that are on record."""
    unread: list[str] = field(default_factory=list)
    """Copies that could not be read, with why."""
    wrong: list[Wrong] = field(default_factory=list)


@dataclass(frozen=True)
class _Attempt:
    id: int
    key: AttemptKey
    order_sha256: str
    fate: str | None
    issued_at: datetime
    site_id: int


def verify(site: Site, name: str, *, bytes_too: bool = True, progress: Progress | None = None) -> Verified:
    """Verify a file, or a campaign with all that its attempts made.

    Parameters
    ----------
    name
        Of the campaign or file.
    bytes_too
        Whether copies are read; else the record alone is compared with what was signed.
    progress
        Is told how many of all attempts were looked at.

    Raises
    ------
    UnknownName
        Where there is neither.
    """
    found = Verified()
    with site.database.reading() as session:
        whose = CampaignRow.name == name if exists(session, name) else None
        only: FileRow | None = None
        if whose is None:
            only = _file(session, name)
            whose = AttemptRow.id == only.attempt_id
        query = select(AttemptRow.id).join(JobRow).join(CampaignRow).where(whose, AttemptRow.ended_at.is_not(None))
        ids = session.scalars(query.order_by(AttemptRow.id)).all()
        keys = signing_keys(session)
    if only is not None and only.attempt_id is None:
        _copies(site, [only], found, bytes_too=bytes_too)
        return found
    journals: set[str] = set()
    for start in range(0, len(ids), _BATCH):
        journals |= _Batch(site, ids[start : start + _BATCH], keys, found).verify(only, bytes_too=bytes_too)
        if progress is not None:
            progress(min(start + _BATCH, len(ids)), len(ids))
    with site.database.reading() as session:
        found.wrong += [Wrong("chain", why) for why in breaks(session, sorted(journals))]
    return found


def _file(session: Session, name: str) -> FileRow:
    if meant := name_meant(session, name):
        return files_named(session, [meant])[meant]
    known = [row.name for row in campaigns(session)] + near_names(session, name)
    raise UnknownName("file or campaign", name, known, remedy="see 'nightmill find' and 'nightmill status'")


class _Batch:
    """Some attempts, with all that is on record of them."""

    def __init__(self, site: Site, ids: Sequence[int], keys: Mapping[str, Signing], found: Verified) -> None:
        self._site, self._keys, self._found = site, keys, found
        with site.database.reading() as session:
            self._attempts = list(_attempts(session, ids))
            self._statements = statements_of(session, ids)
            made = session.scalars(select(FileRow).where(among(FileRow.attempt_id, ids)).order_by(FileRow.id)).all()
            self._made: dict[int, list[FileRow]] = {number: [] for number in ids}
            for row in made:
                self._made[row.attempt_id or 0].append(row)
            self._delivered = _delivered(session, ids)
            self._read = _read(session, ids)
            self._steps = steps_of(session, ids)

    def verify(self, only: FileRow | None, *, bytes_too: bool) -> set[str]:
        """Verify each, and return the journals of their chains."""
        journals = set()
        for attempt in self._attempts:
            self._found.attempts += 1
            statement = self._believed(attempt)
            if statement is not None:
                journals.add(statement.predicate.journal)
                self._found.wrong += [Wrong(str(attempt.key), why) for why in self._contradictions(attempt, statement)]
        files = [row for rows in self._made.values() for row in rows if only is None or row.id == only.id]
        _copies(self._site, files, self._found, bytes_too=bytes_too)
        return journals

    def _believed(self, attempt: _Attempt) -> Statement | None:
        """Return what was signed of an attempt, where a key of its site signed it."""
        envelope = self._statements.get(attempt.id)
        if envelope is None:
            first = min([key.added_at for key in self._keys.values() if key.site_id == attempt.site_id], default=None)
            if first is None or attempt.issued_at < first:
                self._found.before += 1
            elif attempt.fate not in (Fate.LOST, Fate.CANCELLED, Fate.NODE_FAILED, Fate.PREEMPTED, Fate.ENDED_OUTSIDE):
                self._found.wrong.append(Wrong(str(attempt.key), "nothing that its worker signed is on record"))
            return None
        public = {keyid: key.public_key for keyid, key in self._keys.items() if key.site_id == attempt.site_id}
        if why := unsealed(envelope, public) or _unread(envelope):
            self._found.wrong.append(Wrong(str(attempt.key), f"its statement is not believed: {why}"))
            return None
        self._found.signed += 1
        return envelope.statement

    def _contradictions(self, attempt: _Attempt, statement: Statement) -> Iterator[str]:
        claim = statement.predicate
        if claim.attempt != attempt.key:
            yield f"its statement is about {claim.attempt}"
            return
        if claim.order_sha256 != attempt.order_sha256:
            yield "it was signed with another order than it was issued with"
        if attempt.fate == Fate.PUBLISHED and claim.fate is not Fate.PUBLISHED:
            yield f"it is on record as published, and was signed as {claim.fate}"
        signed = {file.name: file.sha256 for file in statement.subject}
        there = {row.name: row.sha256 for row in self._made[attempt.id]} | self._delivered.get(attempt.id, {})
        yield from _differences(there, signed, "made", missing=attempt.fate == Fate.PUBLISHED)
        inputs = {file.name: file.sha256 for file in claim.inputs}
        yield from _differences(self._read.get(attempt.id, {}), inputs, "read", missing=False)
        yield from contradictions(self._steps.get(attempt.id, {}), claim)


def _differences(there: Mapping[str, str], signed: Mapping[str, str], did: str, *, missing: bool) -> Iterator[str]:
    """Yield how the files on record are not those that were signed."""
    for name, digest in there.items():
        if name not in signed:
            yield f"{name} is on record as {did} by it, and was not signed"
        elif signed[name] != digest:
            yield f"{name} was signed with SHA-256 {signed[name]}, and is on record with {digest}"
    if missing:
        for name in sorted(signed.keys() - there.keys()):
            yield f"{name} was signed as {did} by it, and is not on record"


def _unread(envelope: Envelope) -> str:
    try:
        _ = envelope.statement
    except ValueError as error:
        return f"it is not a statement about an attempt: {error}"
    return ""


def _attempts(session: Session, ids: Sequence[int]) -> Iterator[_Attempt]:
    query = (
        select(AttemptRow, CampaignRow.name, CampaignRow.site_id, JobRow.stage, JobRow.unit)
        .join(JobRow, JobRow.id == AttemptRow.job_id)
        .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
        .where(among(AttemptRow.id, ids))
        .order_by(AttemptRow.id)
    )
    for row, campaign, site_id, stage, unit in session.execute(query):
        key = AttemptKey(campaign=campaign, stage=stage, unit=unit, number=row.number)
        yield _Attempt(row.id, key, row.order_sha256, row.fate, row.issued_at, site_id)


def _delivered(session: Session, ids: Sequence[int]) -> dict[int, dict[str, str]]:
    found: dict[int, dict[str, str]] = {}
    for row in session.scalars(select(DeliveryRow).where(among(DeliveryRow.attempt_id, ids))):
        found.setdefault(row.attempt_id, {})[row.path.rpartition("/")[2]] = row.sha256
    return found


def _read(session: Session, ids: Sequence[int]) -> dict[int, dict[str, str]]:
    query = (
        select(PlannedInputRow.attempt_id, FileRow.name, FileRow.sha256)
        .join(FileRow, FileRow.id == PlannedInputRow.file_id)
        .where(among(PlannedInputRow.attempt_id, ids))
    )
    found: dict[int, dict[str, str]] = {}
    for attempt_id, name, digest in session.execute(query):
        found.setdefault(attempt_id, {})[name] = digest
    return found


def _copies(site: Site, files: Sequence[FileRow], found: Verified, *, bytes_too: bool) -> None:
    """Read the copies of files that are here, and compare them with the record."""
    found.files += len(files)
    if not bytes_too:
        return
    with site.database.reading() as session:
        copies = replicas(session, [row.id for row in files])
    for row in files:
        for copy in copies.get(row.id, ()):
            if copy.state == ReplicaState.PRESENT:
                _copy(site, row, copy, found)


def _copy(site: Site, row: FileRow, copy: Replica, found: Verified) -> None:
    where = f"{copy.store}:{copy.path}"
    if copy.store not in site.stagers:
        found.unread.append(f"{where}: the store is not of this site")
        return
    try:
        with site.moving(copy.store) as stager:
            size = stager.size(copy.path)
            digest = stager.sha256(copy.path) if size is not None else None
    except StoreError as error:
        found.unread.append(f"{where}: {error.message}")
        return
    if size is None:
        found.wrong.append(Wrong(row.name, f"{where} is not there"))
    elif digest != row.sha256:
        found.wrong.append(Wrong(row.name, f"{where} has SHA-256 {digest}, and {row.sha256} is on record"))
    else:
        found.copies += 1
