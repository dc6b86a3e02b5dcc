"""What becomes of attempts whose process died: each is ended from its own journal and its own bytes.

Nothing here trusts a journal. Who calls it says of which attempts the bytes may be touched, and which places are
others'.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from nightmill.clock import Clock, utc_now
from nightmill.errors import StoreError
from nightmill.execution.context import stager_of
from nightmill.execution.dispatches import ending_in
from nightmill.execution.journal import Journal, append_entries, read_journal
from nightmill.execution.owner import is_alive, lives
from nightmill.execution.publish import settle
from nightmill.execution.scratch import Scratch, token
from nightmill.model.dispatch import Ending
from nightmill.model.fate import Fate
from nightmill.model.journal import Done, MadeFile
from nightmill.model.order import AttemptKey
from nightmill.model.ports import Stager
from nightmill.model.report import JobReport, fold
from nightmill.model.states import AttemptState

_NONE: Final[Mapping[str, datetime]] = MappingProxyType({})


@dataclass(frozen=True)
class Rights:
    """What may be done with the bytes of an attempt that a dead process left open."""

    given_up: Fate | None = None
    """The fate that it is on record with, where it was ended already: then nothing is revealed nor removed but its
    temporary uploads, and it counts as published only where everything stands."""
    evidence: str = ""
    """What is on record with that fate."""
    others: frozenset[tuple[str, str]] = frozenset()
    """Stores and paths of its intent at which the file of another is registered: never touched."""


@dataclass
class Finished:
    """What :func:`finish_dead` did."""

    ends: list[Done] = field(default_factory=list)
    """What was appended to the journal."""
    waiting: dict[AttemptKey, StoreError] = field(default_factory=dict)
    """Attempts that stay open because a store could not be asked, and why."""


def writer_is_dead(journal: Journal, lost_hosts: Mapping[str, datetime] = _NONE) -> bool:
    """Whether nothing that is appended to a journal counts any more, as far as can be told from this host.

    A worker's that carries out a dispatch is dead as well once that is over, though its process may still be there.
    """
    header = journal.header
    if header is None or lives(header.owner, header.begun_at, lost_hosts) is False:
        return True
    return ending_in(journal.path.parent, header.dispatch) is not None


def read_to_its_end(path: Path, lost_hosts: Mapping[str, datetime] = _NONE) -> tuple[Journal, bool]:
    """Read a journal and say whether its writer is dead; if so, nothing that it wrote is missing.

    Parameters
    ----------
    lost_hosts
        When hosts were declared lost, whose processes cannot be seen from here.
    """
    journal = read_journal(path)
    if not writer_is_dead(journal, lost_hosts):
        return journal, False
    return read_journal(path), True  # it may have written more between the first reading and its death


def finish_dead(
    journal: Journal,
    stagers: Mapping[str, Stager],
    rights: Mapping[AttemptKey, Rights],
    *,
    scratch: Path | None = None,
    now: Clock = utc_now,
) -> Finished:
    """End attempts that a dead writer left open, and append the ends to its journal.

    An attempt that had declared its intent is adopted where each file of the intent stands under its name, or waits
    under its temporary one, with the bytes of the intent. Any other is lost, or failed as it had declared: what it had
    revealed or uploaded is removed again, which is safe because the bytes are proven to be its own.

    Parameters
    ----------
    rights
        The attempts that may be ended, with what may be done about each; every other stays as it is.

    Returns
    -------
    Finished
        An attempt whose store cannot be asked waits; the same call may end it later.
    """
    header = journal.header
    here = header is not None and is_alive(header.owner) is not None
    how = "died" if here else "was lost with its host"
    ending = ending_in(journal.path.parent, header.dispatch) if header is not None else None
    finished = Finished()
    for report in fold(journal.entries).values():
        if report.state.ended or report.attempt not in rights:
            continue
        try:
            upload = token(report.attempt, header.writer if header else "")
            finished.ends.append(_Left(report, upload, rights[report.attempt], stagers, ending).finish(now, how))
        except StoreError as error:
            finished.waiting[report.attempt] = error
            continue
        if scratch is not None:
            Scratch.discard(scratch, report.order)
    if finished.ends:
        append_entries(journal.path, finished.ends)
    return finished


def contradicted(files: Iterable[MadeFile], stagers: Mapping[str, Stager]) -> str:
    """Say which of some files, told as published, does not stand in its store with its bytes; empty where all do.

    Raises
    ------
    StoreError
        Where a store cannot be asked.
    """
    for file in files:
        stager = stager_of(file.store, stagers)
        if stager.size(file.path) is None:
            return f"store {file.store!r} does not hold {file.path!r}, which is told as published"
        if not _is_own(file, stager):
            return f"store {file.store!r} holds other bytes under {file.path!r} than are told as published"
    return ""


def _is_own(file: MadeFile, stager: Stager) -> bool:
    return stager.size(file.path) == file.size_bytes and stager.sha256(file.path) == file.sha256


@dataclass(frozen=True)
class _Left:
    """What a dead process left of an attempt."""

    report: JobReport
    upload: str
    """By which its uploads are named."""
    rights: Rights
    stagers: Mapping[str, Stager]
    ending: Ending | None
    """How the dispatch ended that it was part of."""

    def finish(self, now: Clock, how: str) -> Done:
        report, stagers = self.report, self.stagers
        given_up = self.rights.given_up is not None
        if report.state is not AttemptState.PUBLISHING or (given_up and not self.all_stand()):
            self.discard()
            return self.lost(now, how)
        if all(self.is_there(file) for file in report.intended):
            published = self.reveal()
            settle(report.intended, stagers)
        else:
            self.take_back()
            if report.fate is Fate.PUBLISHED:
                return self.lost(now, how)
            published = ()
        fate = report.fate or Fate.LOST
        return Done(
            attempt=report.attempt,
            at=now(),
            state=fate.attempt_state,
            fate=fate,
            step=report.failed_step,
            evidence=report.evidence,
            published=published,
            adopted=bool(published),
        )

    def lost(self, now: Clock, how: str) -> Done:
        report, rights = self.report, self.rights
        step = report.steps[-1].name if report.steps else ""
        said = self.ending if self.ending is not None and self.ending.fate else None
        fate = rights.given_up or (said.fate if said is not None and said.fate else Fate.LOST)
        evidence = f"its process on {report.host} {how} while it was {report.state}"
        if said is not None:
            evidence = f"{said.evidence}; on {report.host}, while it was {report.state}"
        return Done(
            attempt=report.attempt,
            at=now(),
            state=fate.attempt_state,
            fate=fate,
            step=step,
            evidence=rights.evidence or evidence + (f", in step {step!r}" if step else ""),
        )

    def is_mine(self, file: MadeFile) -> bool:
        return (file.store, file.path) not in self.rights.others

    def all_stand(self) -> bool:
        intended = self.report.intended
        return all(map(self.is_mine, intended)) and not contradicted(intended, self.stagers)

    def is_there(self, file: MadeFile) -> bool:
        """Whether a file of the intent stands under its name, or waits for that, with the bytes of the intent."""
        if not self.is_mine(file):
            return False
        stager = stager_of(file.store, self.stagers)
        if stager.size(file.path) is not None:
            return _is_own(file, stager)
        return stager.uploaded(file.path, attempt=self.upload) == (file.size_bytes, file.sha256)

    def reveal(self) -> tuple[str, ...]:
        """Give what waits its name, and return the names of the whole intent."""
        for file in self.report.intended:
            stager = stager_of(file.store, self.stagers)
            if stager.size(file.path) is None:
                stager.reveal(file.path, attempt=self.upload)
            stager.discard(file.path, attempt=self.upload)
        return tuple(file.name for file in self.report.intended)

    def take_back(self) -> None:
        for file in self.report.intended:
            stager = stager_of(file.store, self.stagers)
            stager.discard(file.path, attempt=self.upload)
            if self.is_mine(file) and stager.size(file.path) is not None and _is_own(file, stager):
                stager.remove(file.path)

    def discard(self) -> None:
        """Remove what was uploaded and not revealed."""
        order = self.report.order
        made = (*self.report.made, *self.report.intended)
        places = {(file.store, file.path) for file in made if file.store} | {(order.log_store, order.log_path)}
        for store, path in sorted(places):
            stager_of(store, self.stagers).discard(path, attempt=self.upload)
