"""Engines of a site, each tried in truth: a tiny job goes out to every place, and what its worker saw comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from nightmill.engines.following import CLOCK_SECONDS, clock_told
from nightmill.engines.remote import Remote
from nightmill.errors import EngineAway, NightmillError, RequestRefused, UnknownName
from nightmill.execution.dispatches import Dispatched, dispatches
from nightmill.execution.probing import FlightFailed, tried
from nightmill.execution.worker import Worker
from nightmill.model.campaign import Hosts
from nightmill.model.carrier import Carrier, Spread
from nightmill.model.dispatch import Tried
from nightmill.model.engine import THREADS, EngineSetting
from nightmill.model.order import JobOrder, OrderBundle, OrderInput
from nightmill.model.report import JobReport
from nightmill.operations.acts import Act
from nightmill.operations.dispatches import open_carrier
from nightmill.operations.engines import FLIGHT, digest_of
from nightmill.operations.flight import begin
from nightmill.operations.flight.check import Flight
from nightmill.operations.site import Site

ALL: Final = "all"
"""In the place of an engine's name: all that carry out jobs elsewhere."""
WAIT_SECONDS: Final = 300.0
"""How long the job of a check may take, and wait before."""
MOST_CLOCK_SECONDS: Final = 60.0
"""An engine fails whose clocks differ by more."""
END_SECONDS: Final = 10.0
"""How long a worker may take that was told to end."""
ANYWHERE: Final = "any host"
"""The place of an engine that tells its hosts not apart."""


@dataclass(frozen=True)
class Found:
    """What was found of a part, at a place of an engine."""

    engine: str
    place: str
    """A host, or :data:`ANYWHERE`."""
    tried: Tried
    waited: bool = False
    """Whether the engine has but kept it waiting: nothing is known then."""


def engines_to_try(site: Site, names: Sequence[str]) -> list[EngineSetting]:
    """Return the engines of some names; of ``all`` every one that carries out jobs elsewhere.

    Raises
    ------
    UnknownName
        Where the site has none of a name; with a guess.
    RequestRefused
        Where one is threads: they carry out nothing elsewhere.
    """
    known = site.config.engines
    elsewhere = [name for name, setting in known.items() if setting.kind != THREADS]
    found: dict[str, EngineSetting] = {}
    for name in names:
        if name != ALL and name not in known:
            raise UnknownName("engine", name, [*known, ALL], remedy="'engines' of nightmill.yaml names them")
        if name in known and known[name].kind == THREADS:
            remedy = "'nightmill doctor --flight' tries this host"
            raise RequestRefused(f"engine {name!r} is threads of the slice's own process", remedy=remedy)
        found |= {each: known[each] for each in (elsewhere if name == ALL else [name])}
    return list(found.values())


def fly(site: Site, setting: EngineSetting, *, wait_seconds: float = WAIT_SECONDS) -> Iterator[Found]:
    """Try every place of an engine, and yield what was found; the result is kept, for campaigns that name the engine.

    Nothing else stays. Where a place was but waited for, what was known of the engine before still counts.

    Raises
    ------
    RequestRefused
        Where the site names its operators, and the user is none of them.
    nightmill.execution.journal.SpoolAway
        Where the spool cannot be written.
    """
    act = Act.begin(site, FLIGHT)
    found: list[Found] = []
    for each in _flown(site, setting, wait_seconds):
        found.append(each)
        yield each
    wrong = [f"{each.place}, {each.tried.part}: {each.tried.seen}" for each in found if not each.tried.well]
    if wrong and all(each.waited for each in found if not each.tried.well):
        return
    detail = {"options": digest_of(setting), "places": sorted({each.place for each in found}), "wrong": wrong}
    site.database.write(lambda session: act.note(session, setting.name, detail))


def _flown(site: Site, setting: EngineSetting, wait_seconds: float) -> Iterator[Found]:
    try:
        carrier = open_carrier(setting)
        hosts = list(carrier.hosts_to_try()) if isinstance(carrier, Spread) else []
    except NightmillError as error:
        asked = Tried(part="reached", well=False, seen=str(error), remedy=error.remedy)
        yield Found(setting.name, ANYWHERE, asked, waited=isinstance(error, EngineAway))
        return
    flight = begin(site, places=max(1, len(hosts)))
    left: list[Tried] = []
    with ExitStack() as stack:
        stack.callback(carrier.close)
        stack.callback(lambda: left.append(tried("after", flight.clear)))
        flight.spool.mkdir(parents=True, exist_ok=True)
        try:
            put = flight.put()
        except (NightmillError, OSError) as error:
            seen = f"it cannot be brought into the store: {error}"
            yield Found(setting.name, ANYWHERE, Tried(part="input", well=False, seen=seen))
        else:
            places = _begun(flight, setting, carrier, hosts, put, stack)
            late = _awaited(places, wait_seconds)
            for place in places:
                for each, waited in place.found(late.get(place.number), wait_seconds):
                    yield Found(setting.name, place.name, each, waited)
    for each in left:
        if not each.well:
            yield Found(setting.name, ANYWHERE, each)


