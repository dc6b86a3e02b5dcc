"""From reports to rows: the only writer of provenance.

A report that was recorded before changes nothing, so that a spool may be drained by anyone at any time. What an attempt
made becomes visible with its end, in one transaction: files, copies, metadata, executions, relations, calibrations and
the job's result, or none of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.error_rules import error_ids
from nightmill.backbone.catalogue.files import names_taken
from nightmill.backbone.schema import AttemptRow, JobRow
from nightmill.model.fate import Fate
from nightmill.model.journal import MadeFile
from nightmill.model.order import AttemptKey
from nightmill.model.report import JobReport
from nightmill.model.states import AttemptState, Hold, JobState
from nightmill.model.verdict import NOTHING as NO_VERDICT
from nightmill.model.verdict import Verdict
from provenance.doubts import write_doubts
from provenance.executions import AcceptedIds, AttemptIds, KnownExecution, Stacks, execution_rows, write_executions
from provenance.known import Known, known
from provenance.observed import write_differences
from provenance.products import Attachments, registered, write_files
from provenance.statements import write_statements
from provenance.uses import write_uses

Progress = tuple[int, int, int, int]
"""How many steps began, how many ended, of how many more is known, and the position of the attempt's state."""
_BATCH: Final = 500
NOTHING: Final[Attachments] = MappingProxyType({})
NO_VERDICTS: Final[Mapping[AttemptKey, Verdict]] = MappingProxyType({})
_ORDER: Final = list(AttemptState)
_GIVEN_UP: Final = (AttemptState.CANCELLED, AttemptState.LOST)


@dataclass
class Recorded:
    """What a call of :func:`record` did."""

    published: list[AttemptKey] = field(default_factory=list)
    failed: list[AttemptKey] = field(default_factory=list)
    superseded: list[AttemptKey] = field(default_factory=list)
    """Published after another attempt of the same job had been recorded: kept, and not the result."""
    running: list[AttemptKey] = field(default_factory=list)
    unknown: list[AttemptKey] = field(default_factory=list)
    """Issued by no database that this one knows; nothing was recorded of them."""

    collided: list[tuple[int, tuple[MadeFile, ...]]] = field(default_factory=list)
    """Attempts, by their IDs, that failed here as others have names of theirs, with the files that they had published:
    the caller removes these, as far as nobody has them."""

    def add(self, other: Recorded) -> None:
        """Add what another call did."""
        self.published += other.published
        self.failed += other.failed
        self.superseded += other.superseded
        self.running += other.running
        self.unknown += other.unknown
        self.collided += other.collided


def record(
    session: Session,
    reports: Sequence[JobReport],
    stacks: Stacks,
    *,
    now: datetime,
    attachments: Attachments = NOTHING,
    verdicts: Mapping[AttemptKey, Verdict] = NO_VERDICTS,
) -> Recorded:
    """Write what reports tell, as far as it is not written yet.

    Parameters
    ----------
    session
        In a writing transaction, which the caller commits.
    reports
        Folds of journals, ended or not, in any order, and any of them again: a running attempt's executions and what
        they use are visible while it runs. Of attempts that published for one job, the first recorded is its result,
        until one publishes that was issued to run the job again.
    stacks
        Software by digest, as :func:`nightmill.model.report.stacks` gives it.
    now
        The time of registration, UTC.
    attachments
        Those of files that are to be registered, by their digests: the IDs under which their rows are loaded, hidden.
    verdicts
        What follows from attempts that did not publish, beside what their fates say.
    """
    done = Recorded()
    for start in range(0, len(reports), _BATCH):
        _record_batch(session, reports[start : start + _BATCH], stacks, now, attachments, verdicts, done)
    return done


