"""The log of a job, wherever it is: in the scratch of an attempt that runs, here or elsewhere, or in a store."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.replicas import Replica, replicas
from nightmill.backbone.schema import AttemptRow, CampaignRow, ErrorRuleRow, ExecutionRow, FileRow, JobRow
from nightmill.backbone.work.campaigns import GOING_ON, job_named
from nightmill.clock import utc_now
from nightmill.config.rules import LOG as LOG_TYPE
from nightmill.errors import BadFile, UnknownName
from nightmill.execution.claims import claim_of
from nightmill.execution.descriptors import opened_file
from nightmill.execution.journal import SUFFIX
from nightmill.execution.live import Request
from nightmill.execution.owner import host_name, is_alive
from nightmill.execution.scratch import token
from nightmill.model.fate import Fate
from nightmill.model.layout import LOG
from nightmill.model.order import AttemptKey
from nightmill.model.pipeline import Stage
from nightmill.model.retries import retry_after
from nightmill.model.states import AttemptState, ExecutionState, JobState
from nightmill.operations.site import Site

RETRY_WITHIN: Final = timedelta(seconds=15)
"""A slice begins the retry of a job sooner, where there is one."""

ANSWER_SECONDS: Final = 5.0
"""A worker whose step runs answers sooner; a client of NFS that keeps what it knows of a folder may need longer."""


@dataclass(frozen=True, slots=True)
class Tried:
    """An attempt at a job, as the backbone knows it, and where its log is once it has ended.

    Parameters
    ----------
    running
        The step that runs, as far as it is on record; empty where none does.
    steps
        Every step of its stage, in their order.
    copies
        Of its log: those at this site first.
    last
        Number of the job's last attempt.
    goes_on
        Whether the job has not come to its end: this attempt, or another, is under way or may come.
    """

    key: AttemptKey
    state: AttemptState
    fate: str
    evidence: str
    host: str
    running: str
    steps: tuple[str, ...]
    copies: tuple[Replica, ...]
    last: int
    goes_on: bool

    def stored(self, site: Site) -> Replica | None:
        """Return a copy of its log in a store of the site."""
        return next((copy for copy in self.copies if copy.store in site.stagers), None)


def attempt_of(site: Site, campaign: str, stage: str, unit: str, *, number: int | None = None) -> Tried | None:
    """Return an attempt at a job, by default the last; None where none was issued yet.

    Raises
    ------
    UnknownName
        Where there is no such campaign, job or attempt; with a guess.
    """
    with site.database.reading() as session:
        job = job_named(session, campaign, stage, unit)
        attempts = {row.number: row for row in session.scalars(select(AttemptRow).where(AttemptRow.job_id == job.id))}
        if not attempts and number is None:
            return None
        last = max(attempts, default=0)
        row = attempts.get(last if number is None else number)
        if row is None:
            known = [f"a{each:02d}" for each in sorted(attempts)]
            raise UnknownName(f"attempt of {campaign}/{stage}/{unit}", f"a{number:02d}", known)
        runs = (ExecutionRow.attempt_id == row.id, ExecutionRow.state == ExecutionState.RUNNING)
        log = select(FileRow.id).where(FileRow.attempt_id == row.id, FileRow.type == LOG_TYPE)
        copies = [copy for each in replicas(session, session.scalars(log)).values() for copy in each]
        stages = session.get_one(CampaignRow, job.campaign_id).definition["pipeline"]["stages"]
        return Tried(
            AttemptKey(campaign=campaign, stage=stage, unit=unit, number=row.number),
            AttemptState(row.state),
            row.fate or "",
            (row.evidence or "").partition("\n")[0],
            row.host or "",
            session.scalar(select(ExecutionRow.step).where(*runs)) or "",
            tuple(step["name"] for each in stages if each["name"] == stage for step in each["steps"]),
            tuple(copies),
            last,
            JobState(job.state) in GOING_ON
            or _is_retried(session, job, row, next(each for each in stages if each["name"] == stage)),
        )


def _is_retried(session: Session, job: JobRow, attempt: AttemptRow, stage: Mapping[str, Any]) -> bool:
    """Whether the slice that carried out an attempt may be about to try its job again."""
    if not (attempt.fate and attempt.ended_at):
        return False
    if utc_now() >= max(attempt.ended_at, job.ready_at or attempt.ended_at) + RETRY_WITHIN:
        return False
    error = session.get(ErrorRuleRow, attempt.error_id) if attempt.error_id else None
    if error is not None and (action := error.definition.get("action")):
        return bool(action == "retry")
    ran = (ExecutionRow.attempt_id == attempt.id, ExecutionRow.step == attempt.failed_step)
    code = session.scalar(select(ExecutionRow.exit_code).where(*ran))
    return retry_after(Stage.model_validate(stage).retries, Fate(attempt.fate), code) is not None


def live_path(site: Site, attempt: AttemptKey) -> Path:
    """Return where an attempt writes its log on the host that carries it out."""
    return site.config.scratch / token(attempt) / LOG


def is_elsewhere(site: Site, tried: Tried) -> bool:
    """Whether somebody carries out an attempt, or may do so by now, in a scratch that is not seen from this host."""
    if tried.state.ended or os.path.lexists(live_path(site, tried.key).parent):
        return False
    claim = claim_of(site.config.spool, tried.key)
    return claim is not None and (bool(tried.host) or is_alive(claim.owner) is None)


def request_of(site: Site, attempt: AttemptKey) -> Request:
    """Return what asks the worker of an attempt, wherever it is, to show its log in the spool."""
    return Request(site.config.spool, token(attempt))


def open_live(site: Site, attempt: AttemptKey) -> int | None:
    """Open the log in the scratch of an attempt, for whoever closes it; None where none can be seen from this host.

    It can be read to its end even once the scratch is gone.

    Raises
    ------
    BadFile
        Where it cannot be read, or a step put something else in its place.
    """
    path = live_path(site, attempt)
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise BadFile(f"{path.parent} cannot be looked into: {error.strerror}", reason="unreadable") from error
    try:
        with opened_file(LOG, folder) as log:
            return os.dup(log)
    except BadFile as error:
        if error.reason == "missing":
            return None
        raise
    finally:
        os.close(folder)


@contextmanager
def open_stored(site: Site, copy: Replica) -> Iterator[int]:
    """Bring a log from its store, and open it.

    Raises
    ------
    StoreError
        Where the store cannot be used, or has lost the file.
    """
    with TemporaryDirectory(prefix="nightmill-log-") as folder:
        path = Path(folder, LOG)
        site.stagers[copy.store].fetch(copy.path, path)
        log = os.open(path, os.O_RDONLY)
        try:
            yield log
        finally:
            os.close(log)


def why_unseen(site: Site, tried: Tried, request: Request | None = None) -> str:
    """Say why the log of an attempt cannot be read from here, and when it can be.

    Parameters
    ----------
    request
        What asked its worker for it in vain, where that was asked.
    """
    if tried.state.ended:
        if tried.copies:
            return f"the log of {tried.key} lies in {tried.copies[0].store} alone, which is not a store of this site"
        ended = ": ".join(filter(None, (tried.fate, tried.evidence)))
        if tried.state is AttemptState.LOST:
            return f"the log of {tried.key} is lost with its scratch ({ended})"
        return f"{tried.key} has no log: no step of it began ({ended})"
    if not tried.host:
        return f"{tried.key} was issued, and has not begun" + (", as far as its host tells" if request else "")
    if request is not None or tried.host != host_name():
        step = f" in step {tried.running!r}" if tried.running else ""
        why = f"{tried.key} runs{step} on host {tried.host!r}, whose {live_path(site, tried.key)} is not seen from here"
        if request is not None:
            why += f"; its worker, which answers while a step runs, {_silence(site, tried.key, request)}"
        return f"{why}: its log comes to the store when it ends"
    return f"{tried.key}: no step has begun yet, or its log is on its way to the store"


def _silence(site: Site, attempt: AttemptKey, request: Request) -> str:
    if request.seen and request.silent_seconds < ANSWER_SECONDS:
        return f"answers, and cannot show it in {site.config.spool}"
    since = ""
    if (claim := claim_of(site.config.spool, attempt)) is not None:
        with suppress(FileNotFoundError):
            told = (site.config.spool / f"{claim.journal}{SUFFIX}").stat().st_mtime
            since = f", and its journal is silent since {datetime.fromtimestamp(told, UTC):%F %T} UTC"
    return f"does not answer{since}"