def _begun(
    flight: Flight,
    setting: EngineSetting,
    carrier: Carrier,
    hosts: Sequence[str],
    put: tuple[OrderInput, OrderBundle],
    stack: ExitStack,
) -> list[_Place]:
    """Send a job to each place."""
    site = flight.site
    profile = site.profile.model_copy(update={"spool": flight.spool, "cache": flight.spool / "cache"})
    worker = stack.enter_context(Worker(profile, site.stagers))
    places: list[_Place] = []
    for number, host in enumerate(hosts or [""], start=1):
        order = flight.order(put, number, site.config.stores)
        opened = open_carrier(setting) if places else carrier
        places.append(_Place(flight, setting.name, opened, worker, order, number, host))
        stack.callback(places[-1].close)
        places[-1].start()
    return places


def _awaited(places: Sequence[_Place], wait_seconds: float) -> dict[int, str]:
    """Wait for the jobs, and return how those stood that did not come to their end, which are told to end."""
    deadline = time.monotonic() + wait_seconds
    for place in places:
        place.join(deadline - time.monotonic())
    late = {place.number: place.standing for place in places if place.is_alive}
    for place in places if late else ():
        place.stop(f"a flight check waits no longer than {wait_seconds:g} s")
    for place in places if late else ():
        place.join(END_SECONDS)
    return late


class _Place:
    """The job of a check at one place."""

    def __init__(
        self, flight: Flight, engine: str, carrier: Carrier, worker: Worker, order: JobOrder, number: int, host: str
    ) -> None:
        self._flight, self._worker, self._order, self._host, self.number = flight, worker, order, host, number
        hosts = Hosts(use=(host,)) if host else Hosts()
        self._remote = Remote(carrier, engine, worker, flight.site.stagers, hosts=lambda: hosts, tries=True)
        self._reports: list[JobReport] = []
        self._refused: NightmillError | None = None
        self._seconds = 0.0
        self._thread = threading.Thread(target=self._run, name="nightmill-flight", daemon=True)
        self.start: Callable[[], None] = self._thread.start
        self.close: Callable[[], None] = self._remote.close

    def _run(self) -> None:
        begun = time.monotonic()
        try:
            self._reports += self._remote.run([self._order])
        except NightmillError as error:
            self._refused = error
        self._seconds = round(time.monotonic() - begun, 3)

    def stop(self, why: str) -> None:
        """Have it end."""
        self._worker.stop(why)

    def join(self, seconds: float) -> None:
        """Wait for its end."""
        self._thread.join(max(0.0, seconds))

    @property
    def is_alive(self) -> bool:
        """Whether it has not come to its end."""
        return self._thread.is_alive()

    @property
    def name(self) -> str:
        """Which host it is, as far as that is known."""
        taken = self._sent.taken if self._sent is not None else None
        at = taken.owner.host if taken is not None and taken.journal != self._worker.journal.name else ""
        return self._host or at or ANYWHERE

    @property
    def standing(self) -> str:
        """What the engine says of it while it is not over."""
        found = self._remote.standings.get(self._order.attempt)
        if found is None:
            return "the engine does not say how it stands"
        return found.evidence or f"it is {found.state}" + (f" on {found.host}" if found.host else "")

    @property
    def _sent(self) -> Dispatched | None:
        found = dispatches(self._flight.spool)
        return next((each for each in found if self._order.attempt in each.dispatch.attempts), None)

    def found(self, late: str | None, wait_seconds: float) -> Iterator[tuple[Tried, bool]]:
        """Yield what was found of each part, and whether the engine has but kept it waiting.

        Parameters
        ----------
        late
            How it stood when it was waited for no longer; None where it came to its end before.
        """
        sent = self._sent
        taken = sent.taken if sent is not None else None
        began = taken is not None and taken.journal not in ("", self._worker.journal.name)
        if sent is None or not began or late is not None:
            yield self._not_done(late, wait_seconds), late is not None and not began
        if sent is None or taken is None or not began:
            return
        for part in sent.seen.parts if sent.seen is not None else ():
            yield part, False
        ahead = sent.clock_seconds or 0.0
        yield tried("clock", lambda: _clock(taken.owner.host, ahead)), False
        if self._reports and late is None:
            job = tried("job", lambda: self._flight.judge(self._reports[0], self.number))
            yield job.model_copy(update={"wall_seconds": self._seconds}), False

    def _not_done(self, late: str | None, wait_seconds: float) -> Tried:
        """Say why it did not come to its end."""
        remedy = "see what the engine says of it"
        if self._refused is not None:
            seen, remedy = str(self._refused), self._refused.remedy
        elif late is not None:
            remedy = "see its queue, or wait longer (--wait)"
            seen = f"it was waited for {wait_seconds:g} s, in vain: {late}; {remedy}"
        elif self._remote.unfit:
            seen = self._remote.unfit
        else:
            seen = self._reports[0].evidence if self._reports else "it was not carried out"
        return Tried(part="reached", well=False, seen=seen, remedy=remedy, wall_seconds=self._seconds)


def _clock(host: str, ahead_seconds: float) -> str:
    if abs(ahead_seconds) < CLOCK_SECONDS:
        return f"it agrees with that of this host, within {CLOCK_SECONDS:g} s"
    told = clock_told(host, ahead_seconds)
    if abs(ahead_seconds) > MOST_CLOCK_SECONDS:
        raise FlightFailed(f"{told}; at most {MOST_CLOCK_SECONDS:g} s are borne", remedy="set it, as by NTP")
    return f"{told}: what its workers tell is on record with its times"
