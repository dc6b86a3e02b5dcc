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

from nightmill.errors import StoreError
from nightmill.execution.job import Clock, stager_of, utc_now
from nightmill.execution.journal import Journal, append_entries, read_journal
from nightmill.execution.owner import is_alive, lives
from nightmill.execution.publish import settle
from nightmill.execution.scratch import Scratch, token
from nightmill.model.fate import AttemptState, Fate
from nightmill.model.journal import Done, JobReport, MadeFile, fold
from nightmill.model.order import AttemptKey
from nightmill.model.ports import Stager

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
    """Whether nobody can append to a journal any more, as far as can be told from this host."""
    header = journal.header
    return header is None or lives(header.owner, header.begun_at, lost_hosts) is False


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
    here = journal.header is not None and is_alive(journal.header.owner) is not None
    how = "died" if here else "was lost with its host"
    finished = Finished()
    for report in fold(journal.entries).values():
        if report.state.ended or report.attempt not in rights:
            continue
        try:
            finished.ends.append(_finish(report, stagers, rights[report.attempt], now, how))
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


def _finish(report: JobReport, stagers: Mapping[str, Stager], rights: Rights, now: Clock, how: str) -> Done:
    if report.state is not AttemptState.PUBLISHING:
        _discard(report, stagers)
        return _lost(report, rights, now, how)
    if rights.given_up is not None and not _all_stand(report, rights, stagers):
        _discard(report, stagers)
        return _lost(report, rights, now, how)
    if all(_is_there(file, report, rights, stagers) for file in report.intended):
        published = _reveal(report, stagers)
    else:
        _take_back(report, rights, stagers)
        if report.fate is Fate.PUBLISHED:
            return _lost(report, rights, now, how)
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


def _lost(report: JobReport, rights: Rights, now: Clock, how: str) -> Done:
    step = report.steps[-1].name if report.steps else ""
    fate = rights.given_up or Fate.LOST
    evidence = f"its process on {report.host} {how} while it was {report.state}"
    return Done(
        attempt=report.attempt,
        at=now(),
        state=fate.attempt_state,
        fate=fate,
        step=step,
        evidence=rights.evidence or evidence + (f", in step {step!r}" if step else ""),
    )


def _all_stand(report: JobReport, rights: Rights, stagers: Mapping[str, Stager]) -> bool:
    mine = not any((file.store, file.path) in rights.others for file in report.intended)
    return mine and not contradicted(report.intended, stagers)


def _is_there(file: MadeFile, report: JobReport, rights: Rights, stagers: Mapping[str, Stager]) -> bool:
    """Whether a file of the intent stands under its name, or waits for that, with the bytes of the intent."""
    if (file.store, file.path) in rights.others:
        return False
    stager = stager_of(file.store, stagers)
    if stager.size(file.path) is not None:
        return _is_own(file, stager)
    return stager.uploaded(file.path, attempt=token(report.attempt)) == (file.size_bytes, file.sha256)


def _is_own(file: MadeFile, stager: Stager) -> bool:
    return stager.size(file.path) == file.size_bytes and stager.sha256(file.path) == file.sha256


def _reveal(report: JobReport, stagers: Mapping[str, Stager]) -> tuple[str, ...]:
    """Give what waits its name, and return the names of the whole intent, which are durable then."""
    for file in report.intended:
        stager, attempt = stager_of(file.store, stagers), token(report.attempt)
        if stager.size(file.path) is None:
            stager.reveal(file.path, attempt=attempt)
        stager.discard(file.path, attempt=attempt)
    settle(report.intended, stagers)
    return tuple(file.name for file in report.intended)


def _take_back(report: JobReport, rights: Rights, stagers: Mapping[str, Stager]) -> None:
    for file in report.intended:
        stager = stager_of(file.store, stagers)
        stager.discard(file.path, attempt=token(report.attempt))
        mine = (file.store, file.path) not in rights.others
        if mine and stager.size(file.path) is not None and _is_own(file, stager):
            stager.remove(file.path)


def _discard(report: JobReport, stagers: Mapping[str, Stager]) -> None:
    """Remove what an attempt uploaded and did not reveal."""
    order = report.order
    places = {(file.store, file.path) for file in (*report.made, *report.intended) if file.store}
    for store, path in sorted(places | {(order.log_store, order.log_path)}):
        stager_of(store, stagers).discard(path, attempt=token(report.attempt))
