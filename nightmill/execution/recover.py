"""What becomes of attempts whose process died: each is ended from its own journal and its own bytes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from nightmill.errors import StoredFileMissing
from nightmill.execution.job import Clock, utc_now
from nightmill.execution.journal import Journal, append_entries
from nightmill.execution.owner import is_alive
from nightmill.execution.publish import settle
from nightmill.execution.scratch import Scratch, token
from nightmill.model.fate import AttemptState, Fate
from nightmill.model.journal import Done, JobReport, MadeFile, fold
from nightmill.model.ports import Stager


def writer_is_dead(journal: Journal) -> bool:
    """Whether nobody can append to a journal any more, as far as can be told from this host."""
    return journal.header is None or is_alive(journal.header.owner) is False


def finish_dead(
    journal: Journal, stagers: Mapping[str, Stager], *, scratch: Path | None = None, now: Clock = utc_now
) -> list[Done]:
    """End every attempt that a dead writer left open, and append the ends to its journal.

    An attempt that had declared its intent is adopted where each file of the intent stands under its name, or waits
    under its temporary one, with the bytes of the intent. Any other is lost: what it had revealed or uploaded is
    removed again, which is safe because the bytes are proven to be its own.

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
    ends = [_finish(report, stagers, now) for report in open_reports]
    if ends:
        append_entries(journal.path, ends)
    if scratch is not None:
        for report in open_reports:
            Scratch.discard(scratch, report.order)
    return ends


def _finish(report: JobReport, stagers: Mapping[str, Stager], now: Clock) -> Done:
    if report.state is AttemptState.PUBLISHING:
        if all(_stands(file, report, stagers) for file in report.intended):
            settle(report.intended, stagers)
            return Done(
                attempt=report.attempt,
                at=now(),
                state=AttemptState.PUBLISHED if report.fate is Fate.PUBLISHED else AttemptState.FAILED,
                fate=report.fate or Fate.LOST,
                step=report.failed_step,
                evidence=report.evidence,
                published=tuple(file.name for file in report.intended),
                adopted=True,
            )
        _take_back(report, stagers)
    step = report.steps[-1].name if report.steps else ""
    return Done(
        attempt=report.attempt,
        at=now(),
        state=AttemptState.LOST,
        fate=Fate.LOST,
        step=step,
        evidence=f"its process on {report.host} died while it was {report.state}"
        + (f", in step {step!r}" if step else ""),
    )


def _stands(file: MadeFile, report: JobReport, stagers: Mapping[str, Stager]) -> bool:
    """Whether a file of the intent is in its store, after revealing it where it only waits for that."""
    stager, attempt = stagers[file.store], token(report.attempt)
    if stager.size(file.path) is None:
        if stager.uploaded(file.path, attempt=attempt) != (file.size_bytes, file.sha256):
            return False
        stager.reveal(file.path, attempt=attempt)
    elif not _is_own(file, stager):
        return False
    stager.discard(file.path, attempt=attempt)
    return True


def _is_own(file: MadeFile, stager: Stager) -> bool:
    return stager.size(file.path) == file.size_bytes and stager.sha256(file.path) == file.sha256


def _take_back(report: JobReport, stagers: Mapping[str, Stager]) -> None:
    for file in report.intended:
        stager = stagers[file.store]
        stager.discard(file.path, attempt=token(report.attempt))
        with suppress(StoredFileMissing):
            if stager.size(file.path) is not None and _is_own(file, stager):
                stager.remove(file.path)
