"""Carrying out orders somewhere else: chunks go out as dispatches, and the journals of their workers are followed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Final, Self

from nightmill.clock import utc_now
from nightmill.engines.following import Clocks, Followed
from nightmill.errors import EngineAway, NightmillError
from nightmill.execution.concluding import Concluded, conclude
from nightmill.execution.dispatches import Dispatched, send_out
from nightmill.execution.journal import Journal, SpoolAway
from nightmill.execution.owner import is_alive, this_process
from nightmill.execution.recover import Rights
from nightmill.execution.worker import Worker
from nightmill.model.campaign import Hosts
from nightmill.model.carrier import Carrier
from nightmill.model.dispatch import Ending, Standing
from nightmill.model.fate import Fate
from nightmill.model.journal import Entry
from nightmill.model.order import AttemptKey, JobOrder
from nightmill.model.ports import Stager
from nightmill.model.report import JobReport, fold

FIRST_PAUSE_SECONDS: Final = 0.02
LONGEST_PAUSE_SECONDS: Final = 0.5
"""Between two readings of the journals: short after news, longer the longer there are none."""
LOOK_FACTOR: Final = 20.0
"""By so much more than it bears an engine is left in peace where all goes on as it did."""


def all_rights(journal: Journal) -> Mapping[AttemptKey, Rights]:
    """Give every right over the attempts of a journal: for who has no database that others registered files in."""
    return {attempt: Rights() for attempt in fold(journal.entries)}


def _told(error: BaseException) -> BaseException:
    if not isinstance(error, OSError):
        return error
    what = f"dispatches cannot be followed: {error.filename or 'the spool'}: {error.strerror}"
    return SpoolAway(what, remedy="mend the spool; what was sent out goes on, and the slice's next process follows it")


@dataclass(eq=False)
class _Flight:
    """A dispatch that is followed."""

    dispatched: Dispatched
    followed: Followed
    handle: str | None = None
    may_be_known: bool = False
    """Whether the engine may know it, although there is no handle yet."""
    news: SimpleQueue[JobReport | BaseException | None] = field(default_factory=SimpleQueue)
    """For who waits for it: reports, or what went wrong; None once it is over."""
    stopped: bool = False
    told_unknown: bool = False
    standing: Standing | None = None

    @property
    def is_to_submit(self) -> bool:
        """Whether the engine is still to be told of it."""
        return self.handle is None and not (self.stopped or self.dispatched.is_over)


class Remote:
    """Carries out orders by an engine's workers; use it as a context, and from several threads.

    A worker tells in its journal what it does, and when it has come to its end. Where it does not come so far, the
    engine says that it is gone, and what became of it; silence proves nothing.

    Parameters
    ----------
    carrier
        The engine.
    name
        What the site calls it.
    worker
        The worker of this process: its profile is what the others may use, too, its journal tells of attempts that
        nobody began, and what tells it to stop tells them.
    stagers
        By which files of dead workers are completed or removed.
    slice_number
        Of the slice that this is for.
    hosts
        Asked before each dispatch where it may go.
    hear
        Called with each entry of the workers' journals.
    rights_of
        What may be done about attempts that a dead worker left open.
    alone
        Gives a context in which nobody else drains the spool.
    tell
        Called with what the operator should know.
    tries
        Whether workers first try what their hosts offer.
    """

    def __init__(
        self,
        carrier: Carrier,
        name: str,
        worker: Worker,
        stagers: Mapping[str, Stager],
        *,
        slice_number: int = 0,
        hosts: Callable[[], Hosts] = Hosts,
        hear: Callable[[Entry], None] = lambda _: None,
        rights_of: Callable[[Journal], Mapping[AttemptKey, Rights]] = all_rights,
        alone: Callable[[], AbstractContextManager[object]] = nullcontext,
        tell: Callable[[str], None] = lambda _: None,
        tries: bool = False,
    ) -> None:
        self.carrier, self.name = carrier, name
        self._worker, self._stagers, self._slice_number, self._hosts = worker, stagers, slice_number, hosts
        self._hear, self._rights_of, self._alone, self._tell, self._tries = hear, rights_of, alone, tell, tries
        self._flights: dict[str, _Flight] = {}
        self._adopted: dict[AttemptKey, _Flight] = {}
        self._unrecorded: dict[Dispatched, set[AttemptKey]] = {}
        self._lock = threading.Lock()
        self._news, self._closed = threading.Event(), threading.Event()
        self.unfit = ""
        """Why its workers begin nothing, by the first that could not; empty as long as they do."""
        self.unbegun: list[Dispatched] = []
        """Dispatches that such workers left: nothing of them will be recorded."""
        self._clocks = Clocks()
        self._away, self._places = "", 1
        self._failure: BaseException | None = None
        self._look_at, self._look_pause = 0.0, carrier.look_seconds
        self._thread = threading.Thread(target=self._run, name="nightmill-engine", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the engine; what is under way goes on, for another process to follow."""
        self._closed.set()
        self._news.set()
        self._thread.join()
        for flight in self._flights.values():
            flight.followed.close()
        self.carrier.close()

    # ----------------------------------------------------------------------- for who carries out

    @property
    def places(self) -> int:
        """How many chunks it takes at a time: one at least, which waits where the engine has no place for it now."""
        with suppress(EngineAway):
            self._places = max(1, self.carrier.places)
        return self._places

    def run(self, orders: Sequence[JobOrder]) -> Iterator[JobReport]:
        """Have orders carried out by one worker, one after another.

        Those that :meth:`adopt` gave are not sent out again, and are to come as it gave them.

        Yields
        ------
        JobReport
            As the jobs end: one an order, but for those that were not begun as everything is to end, and those whose
            end cannot be told as a store is away. A failed job is a report, and so is one of a worker that is gone.

        Raises
        ------
        RequestRefused
            Where the engine does not take them.
        """
        if not orders or (self._worker.stopping and orders[0].attempt not in self._adopted):
            return
        with self._lock:
            flight = self._adopted.pop(orders[0].attempt, None)
        flight = flight or self._send(orders)
        told: set[AttemptKey] = set()
        mine = {order.attempt: order for order in orders}
        while (news := flight.news.get()) is not None:
            if isinstance(news, BaseException):
                raise news
            if mine.get(news.attempt) == news.order and news.attempt not in told:
                told.add(news.attempt)
                yield news
        if mine.keys() - told:
            reports = self._conclude(flight.dispatched).reports
            for attempt, order in mine.items():
                if attempt not in told and attempt in reports and reports[attempt].order == order:
                    yield reports[attempt]

    def adopt(self, dispatches: Iterable[Dispatched]) -> None:
        """Follow dispatches from now on that another process sent out, which is dead."""
        for dispatched in dispatches:
            dispatched.adopt(this_process())
            flight = _Flight(dispatched, Followed(dispatched), dispatched.handle, may_be_known=True)
            with self._lock:
                self._adopted[dispatched.dispatch.attempts[0]] = flight
                self._begin(flight)

    def recorded(self, attempts: Iterable[AttemptKey]) -> list[Dispatched]:
        """Take note of attempts that are on record; return dispatches that are over, and whose attempts all are."""
        done, on_record = [], set(attempts)
        with self._lock:
            for dispatched, left in list(self._unrecorded.items()):
                left.difference_update(on_record)
                if not left and dispatched.name not in self._flights:
                    done.append(dispatched)
                    del self._unrecorded[dispatched]
        return done

    @property
    def under_way(self) -> list[AttemptKey]:
        """The attempts of dispatches that are not over."""
        with self._lock:
            return [each for flight in self._flights.values() for each in flight.dispatched.dispatch.attempts]

    @property
    def standings(self) -> dict[AttemptKey, Standing]:
        """How the engine says that dispatches stand that are not over, by the first attempt of each."""
        with self._lock:
            return {
                each.dispatched.dispatch.attempts[0]: each.standing for each in self._flights.values() if each.standing
            }

    def _send(self, orders: Sequence[JobOrder]) -> _Flight:
        profile, number, tries = self._worker.profile, self._slice_number, self._tries
        dispatched = send_out(
            profile.spool, orders, profile, engine=self.name, slice_number=number, hosts=self._hosts(), tries=tries
        )
        flight = _Flight(dispatched, Followed(dispatched))
        with self._lock:
            self._begin(flight)
        return flight

    def _begin(self, flight: _Flight) -> None:
        self._flights[flight.dispatched.name] = flight
        self._unrecorded[flight.dispatched] = set(flight.dispatched.dispatch.attempts)
        self._look_pause = self.carrier.look_seconds
        if self._failure is not None:  # nobody follows it
            flight.news.put(self._failure)
        self._news.set()

    def _conclude(self, dispatched: Dispatched) -> Concluded:
        scratch = self._worker.profile.scratch
        with self._alone():
            concluded = conclude(dispatched, self._worker.journal, self._stagers, self._rights_of, scratch=scratch)
        for end in concluded.ends:
            self._hear(end)
        for attempt, error in concluded.waiting.items():
            self._tell(f"{attempt} has no end yet, as a store cannot be asked: {error}")
        return concluded

    # ------------------------------------------------------------------------- in a thread of its own

    def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        try:
            while not self._closed.is_set():
                self._news.clear()
                with self._lock:
                    flights = list(self._flights.values())
                if self._worker.stopping:
                    self._stop([flight for flight in flights if not flight.stopped], self._worker.stopping)
                self._ask([flight for flight in flights if flight.is_to_submit], self._submit)
                moved = [flight for flight in flights if self._follow(flight)]
                if flights and time.monotonic() >= self._look_at:
                    self._ask([flight for flight in flights if flight.handle is not None], self._look)
                    self._look_at = time.monotonic() + self._look_pause
                    self._look_pause = min(self._look_pause * 1.5, self.carrier.look_seconds * LOOK_FACTOR)
                pause = FIRST_PAUSE_SECONDS if moved else min(pause * 1.5, LONGEST_PAUSE_SECONDS)
                self._news.wait(pause if flights else None)
        except BaseException as error:  # noqa: BLE001 - for those who wait, whose threads have a logger
            with self._lock:
                self._failure = _told(error)
                for flight in self._flights.values():
                    flight.news.put(self._failure)

    def _ask(self, flights: Sequence[_Flight], ask: Callable[[Sequence[_Flight]], None]) -> None:
        """Ask the engine for something; where it is away it is asked again later, and its workers go on."""
        if not flights:
            return
        try:
            ask(flights)
        except EngineAway as error:
            if not self._away:
                self._tell(f"engine {self.name!r} cannot be asked: {error}; what it carries out goes on")
            self._away = str(error)
            return
        if self._away:
            self._tell(f"engine {self.name!r} answers again")
        self._away = ""

    def _submit(self, flights: Sequence[_Flight]) -> None:
        """Submit dispatches; those of a process that died before it knew, or of a lost answer, may be there already."""
        names = [flight.dispatched.name for flight in flights if flight.may_be_known]
        known = self.carrier.find(names) if names else {}
        new = [flight for flight in flights if flight.dispatched.name not in known]
        for flight in new:
            flight.may_be_known = True
        try:
            handles = self.carrier.submit([flight.dispatched.dispatch for flight in new]) if new else []
        except EngineAway:
            raise
        except NightmillError as refused:
            for flight in new:
                self._withdraw(flight, str(refused))
                flight.stopped = True
                flight.news.put(refused)
            return
        known = {**known, **{flight.dispatched.name: handle for flight, handle in zip(new, handles, strict=True)}}
        for flight in flights:
            flight.handle = known[flight.dispatched.name]
            flight.dispatched.keep_handle(flight.handle)

    def _follow(self, flight: _Flight) -> bool:
        """Pass on what a worker has told since; return whether there was anything."""
        over = flight.dispatched.ending is not None  # asked first: then nothing that counts is missing
        entries = flight.followed.news()
        if entries and (told := self._clocks.news(flight.dispatched)):
            self._tell(f"{told}; what its workers tell is on record with its times")
        for entry in entries:
            self._hear(entry)
        for report in flight.followed.reports(entries):
            flight.news.put(report)
        if over:
            if (ending := flight.dispatched.ending) is not None and ending.unfit:
                if flight.dispatched.taken is None or not flight.dispatched.taken.journal:
                    self.unbegun.append(flight.dispatched)
                self.unfit = self.unfit or f"engine {self.name!r} cannot begin jobs: {ending.evidence}"
            with self._lock:
                self._flights.pop(flight.dispatched.name, None)
            flight.followed.close()
            flight.news.put(None)
        return over or bool(entries)

    def _stop(self, flights: Sequence[_Flight], why: str) -> None:
        """End dispatches before their time: those that nobody has begun never begin."""
        for flight in flights:
            flight.dispatched.stop(why)
            self._withdraw(flight, why)
            flight.stopped = True
        handles = [flight.handle for flight in flights if flight.handle is not None]
        if handles:
            self._ask(flights, lambda _: self.carrier.end(handles))

    def _withdraw(self, flight: _Flight, why: str) -> None:
        """Have nobody begin a dispatch, unless somebody has."""
        if self._take(flight):
            flight.dispatched.end(Ending(at=utc_now(), fate=Fate.CANCELLED, evidence=why))

    def _look(self, flights: Sequence[_Flight]) -> None:
        handles = {flight.handle: flight for flight in flights if flight.handle is not None}
        standings = self.carrier.look(list(handles))
        for handle, flight in handles.items():
            flight.standing = standing = standings.get(handle, Standing(state="unknown"))
            if standing.state == "ended":
                self._end(flight, standing)
            elif standing.state == "unknown":
                self._unknown(flight)

    def _end(self, flight: _Flight, standing: Standing) -> None:
        fate, evidence = standing.fate or Fate.LOST, standing.evidence
        if standing.fate is None:
            said = f": {standing.evidence}" if standing.evidence else ""
            evidence = f"its worker ended and told no end, and engine {self.name!r} saw nothing wrong{said}"
        if fate is Fate.LOST and (output := flight.dispatched.output):
            evidence = f"{evidence} and said: {output}"
        unfit = standing.unfit and self._take(flight)
        flight.dispatched.end(Ending(at=utc_now(), fate=fate, evidence=evidence, unfit=unfit))

    def _take(self, flight: _Flight) -> bool:
        """Take a dispatch, so that nobody begins it; return whether nobody had."""
        own = self._worker.journal.name
        return flight.dispatched.take(own, this_process(), utc_now()).journal == own

    def _unknown(self, flight: _Flight) -> None:
        """See what can be said of a dispatch that the engine cannot tell of, without a guess."""
        dispatched, own = flight.dispatched, self._worker.journal.name
        taken = dispatched.take(own, this_process(), utc_now())  # from now on nobody begins it
        if taken.journal == own:
            evidence = f"engine {self.name!r} does not know it, and no worker had begun it"
            dispatched.end(Ending(at=utc_now(), fate=Fate.LOST, evidence=evidence))
        elif is_alive(taken.owner) is False:
            gone = f"worker process {taken.owner.pid} on {taken.owner.host} is gone"
            evidence = f"{gone}, and engine {self.name!r} knows no more"
            dispatched.end(Ending(at=utc_now(), fate=Fate.LOST, evidence=evidence))
        elif not flight.told_unknown:
            flight.told_unknown = True
            host = taken.owner.host
            self._tell(
                f"engine {self.name!r} cannot tell of dispatch {dispatched.name}, whose worker began on {host}: its end"
                f" is waited for; where {host} will not come back, say so: 'nightmill record --host-lost {host}'"
            )
