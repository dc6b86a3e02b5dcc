"""One slice of a campaign in the hands of one process: issue, carry out, record."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import Final, Self

from sqlalchemy.orm import Session

from nightmill.backbone import leases
from nightmill.backbone.schema import CampaignRow
from nightmill.backbone.slices import SliceJobs, find_slice, slice_jobs
from nightmill.errors import DatabaseAway
from nightmill.execution.host import this_host
from nightmill.execution.job import JobContext, utc_now
from nightmill.execution.journal import JournalWriter
from nightmill.execution.owner import is_alive, this_process
from nightmill.execution.slots import Slots
from nightmill.model.campaign import Campaign
from nightmill.model.fate import AttemptState
from nightmill.model.journal import Done, Entry, JobReport, SoftwareSeen, StepBegan, fold
from nightmill.model.order import AttemptKey, JobOrder
from nightmill.planning.issue import issue
from provenance.record import record
from tasks import memory
from tasks.site import Site, current_user
from tasks.spool import drain, set_aside

SLOTS: Final = "slots"
"""Folder of the spool for what the processes of each host share its cores by."""
FOLLOW_SECONDS: Final = 1.0
"""How often the rows of running executions are brought up to date."""
TASK_SECONDS: Final = 5.0
"""How long a chunk of short jobs should take: long beside the cost of a task run, short beside a person's patience."""
MOST_JOBS_PER_TASK: Final = 100
RECORD_SECONDS: Final = 0.25
"""Jobs that end in quicker succession than this are recorded together: a transaction costs more than a short job."""


class SliceWork:
    """A slice in the hands of this process; use it as a context.

    Entering drains the spool, so that attempts of dead processes are ended before anything is issued again, and takes a
    lease. A job that another living process carries out is never issued.

    Parameters
    ----------
    site
        The opened site.
    campaign, stage, number
        Which slice.
    flow_run_id
        The Prefect flow run on whose behalf this happens.

    Raises
    ------
    RequestRefused
        Where a job of the stage needs more memory than this host has, or the database was brought back from an older
        backup: none of them is issued.
    """

    def __init__(self, site: Site, campaign: str, stage: str, number: int, *, flow_run_id: str | None = None) -> None:
        self.site = site
        self.flow_run_id = flow_run_id
        with site.database.reading() as session:
            self.slice = find_slice(session, campaign, stage, number)
        self.campaign: Campaign = self.slice.campaign
        self.stage = self.campaign.pipeline.stage(stage)
        self.host = this_host()
        self._share = self.host.share_of(self.stage.resources)
        self._slots = Slots(site.config.spool / SLOTS / self.host.name, self.host.cores)
        self._tries: Counter[str] = Counter()
        self._settled: set[str] = set()
        self._waiting: list[JobReport] = []
        self._flushing = threading.Lock()
        self._flushed_at = 0.0
        self._seconds_a_job = 0.0

    def __enter__(self) -> Self:
        drain(self.site)
        memory.require_current(self.site)
        with self.site.database.reading() as session:
            row = session.get_one(CampaignRow, self.slice.campaign_id)
        memory.keep_campaign(self.site.config.spool, row)
        self._lease = self.site.database.write(
            lambda session: leases.take(session, this_process(), flow_run_id=self.flow_run_id, now=utc_now())
        )
        self._follower = _Follower(self.site, self._flush_if_there)
        self._journal = JournalWriter(self.site.config.spool, listener=self._follower.hear)
        self.context = JobContext(self.site.stagers, self.site.config.scratch, self._journal, host=self.host)
        self._follower.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._follower.stop()
        self._journal.close()
        self._flush()
        if not self._waiting and not self._follower.hears_of_open_attempts:
            set_aside(self._journal.path)

        def work(session: Session) -> memory.Marks:
            leases.release(session, self._lease, now=utc_now(), cancelled=self.context.stopping)
            return memory.marks_of(session)

        memory.raise_marks(self.site.config.spool, self.site.database.write(work))

    @property
    def threads(self) -> int:
        """How many jobs of the slice run at a time: as the campaign says, and no more than the host has room for."""
        most = self.host.cores // self._share
        return min(self.campaign.execution.threads or most, most)

    def take_cores(self) -> ExitStack | None:
        """Wait until the host has room for a job of the stage beside all others of the site, and take it.

        Returns
        -------
        ExitStack or None
            Gives it back when it is closed; None where everything is to end before there is room.
        """
        return self._slots.take(self._share, stopping=lambda: bool(self.context.stopping))

    @property
    def jobs_per_task(self) -> int:
        """How many jobs the next task run should hold: as the campaign says, or from the run times measured so far."""
        return self.campaign.execution.jobs_per_task or self._short_jobs

    @property
    def jobs_per_issue(self) -> int:
        """How many jobs to issue together: for each thread a task run, or as many short jobs as it does meanwhile."""
        return self.threads * max(self.jobs_per_task, self._short_jobs)

    @property
    def _short_jobs(self) -> int:
        """How many jobs one thread does in the time that a chunk should take; 1 as long as nothing is known of them."""
        if not self._seconds_a_job:
            return 1
        return max(1, min(MOST_JOBS_PER_TASK, int(TASK_SECONDS / self._seconds_a_job)))

    def issue(self, limit: int) -> list[JobOrder]:
        """Issue an attempt of each of the next jobs that are not done, and return their orders.

        Within this call's process a job is tried again only as often as its stage allows, and where its fate says that
        this may help.
        """
        self._flush_if_there()
        remembered = memory.marks(self.site.config.spool)

        def work(session: Session) -> tuple[list[JobOrder], memory.Marks]:
            memory.refuse_older(self.site, memory.behind(memory.marks_of(session), remembered))
            orders = issue(
                session,
                slice_id=self.slice.slice_id,
                lease_id=self._lease,
                now=utc_now(),
                limit=limit,
                skip=self._settled,
            )
            return orders, memory.marks_of(session)

        orders, reached = self.site.database.write(work)
        memory.raise_marks(self.site.config.spool, reached)  # before any of them can make anything
        self._tries.update(order.attempt.unit for order in orders)
        return orders

    def record(self, reports: Sequence[JobReport]) -> None:
        """Record reports of attempts that were carried out one after another and have ended.

        They are rows within a second, or when the database is back: until then the journal has them.
        """
        for report in reports:
            unit = report.attempt.unit
            helps = report.fate is not None and report.fate.retry_may_help
            if report.state is AttemptState.PUBLISHED or not helps or self._tries[unit] > self.stage.retries:
                self._settled.add(unit)
        if reports:
            self._seconds_a_job = (
                0.8 * self._seconds_a_job + 0.2 * _pace(reports) if self._seconds_a_job else _pace(reports)
            )
        self._waiting += reports
        if time.monotonic() - self._flushed_at >= RECORD_SECONDS:
            self._flush_if_there()

    def jobs(self) -> SliceJobs:
        """Return how the jobs of the slice stand, with the failures."""
        self._flush_if_there()
        with self.site.database.reading() as session:
            return slice_jobs(session, self.slice)

    def others_active(self) -> bool:
        """Whether another process carries out jobs of the slice; attempts of dead ones are ended first."""
        with self.site.database.reading() as session:
            holders = leases.holders(session, slice_id=self.slice.slice_id)
        others = [owner for lease, owner in holders.items() if lease != self._lease]
        if any(is_alive(owner) is False for owner in others):
            drain(self.site)
        return any(is_alive(owner) is not False for owner in others)

    def _flush(self) -> None:
        with self._flushing:
            waiting = list(self._waiting)
            if waiting:
                told = self._follower.stacks
                self.site.database.write(
                    lambda session: record(session, waiting, told, who=current_user(), now=utc_now())
                )
                del self._waiting[: len(waiting)]
            self._flushed_at = time.monotonic()

    def _flush_if_there(self) -> None:
        """Record what waits, unless the database is away: a later flush does it then, or a drain."""
        with suppress(DatabaseAway):
            self._flush()


