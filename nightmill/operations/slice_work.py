"""One slice of a campaign in the hands of one process: issue, carry out, record."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from math import inf
from typing import Final, Self

from sqlalchemy.orm import Session

from nightmill.backbone.schema import CampaignRow
from nightmill.backbone.work import leases
from nightmill.backbone.work.conducting import conducts_slice
from nightmill.backbone.work.limits import room_for
from nightmill.backbone.work.slices import SliceJobs, find_slice, next_try, slice_jobs
from nightmill.backbone.work.steering import Steering, steering_of
from nightmill.clock import utc_now
from nightmill.errors import DatabaseAway
from nightmill.execution.host import this_host
from nightmill.execution.journal import set_aside
from nightmill.execution.owner import is_alive, this_process
from nightmill.execution.worker import Worker
from nightmill.model.campaign import Campaign
from nightmill.model.journal import Owner
from nightmill.model.order import AttemptKey, JobOrder
from nightmill.model.report import JobReport
from nightmill.model.verdict import Verdict
from nightmill.operations import credentials, memory
from nightmill.operations.attachments import load_reported
from nightmill.operations.belonging import take_back
from nightmill.operations.carrying import place_of
from nightmill.operations.drain import drain
from nightmill.operations.failures import Judgement, Recogniser, failure_of, judge
from nightmill.operations.follower import Follower
from nightmill.operations.misfortunes import Misfortunes
from nightmill.operations.pace import Pace
from nightmill.operations.site import Site, read
from nightmill.operations.software import profile_for
from nightmill.operations.transport.shipping import Shipping
from nightmill.planning.issue import issue, would_issue
from nightmill.planning.sealed import resources_of
from provenance.record import record

PATIENCE_SECONDS: Final = 30.0
"""How long a slice waits for another drain: what that has not ended then is not issued, and comes with a later one."""
RECORD_SECONDS: Final = 0.25
"""Jobs that end in quicker succession than this are recorded together: a transaction costs more than a short job."""
AWAY_SECONDS: Final = 5.0
"""How long jobs that end leave a database in peace that was away; the follower sees when it is back."""
LIMIT_SECONDS: Final = 1.0
"""How often a slice asks whether the limit of its campaign lets it begin a job again."""

log = logging.getLogger("nightmill")


class SliceWork:
    """A slice in the hands of this process; use it as a context.

    Entering drains the spool, so that attempts of dead processes are ended before anything is issued again, and takes a
    lease. A job that another living process carries out is never issued. A database that is away is waited for as long
    as the site's patience lasts; jobs that were issued go on meanwhile.

    Parameters
    ----------
    site
        The opened site.
    campaign, stage, number
        Which slice.
    flow_run_id
        The Prefect flow run on whose behalf this happens.
    tell
        Called with what its operator should know.

    Raises
    ------
    RequestRefused
        Where a job of the stage needs more memory than this host has, or the database was brought back from an older
        backup: none of them is issued.
    """

    def __init__(
        self,
        site: Site,
        campaign: str,
        stage: str,
        number: int,
        *,
        flow_run_id: str | None = None,
        tell: Callable[[str], None] = log.warning,
    ) -> None:
        self.site = site
        self.tell = tell
        self.flow_run_id = flow_run_id
        self.slice = site.patiently(
            lambda: read(site, partial(find_slice, campaign=campaign, stage=stage, number=number))
        )
        self.campaign: Campaign = self.slice.campaign
        self.stage = self.campaign.pipeline.stage(stage)
        self.host = this_host()
        self.resources = site.patiently(lambda: read(site, partial(resources_of, slice_id=self.slice.slice_id)))
        of = (campaign, stage, number)
        self.place = place_of(site, self.campaign, of, self.host, self.resources, lambda: self.steering.limits.hosts)
        self.halted = ""
        """Why no further job is begun, although the slice was not told to end; empty as long as it goes on."""
        self.barred = ""
        """Why this host may not be used for the campaign, where it halted for that."""
        self.steering = Steering()
        self._credentials_end: datetime | None = None
        """When the first of the site's credentials ends; None where that is not known of any."""
        self._changing = threading.Lock()
        self.adopted: list[list[JobOrder]] = []
        """Chunks that go on elsewhere, and that a process of the slice has sent out that is dead: to be run as such."""
        self._issued: set[AttemptKey] = set()
        self._tries: Counter[tuple[str, str]] = Counter()
        """How often units failed in this process, by what counts their retries."""
        self._recognise = Recogniser()
        self._shipping = Shipping(site, self.slice.slice_id, self.slice.campaign_id, tell)
        self._misfortunes = Misfortunes(self.stage)
        self._limited = False
        """Whether it has jobs that could begin but for the limit of its campaign."""
        self._settled: set[str] = set()
        self._waiting: list[tuple[JobReport, Verdict]] = []
        self._unrecorded: dict[AttemptKey, str] = {}
        """Attempts that ended and could not be recorded, with why: their journal stays for a drain."""
        self._flushing, self._flushed_at = threading.Lock(), 0.0
        self._pace = Pace()

    def __enter__(self) -> Self:
        self.site.patiently(self._prepare)
        self._look_at_credentials()
        self._follower = Follower(self.site, self._attend, self.tell)
        self.worker = Worker(profile_for(self.site), self.site.stagers, listener=self._follower.hear, host=self.host)
        self._lease = self.site.patiently(lambda: self.site.database.write(self._take))
        self.place.open(self.worker, self._follower.hear, self.tell)
        self.adopted = self.place.adopt(self._lease)
        self._issued.update(order.attempt for orders in self.adopted for order in orders)
        self._follower.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self._follower.stop()
        self._going_on = self.place.close()
        self.worker.close()
        if error is None:
            self.site.patiently(self._end)
        else:
            with suppress(DatabaseAway):  # who is told to end has seconds; the next drain does what is left
                self._end()

    def _prepare(self) -> None:
        drain(self.site, patience_seconds=PATIENCE_SECONDS)
        memory.require_current(self.site)
        with self.site.database.reading() as session:
            row = session.get_one(CampaignRow, self.slice.campaign_id)
        memory.keep_campaign(self.site.config.spool, row)

    def _look_at_credentials(self) -> None:
        """Halt where one that is required lets nobody in: no job is begun that would fail for it, half-way."""
        now = utc_now()
        try:
            found = credentials.require(self.site.config, now)
        except credentials.CredentialsLacking as lacking:
            self.halted = f"a credential lets nobody in on host {self.host.name}: {lacking.message}"
            return
        self._credentials_end = min((one.ends_at for one in found if one.ends_at and one.ends_at > now), default=None)

    def _take(self, session: Session) -> int:
        if self.flow_run_id:
            conducts_slice(session, self.slice.slice_id, self.flow_run_id)
        return leases.take(session, this_process(), flow_run_id=self.flow_run_id, now=utc_now())

    def _end(self) -> None:
        self._flush()
        begun = {*self._follower.open_attempts, *self._unrecorded, *self._going_on}
        if not begun and self.worker.journal.path.exists():
            set_aside(self.worker.journal.path)
            self.worker.journal.release_claims()
        why = self.worker.stopping or self.halted

        def work(session: Session) -> memory.Marks:
            leases.release(session, self._lease, now=utc_now(), begun=begun, why=why)
            return memory.marks_of(session)

        memory.raise_marks(self.site.config.spool, self.site.database.write(work))

    @property
    def threads(self) -> int:
        """How many jobs of the slice run at a time: as the campaign says, and no more than there is room for."""
        return min(self.campaign.execution.threads or self.place.most_chunks, self.place.places)

    def take_cores(self, orders: Sequence[JobOrder]) -> ExitStack | None:
        """Wait until the host has room for any of some jobs beside all others of the site, and take it.

        Returns
        -------
        ExitStack or None
            Gives it back when it is closed; None where everything is to end before there is room.
        """
        return self.place.take_cores(
            orders, lambda: bool(self.worker.stopping) or self.steering.halts, lambda: self.steering.priority
        )

    @property
    def jobs_per_task(self) -> int:
        """How many jobs the next task run should hold: as the campaign says, or from the run times measured so far."""
        if self._misfortunes:
            return 1
        return self.campaign.execution.jobs_per_task or self._short_jobs

    @property
    def jobs_per_issue(self) -> int:
        """How many jobs to issue together: for each thread a task run, or as many short jobs as it does meanwhile."""
        return self.threads * max(self.jobs_per_task, self._short_jobs)

    @property
    def _short_jobs(self) -> int:
        """How many jobs belong together by the run times measured so far, and by what a chunk costs where they run."""
        return 1 if self._misfortunes else self._pace.jobs_together(self.place.chunk_costs_seconds)

    def issue(self, limit: int) -> list[JobOrder]:
        """Issue an attempt of each of the next jobs that are not done, and return their orders.

        Within this call's process a job is tried again only as often as its stage allows after such an end, or a rule
        of the site for the error that it is, and not before its time. An attempt that somebody carries out by hand is
        left to them. None is issued once a store or the scratch has failed so many jobs in a row that it would fail the
        others, too, its engine begins nothing, an operator has paused or cancelled the campaign, or it may not use this
        host: :attr:`halted` says so. No more are issued than its campaign may have at a time.
        """
        self._follower.tend()
        self._flush_if_there()
        if self._credentials_end is not None and utc_now() >= self._credentials_end:
            self._look_at_credentials()
        self.halted = self.halted or self.place.unfit
        if self.halted or self._misfortunes.seconds_left > 0:
            return []
        if not self._shipping.before(limit, self._settled, lambda: bool(self.worker.stopping or self.halted)):
            return []
        remembered = memory.marks(self.site.config.spool)
        tries = 0

        def once(session: Session) -> tuple[list[JobOrder], memory.Marks, Steering]:
            nonlocal tries
            tries += 1
            memory.refuse_older(self.site, memory.why_older(session, remembered))
            if tries > 1:  # the try before may have been committed, and only the answer to that been lost
                why = "the database went away as it was issued"
                leases.give_up_unknown(session, self._lease, known=self._issued, now=utc_now(), why=why)
            steering = steering_of(session, self.slice.campaign_id, to_issue=True)
            if steering.halts or self.place.bar(steering.limits.bar):
                return [], memory.marks_of(session), steering
            self._recognise = self._recognise.renewed(session)
            room = room_for(session, self.slice.campaign_id, steering.limits, limit)
            with self._changing:  # or a job could settle and be recorded between the two halves of this question
                orders = issue(
                    session,
                    slice_id=self.slice.slice_id,
                    lease_id=self._lease,
                    now=utc_now(),
                    limit=room,
                    skip=self._settled,
                    most_memory_bytes=self.place.most_memory_bytes,
                    errors=self._recognise.errors,
                )
                self._limited = room == 0 and would_issue(session, self.slice.slice_id, utc_now(), self._settled)
            return orders, memory.marks_of(session), steering

        orders, reached, steering = self.site.patiently(lambda: self.site.database.write(once))
        self._obey(steering)
        self.worker.learn(error.rule for error in self._recognise.errors)
        memory.raise_marks(self.site.config.spool, reached)  # before any of them can make anything
        self._issued.update(order.attempt for order in orders)
        mine = self.place.claim(orders)
        return mine if mine or not orders else self.issue(limit)

    def record(self, reports: Sequence[JobReport]) -> None:
        """Record reports of attempts that were carried out one after another and have ended.

        Safe for several threads. They are rows within a second, or when the database is back: the journal has them.
        """
        if not reports:
            return
        failures = [failure_of(report, self.site.stagers) for report in reports]
        judged = [judge(failure, self._recognise, self.stage.retries) for failure in failures]
        with self._changing:
            found = [self._settle(report, each) for report, each in zip(reports, judged, strict=True)]
            self._pace.measure(reports)
            self._waiting += zip(reports, found, strict=True)
        if time.monotonic() - self._flushed_at >= RECORD_SECONDS and not self._flushing.locked():
            self._flush_if_there()

    def _settle(self, report: JobReport, judged: Judgement) -> Verdict:
        """Say what becomes of a job, and leave it alone from now on where it is not to be tried again."""
        unit, verdict = report.attempt.unit, judged.verdict(report, now=utc_now())
        self._tries[unit, judged.key] += 1
        if judged.retry is None or self._tries[unit, judged.key] > judged.retry.tries:
            self._settled.add(unit)
        elif verdict.memory_bytes and (had := report.order.resources.memory_bytes or 0) >= (
            self.place.most_memory_bytes or inf
        ):
            self._settled.add(unit)
            note = f"not tried again: it had {had} bytes of memory, and host {self.host.name} has no more"
            return replace(verdict, note=note, memory_bytes=None)
        return verdict

    def heed(self, report: JobReport) -> None:
        """Halt where one job after another fails for what is not their fault; call it as soon as a job has ended.

        Where the stage says to wait after such a fate, no further job begins for that time first, as often as it says.
        """
        with self._changing:
            if not self.halted:
                self.halted = self._misfortunes.heed(report, self.threads)

    def seconds_to_wait(self) -> float | None:
        """Return how long until a job that waits may begin; None where none waits so, or the slice has halted."""
        self._flush_if_there()
        self.halted = self.halted or self.place.unfit
        if self.halted or self.worker.stopping:
            return None
        if self._limited:
            return LIMIT_SECONDS
        with self._changing:
            settled = set(self._settled)
        ready_at = self.site.patiently(
            lambda: read(self.site, partial(next_try, slice_id=self.slice.slice_id, but=settled))
        )
        left = (ready_at - utc_now()).total_seconds() if ready_at is not None else None
        paused = self._misfortunes.seconds_left
        return max(left or 0.0, paused, 0.0) if left is not None or paused > 0 else None

    def jobs(self) -> SliceJobs:
        """Return how the jobs of the slice stand, with the failures."""
        self._follower.tend()
        self._flush_if_there()
        return self.site.patiently(lambda: read(self.site, partial(slice_jobs, found=self.slice)))

    def others_active(self) -> bool:
        """Whether another process carries out jobs of the slice, or has died and left some that may be tried again."""

        def others() -> dict[int, Owner]:
            holders = read(self.site, partial(leases.holders, slice_id=self.slice.slice_id))
            return {lease: owner for lease, owner in holders.items() if lease != self._lease}

        def look() -> bool:
            before = others()
            if any(is_alive(owner) is False for owner in before.values()):
                drain(self.site, patience_seconds=PATIENCE_SECONDS)
                if before.keys() - others():
                    return True
            return any(is_alive(owner) is not False for owner in before.values())

        return self.site.patiently(look)

    def _attend(self) -> None:
        """Record what waits, and see what the operators of the campaign want by now; the follower calls it."""
        self._flush()
        self._obey(read(self.site, partial(steering_of, campaign_id=self.slice.campaign_id)))

    def _obey(self, steering: Steering) -> None:
        if self.steering.halts and not steering.halts:
            return  # it ends all the same, and is carried out again
        self.steering, told = steering, f"campaign {self.campaign.name!r} is {steering}"
        if steering.halts:
            self.halted = self.halted or told
        elif not self.halted and (barred := self.place.bar(steering.limits.bar)):
            self.barred = self.halted = f"campaign {self.campaign.name!r} may not run here: {barred}"
        if steering.ends_what_runs and not self.worker.stopping:
            self.worker.stop(told)

    def _flush(self) -> None:
        with self._flushing:
            waiting = list(self._waiting)
            if waiting:
                told = self._follower.stacks
                rows, lost = load_reported(self.site, [report for report, _ in waiting])
                self._unrecorded |= lost
                sound = [report for report, _ in waiting if report.attempt not in lost]
                found = {report.attempt: verdict for report, verdict in waiting}
                done = self.site.database.write(
                    lambda session: record(session, sound, told, now=utc_now(), attachments=rows, verdicts=found)
                )
                take_back(self.site, done.collided)
                del self._waiting[: len(waiting)]
                self.place.recorded(report.attempt for report in sound)
            self._flushed_at = time.monotonic()

    def _flush_if_there(self) -> None:
        """Record what waits, unless the database is away: a later flush does it then, or a drain."""
        try:
            self._flush()
        except DatabaseAway:
            self._flushed_at = time.monotonic() + AWAY_SECONDS
