"""Journals compared with the database: what waits, what cannot be read, and what tells of another end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from nightmill.backbone.work.attempts import Standing, standings
from nightmill.execution.claims import claimants, is_claimed
from nightmill.execution.journal import JournalBroken, journals, read_whole_journal, recorded_journals
from nightmill.execution.live import orphans
from nightmill.execution.owner import lives
from nightmill.execution.quarantine import quarantined
from nightmill.execution.recover import writer_is_dead
from nightmill.model.fate import Fate
from nightmill.model.report import JobReport, fold
from nightmill.model.states import AttemptState
from nightmill.operations.audit.contradiction import FETCH, Contradiction, Ground, Kind

_GIVEN_UP: Final = (AttemptState.CANCELLED, AttemptState.LOST)
RECOVER: Final = "'nightmill recover' shows what can be had back"


def find(ground: Ground) -> Iterator[Contradiction]:
    """Yield what is wrong with journals, those that wait first."""
    yield from _waiting(ground)
    for each in quarantined(ground.site.config.spool):
        yield Contradiction(
            Kind.JOURNAL_QUARANTINED,
            str(each.path),
            f"it was set apart: {each.why[0] if each.why else 'nothing says why'}",
            each.why[-1] if len(each.why) > 1 else "mend it and move it back into the spool, or remove it",
            since=datetime.fromtimestamp(each.path.stat().st_ctime, UTC),
        )
    yield from _claims(ground)
    yield from _live(ground)
    paths = list(recorded_journals(ground.site.config.spool))
    for number, path in enumerate(paths, start=1):
        try:
            reports = [report for report in fold(read_whole_journal(path).entries).values() if report.state.ended]
        except FileNotFoundError:
            continue  # its retention has ended meanwhile
        except (JournalBroken, OSError) as error:
            yield _broken(path, error)
            continue
        for start in range(0, len(reports), FETCH):
            yield from _compare(ground, reports[start : start + FETCH], path)
        if ground.report is not None:
            ground.report(number, len(paths))


def _waiting(ground: Ground) -> Iterator[Contradiction]:
    for path in journals(ground.site.config.spool):
        try:
            journal = read_whole_journal(path)
        except FileNotFoundError:
            continue  # it was recorded to its end meanwhile
        except (JournalBroken, OSError) as error:
            yield _broken(path, error)
            continue
        if writer_is_dead(journal, ground.lost_hosts) and path.exists():
            open_ = sum(not report.state.ended for report in fold(journal.entries).values())
            yield Contradiction(
                Kind.JOURNAL_WAITS,
                str(path),
                f"its writer is dead, and it is not recorded to its end ({open_} attempts have none in it)",
                "'nightmill record' records it, or says why it cannot be",
                since=datetime.fromtimestamp(path.stat().st_mtime, UTC),
            )


def _claims(ground: Ground) -> Iterator[Contradiction]:
    spool = ground.site.config.spool
    kept = {each.path.stem for each in quarantined(spool)}
    for path, claim in claimants(spool).items():
        if claim is None:
            yield Contradiction(Kind.CLAIM_ORPHAN, str(path), "it does not say whose claims it is for", "remove it")
            continue
        if claim.journal in kept or (spool / f"{claim.journal}.jsonl").exists():
            continue
        if lives(claim.owner, claim.begun_at, ground.lost_hosts) is False and path.exists():
            yield Contradiction(
                Kind.CLAIM_ORPHAN,
                str(path),
                f"process {claim.owner.pid} on {claim.owner.host} is dead, and still claims what it carried out",
                "'nightmill record' ends its claims",
                since=claim.begun_at,
            )


def _live(ground: Ground) -> Iterator[Contradiction]:
    spool = ground.site.config.spool
    for path in orphans(spool, is_claimed=lambda name: is_claimed(spool, name)):
        if path.exists():
            yield Contradiction(
                Kind.LIVE_ORPHAN, str(path), "nobody carries out the attempt any more", "'nightmill record' removes it"
            )


def _broken(path: Path, error: Exception) -> Contradiction:
    why = error.message if isinstance(error, JournalBroken) else str(error)
    return Contradiction(
        Kind.JOURNAL_BROKEN, str(path), f"it cannot be read: {why}", "keep it, and tell the developers"
    )


def _compare(ground: Ground, reports: Sequence[JobReport], path: Path) -> Iterator[Contradiction]:
    with ground.site.database.reading() as session:
        known = standings(session, (report.attempt for report in reports))
    for report in reports:
        found = disagreement(report, known.get(report.attempt))
        if found is not None:
            kind, what, remedy = found
            yield Contradiction(kind, str(report.attempt), f"{what} ({path.name})", remedy, since=report.ended_at)


def disagreement(report: JobReport, standing: Standing | None) -> tuple[Kind, str, str] | None:
    """Say in what the end of an attempt that a journal tells contradicts its row; None where it does not.

    A row that tells more than the journal contradicts nothing: the attempt may have been carried out a second time.
    """
    told = f"a journal that was recorded tells that it ended as {report.state}"
    if standing is None:
        return Kind.DATABASE_OLDER, f"{told}, and the database does not know it", RECOVER
    state = standing.state
    if not state.ended:
        return Kind.DATABASE_OLDER, f"{told}, and to the database it is open ({state})", RECOVER
    if state is report.state or standing.fate == Fate.NAME_COLLISION:
        return None
    what = f"a journal tells that it ended as {report.state}, and its row that it was {state}"
    if report.state in _GIVEN_UP and state in _GIVEN_UP:
        return Kind.JOURNAL_DISAGREES, what, "nothing of it counts either way; believe the journal"
    if report.state is AttemptState.PUBLISHED or (report.state is AttemptState.FAILED and state in _GIVEN_UP):
        return Kind.JOURNAL_DISAGREES, what, RECOVER
    return None
