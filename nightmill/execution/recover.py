"""What becomes of attempts whose process died: each is ended from its own journal and its own bytes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

from nightmill.execution.job import Clock, stager_of, utc_now
from nightmill.execution.journal import Journal, append_entries, read_journal
from nightmill.execution.owner import is_alive, lives
from nightmill.execution.publish import settle
from nightmill.execution.scratch import Scratch, token
from nightmill.model.fate import AttemptState, Fate
from nightmill.model.journal import Done, JobReport, MadeFile, fold
from nightmill.model.ports import Stager

_NONE: Final[Mapping[str, datetime]] = MappingProxyType({})


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
    journal: Journal, stagers: Mapping[str, Stager], *, scratch: Path | None = None, now: Clock = utc_now
) -> list[Done]:
    """End every attempt that a dead writer left open, and append the ends to its journal.

    An attempt that had declared its intent is adopted where each file of the intent stands under its name, or waits
    under its temporary one, with the bytes of the intent. Any other is lost, or failed as it had declared: what it had
    revealed or uploaded is removed again, which is safe because the bytes are proven to be its own.

    Returns
    -------
    list
        The entries that were appended.

    Raises
    ------
    StoreError
        Where a store cannot be read; nothing was appended, and the same call may succeed later.
    """
    open_reports = [report for report in fold(journal.entries).values() if not report.state.ended]
    here = journal.header is not None and is_alive(journal.header.owner) is not None
    how = "died" if here else "was lost with its host"
    ends = [_finish(report, stagers, now, how) for report in open_reports]
    if scratch is not None:
        for report in open_reports:
            Scratch.discard(scratch, report.order)
    if ends:
        append_entries(journal.path, ends)
    return ends


def _finish(report: JobReport, stagers: Mapping[str, Stager], now: Clock, how: str) -> Done:
    if report.state is not AttemptState.PUBLISHING:
        _discard(report, stagers)
        return _lost(report, now, how)
    if all(_is_there(file, report, stagers) for file in report.intended):
        published = _reveal(report, stagers)
    else:
        _take_back(report, stagers)
        if report.fate is Fate.PUBLISHED:
            return _lost(report, now, how)
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


def _lost(report: JobReport, now: Clock, how: str) -> Done:
    step = report.steps[-1].name if report.steps else ""
    return Done(
        attempt=report.attempt,
        at=now(),
        state=AttemptState.LOST,
        fate=Fate.LOST,
        step=step,
        evidence=f"its process on {report.host} {how} while it was {report.state}"
        + (f", in step {step!r}" if step else ""),
    )


def _is_there(file: MadeFile, report: JobReport, stagers: Mapping[str, Stager]) -> bool:
    """Whether a file of the intent stands under its name, or waits for that, with the bytes of the intent."""
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


def _take_back(report: JobReport, stagers: Mapping[str, Stager]) -> None:
    for file in report.intended:
        stager = stager_of(file.store, stagers)
        stager.discard(file.path, attempt=token(report.attempt))
        if stager.size(file.path) is not None and _is_own(file, stager):
            stager.remove(file.path)


def _discard(report: JobReport, stagers: Mapping[str, Stager]) -> None:
    """Remove what an attempt uploaded before it declared any intent."""
    order = report.order
    places = [(file.store, file.path) for file in report.made if file.store] + [(order.log_store, order.log_path)]
    for store, path in places:
        stager_of(store, stagers).discard(path, attempt=token(report.attempt))