def _pace(reports: Sequence[JobReport]) -> float:
    """Return the seconds that each of several jobs took which one thread carried out one after another."""
    began_at = min(report.began_at for report in reports)
    ended_at = max(report.ended_at or report.began_at for report in reports)
    return (ended_at - began_at).total_seconds() / len(reports)


class _Follower:
    """Hears the entries of a journal and keeps the rows of running executions up to date.

    Parameters
    ----------
    flush
        Called as often as it does so.
    """

    def __init__(self, site: Site, flush: Callable[[], None]) -> None:
        self.stacks: dict[str, dict[str, str]] = {}
        self._site = site
        self._flush = flush
        self._entries: defaultdict[AttemptKey, list[Entry]] = defaultdict(list)
        self._news: set[AttemptKey] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="nightmill-follower", daemon=True)

    @property
    def hears_of_open_attempts(self) -> bool:
        return bool(self._entries)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def hear(self, entry: Entry) -> None:
        with self._lock:
            match entry:
                case SoftwareSeen():
                    self.stacks |= {entry.sha256: dict(entry.packages)}
                case Done():
                    self._entries.pop(entry.attempt, None)
                    self._news.discard(entry.attempt)
                case _:
                    self._entries[entry.attempt].append(entry)
                    if isinstance(entry, StepBegan):
                        self._news.add(entry.attempt)

    def _follow(self) -> None:
        while not self._stop.wait(FOLLOW_SECONDS):
            with self._lock:
                entries = [entry for attempt in self._news for entry in self._entries[attempt]]
                self._news.clear()
            if entries:
                self._tell(list(fold(entries).values()))
            self._flush()

    def _tell(self, reports: list[JobReport]) -> None:
        try:
            self._site.database.write(
                lambda session: record(session, reports, self.stacks, who=current_user(), now=utc_now())
            )
        except DatabaseAway:
            return  # only how far they are is late; their ends are recorded by the slice, or by a drain