def _record_batch(
    session: Session,
    reports: Sequence[JobReport],
    stacks: Stacks,
    now: datetime,
    attachments: Attachments,
    verdicts: Mapping[AttemptKey, Verdict],
    done: Recorded,
) -> None:
    attempts = known(session, [report.attempt for report in reports], to_change=True)
    done.unknown += [report.attempt for report in reports if report.attempt not in attempts]
    ids = {attempt: row.attempt_id for attempt, row in attempts.items()}
    rows = execution_rows(session, list(ids.values()))
    told = [report for report in _furthest(reports) if report.attempt in attempts]
    news = [report for report in told if _is_news(report, attempts[report.attempt], rows[ids[report.attempt]])]
    if not news:
        return
    news = _without_taken_names(session, news, ids, done)
    accepted = error_ids(session, {step.accepted for report in news for step in report.steps if step.accepted})
    executions = write_executions(session, news, ids, rows, stacks, accepted)
    _update_attempts(session, news, attempts, verdicts, accepted, done, now)
    ended = [report for report in news if report.state.ended]
    submitters = {attempt: row.submitted_by for attempt, row in attempts.items()}
    made = write_files(session, ended, ids, executions, submitters, attachments, now=now)
    files = write_uses(session, news, ids, executions, made, rows)
    write_differences(session, ended, executions, files, ids)
    write_doubts(session, ended, ids)
    write_statements(session, ended, ids)


def _furthest(reports: Iterable[JobReport]) -> list[JobReport]:
    """Return one report an attempt: the one that tells most, in the order in which the attempts came first."""
    furthest: dict[AttemptKey, JobReport] = {}
    for report in reports:
        other = furthest.setdefault(report.attempt, report)
        if _how_far(report) > _how_far(other):
            furthest[report.attempt] = report
    return list(furthest.values())


def _how_far(report: JobReport) -> tuple[bool, bool, Progress]:
    ended = sum(step.ended_at is not None for step in report.steps)
    observed = sum(step.observed is not None for step in report.steps)
    progress = (len(report.steps), ended, observed, _ORDER.index(report.state))
    return report.state.ended, report.state is not AttemptState.LOST, progress


def _is_news(report: JobReport, before: Known, executions: Mapping[str, KnownExecution]) -> bool:
    """Whether a report tells more than is recorded: an attempt that was given up may still report its real end."""
    if before.given_up:
        return report.state.ended and report.state not in _GIVEN_UP
    if before.state.ended or report.state.ended:
        return not before.state.ended
    rows = executions.values()
    progress = (len(rows), sum(row.ended for row in rows), sum(row.observed for row in rows))
    return _how_far(report)[2] > (*progress, _ORDER.index(before.state))


def _without_taken_names(
    session: Session, reports: Sequence[JobReport], ids: AttemptIds, done: Recorded
) -> list[JobReport]:
    """Turn a report whose files cannot be registered, as others have their names by now, into that of a failure."""
    files = {report.attempt: registered(report) for report in reports if report.state.ended}
    taken = names_taken(session, [file.name for made in files.values() for file in made])
    fit: list[JobReport] = []
    for report in reports:
        names = [file.name for file in files.get(report.attempt, ())]
        collided = sorted(taken.intersection(names))
        if collided:
            failed = _collided(report, collided)
            gone = tuple(file for file in report.published if file not in failed.published)
            done.collided.append((ids[report.attempt], gone))
            fit.append(failed)
        else:
            fit.append(report)
        taken.update(names)
    return fit


def _collided(report: JobReport, names: Sequence[str]) -> JobReport:
    evidence = f"other files were registered by these names since it was planned: {', '.join(names)}"
    logs = tuple(file for file in report.published if not file.step and file.name not in names)
    return report.model_copy(
        update={
            "state": AttemptState.FAILED,
            "fate": Fate.NAME_COLLISION,
            "evidence": f"{report.evidence}\n{evidence}".strip(),
            "published": logs,
            "made": (),
        }
    )


