"""Failures are recognised: which error of the site each is, and what follows for its job."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter
from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.error_rules import KnownError, in_force, in_order, last_switch
from nightmill.backbone.schema import CampaignRow
from nightmill.clock import utc_now
from nightmill.errors import StoreError
from nightmill.execution.evidence import LOG_BYTES, readable
from nightmill.model.error_rule import compiled
from nightmill.model.fate import Fate
from nightmill.model.order import AttemptKey
from nightmill.model.ports import Stager
from nightmill.model.report import JobReport
from nightmill.model.retries import Retries, Retry, retry_after
from nightmill.model.states import AttemptState
from nightmill.model.verdict import Verdict
from nightmill.operations.site import Site

MOST_LOG_BYTES: Final = 64 << 20
"""A longer log is not fetched from its store: rules see the evidence alone."""
_RETRIES: Final[TypeAdapter[Retries]] = TypeAdapter(Retries)


@dataclass(frozen=True)
class Failure:
    """How an attempt failed, as far as rules ask.

    Parameters
    ----------
    read_log
        Returns the last of its log; called once, and only where a rule asks what that says.
    """

    stage: str
    step: str
    fate: Fate
    exit_code: int | None
    evidence: str
    read_log: Callable[[], str] = field(default=lambda: "", repr=False)

    @cached_property
    def log(self) -> str:
        """What the failed step left in the log, as far as that can be had."""
        text = self.read_log()
        _before, begin, own = text.rpartition(f"== {self.step}: ") if self.step else ("", "", text)
        return own if begin else text


class Recogniser:
    """Names failures by rules; safe for use by several threads.

    Parameters
    ----------
    errors
        The rules, in any order.
    switched
        When they were read: the number of the last time that one was switched on or off.
    """

    def __init__(self, errors: Sequence[KnownError] = (), switched: int = 0) -> None:
        self.switched = switched
        self.errors = in_order(errors)
        """The rules, in the order in which they are asked."""
        self._patterns = [compiled(error.rule.says) for error in self.errors]

    def renewed(self, session: Session) -> Recogniser:
        """Return one with the rules that hold now: itself, where none was switched on or off since it was made."""
        switched = last_switch(session)
        return self if switched == self.switched else Recogniser(in_force(session), switched)

    def __call__(self, failure: Failure) -> KnownError | None:
        """Return the first rule that recognises a failure; None where none does."""
        for error, pattern in zip(self.errors, self._patterns, strict=True):
            rule = error.rule
            if rule.may_be(stage=failure.stage, step=failure.step, fate=failure.fate, exit_code=failure.exit_code) and (
                not rule.says or pattern.search(failure.evidence) or pattern.search(failure.log)
            ):
                return error
        return None


def failure_of(report: JobReport, stagers: Mapping[str, Stager]) -> Failure | None:
    """Return how an attempt failed by its report; None where it published, or has not ended."""
    if report.fate is None or not report.state.ended or report.state is AttemptState.PUBLISHED:
        return None
    ran = next((step for step in reversed(report.steps) if step.name == report.failed_step), None)
    log = next((file for file in report.published if file.role == "log" and not file.step), None)
    return Failure(
        stage=report.attempt.stage,
        step=report.failed_step,
        fate=report.fate,
        exit_code=ran.exit_code if ran else None,
        evidence=readable(report.evidence),
        read_log=(lambda: log_of(stagers.get(log.store), log.path, log.size_bytes)) if log else lambda: "",
    )


def log_of(stager: Stager | None, path: str, size_bytes: int) -> str:
    """Return the last of a log, fit to be read; nothing where its store cannot give it, or it is too long."""
    if stager is None or size_bytes > MOST_LOG_BYTES:
        return ""
    try:
        with tempfile.TemporaryDirectory(prefix="nightmill-log-") as folder:
            copy = Path(folder) / "log"
            stager.fetch(path, copy)
            with copy.open("rb") as file:
                file.seek(max(0, size_bytes - LOG_BYTES))
                return readable(file.read(LOG_BYTES).decode(errors="replace"))
    except (StoreError, OSError):
        return ""


@dataclass(frozen=True)
class Judgement:
    """What a failure is, and what may be done."""

    error: KnownError | None = None
    key: str = ""
    """What its tries are counted by."""
    retry: Retry | None = None

    @property
    def holds(self) -> bool:
        """Whether its job waits for a person."""
        return self.error is not None and self.error.rule.action == "hold"

    def verdict(self, report: JobReport, *, now: datetime) -> Verdict:
        """Say what is recorded of it, and for the next attempt, whoever issues that."""
        found = Verdict(error_id=self.error.id if self.error else None)
        if self.holds and self.error is not None:
            return replace(found, held_why=f"{self.error.rule.name}: {self.error.rule.explanation}")
        if self.retry is None:
            return found
        wait = timedelta(seconds=self.retry.wait_seconds)
        return replace(found, ready_at=now + wait if wait else None, memory_bytes=self._memory(report))

    def _memory(self, report: JobReport) -> int | None:
        if self.retry is None or self.retry.memory_factor == 1.0:
            return None
        seen = [step.cost.max_rss_bytes for step in report.steps if step.cost is not None]
        had = report.order.resources.memory_bytes or max(seen, default=0)
        return round(had * self.retry.memory_factor) or None


def judge(failure: Failure | None, recognise: Recogniser, retries: Retries) -> Judgement:
    """Judge a failure by the rules of the site, and by what its stage says of retries where these leave it to that."""
    if failure is None:
        return Judgement()
    error = recognise(failure)
    if error is not None and error.rule.decides:
        return Judgement(error, f"error {error.rule.name}", error.rule.retry)
    said = retry_after(retries, failure.fate, failure.exit_code)
    return Judgement(error, *said) if said is not None else Judgement(error)


def verdicts(site: Site, reports: Iterable[JobReport]) -> dict[AttemptKey, Verdict]:
    """Judge attempts that a drain is about to record.

    How often their jobs were tried is not asked: a slice that finds them failed tries each once, as ever.
    """
    failed = [(report, failure) for report in reports if (failure := failure_of(report, site.stagers)) is not None]
    if not failed:
        return {}
    names = {report.attempt.campaign for report, _ in failed}
    query = select(CampaignRow.name, CampaignRow.definition).where(CampaignRow.name.in_(names))
    with site.database.reading() as session:
        campaigns = session.execute(query).all()
        recognise = Recogniser(in_force(session))
    retries = {
        (name, stage["name"]): _RETRIES.validate_python(stage.get("retries", 0))
        for name, definition in campaigns
        for stage in definition.get("pipeline", {}).get("stages", ())
    }
    return {
        report.attempt: judge(
            failure, recognise, retries.get((report.attempt.campaign, report.attempt.stage), 0)
        ).verdict(report, now=utc_now())
        for report, failure in failed
    }