def _update_attempts(
    session: Session,
    reports: Sequence[JobReport],
    before: Mapping[AttemptKey, Known],
    verdicts: Mapping[AttemptKey, Verdict],
    accepted: AcceptedIds,
    done: Recorded,
    now: datetime,
) -> None:
    attempts: list[dict[str, Any]] = []
    jobs = {attempt.job_id: attempt.job_state for attempt in before.values()}
    published = [before[report.attempt].job_id for report in reports if report.state is AttemptState.PUBLISHED]
    results = _results(session, published)
    changed: dict[int, dict[str, Any]] = {}
    replaced: list[int] = []
    for report in reports:
        is_known = before[report.attempt]
        state = jobs[is_known.job_id]
        result = (
            report.state is AttemptState.PUBLISHED
            and state is not JobState.DONE
            and report.attempt.number > results.get(is_known.job_id, 0)  # one that was run again has a result already
        )
        has_failed = report.state.ended and report.state is not AttemptState.PUBLISHED
        verdict = verdicts.get(report.attempt, NO_VERDICT) if has_failed else NO_VERDICT
        attempts.append(
            {
                "id": is_known.attempt_id,
                "state": report.state.value,
                "fate": report.fate.value if report.fate and report.state.ended else None,
                "failed_step": report.failed_step or None,
                "evidence": "\n".join(filter(None, (report.evidence, verdict.note))) or None,
                "error_id": verdict.error_id if has_failed else _accepted_as(report, accepted),
                "host": report.host,
                "began_at": report.began_at,
                "ended_at": report.ended_at,
                "adopted": report.adopted,
                "result": result,
            }
        )
        if result:
            if is_known.job_id in results:
                replaced.append(is_known.job_id)
            jobs[is_known.job_id] = JobState.DONE
            changed[is_known.job_id] = {"state": JobState.DONE.value}
        elif report.state.ended and report.fate and is_known.is_last and state is JobState.ACTIVE:
            jobs[is_known.job_id] = JobState.HELD if verdict.held_why else report.fate.job_state
            changed[is_known.job_id] = {"state": jobs[is_known.job_id].value, **_following(verdict)}
        _sort_in(report, result, done)
    if replaced:  # first, as no job may have two
        session.execute(
            update(AttemptRow)
            .where(AttemptRow.job_id.in_(replaced), AttemptRow.result)
            .values(result=False, replaced_at=now),
            execution_options={"synchronize_session": False},
        )
    session.execute(update(AttemptRow), attempts)
    if changed:
        session.execute(update(JobRow), [{"id": job_id, **values} for job_id, values in changed.items()])


def _accepted_as(report: JobReport, accepted: AcceptedIds) -> int | None:
    """Return the first rule by which a step of an attempt that published counts as good; None where there is none."""
    if report.state is not AttemptState.PUBLISHED:
        return None
    ids = (accepted.get(step.accepted) for step in report.steps if step.accepted)
    return next(filter(None, ids), None)


def _following(verdict: Verdict) -> dict[str, Any]:
    """Return what a job is told for its next attempt; memory that an earlier one wanted stays."""
    values: dict[str, Any] = {"ready_at": verdict.ready_at}
    if verdict.memory_bytes is not None:
        values["memory_bytes"] = verdict.memory_bytes
    if verdict.held_why:
        values |= {"held_by": Hold.REVIEW.value, "held_why": verdict.held_why}
    return values


def _results(session: Session, job_ids: Sequence[int]) -> dict[int, int]:
    """Return the numbers of the attempts that are the results of jobs, by the jobs' IDs."""
    if not job_ids:
        return {}
    query = select(AttemptRow.job_id, AttemptRow.number).where(AttemptRow.job_id.in_(job_ids), AttemptRow.result)
    return dict(session.execute(query).tuples().all())


def _sort_in(report: JobReport, result: bool, done: Recorded) -> None:
    if not report.state.ended:
        done.running.append(report.attempt)
    elif report.state is not AttemptState.PUBLISHED:
        done.failed.append(report.attempt)
    else:
        (done.published if result else done.superseded).append(report.attempt)
