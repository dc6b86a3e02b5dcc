"""Where the jobs of a slice are carried out: by threads of its own process, or by the workers of an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

from nightmill.engines.remote import Remote
from nightmill.errors import UnknownName
from nightmill.execution.dispatches import ORDERS
from nightmill.execution.host import Host
from nightmill.execution.journal import Journal
from nightmill.execution.orders import read_orders
from nightmill.execution.recover import Rights
from nightmill.execution.slots import Slots
from nightmill.execution.worker import Worker
from nightmill.model.campaign import Campaign, Hosts
from nightmill.model.engine import THREADS, EngineSetting
from nightmill.model.journal import Entry
from nightmill.model.order import AttemptKey, JobOrder
from nightmill.model.pipeline import Resources
from nightmill.model.report import JobReport
from nightmill.operations.alone import alone
from nightmill.operations.dispatches import SliceName, hand_over, open_carrier, tidy
from nightmill.operations.drain import rights_over
from nightmill.operations.lost_hosts import hosts_lost
from nightmill.operations.site import Site

SLOTS: Final = "slots"
"""Folder of the spool for what the processes of each host share its cores by."""
MOST_CHUNKS: Final = 1000
"""Chunks that one slice has at an engine at a time, at most: a thread waits for each."""
TASK_RUN_SECONDS: Final = 0.02
"""What the task run of a chunk costs (measured: 10 to 20 ms), wherever its jobs run."""

_UNFIT: Final = "once that is mended, 'nightmill doctor --engine {}' tries it; then rerun"


def place_of(
    site: Site, campaign: Campaign, of: SliceName, host: Host, resources: Resources, hosts: Callable[[], Hosts]
) -> Place:
    """Return where the jobs of a slice are carried out: as its campaign says, and by default here.

    Parameters
    ----------
    hosts
        Asked where jobs of the campaign may run.

    Raises
    ------
    RequestRefused
        Where the site does not have the engine any more, or a job needs more memory than this host has.
    """
    name, known = campaign.execution.engine_of(of[1]) or THREADS, site.config.engines
    if name not in known:
        raise UnknownName("engine", name, list(known), remedy="give it back to nightmill.yaml, or submit with another")
    return Here(site, host, resources) if known[name].kind == THREADS else Elsewhere(site, known[name], of, hosts)


class Here:
    """Threads of this process, which share the cores of its host with all others of the site."""

    is_here: Final = True
    chunk_costs_seconds: Final = TASK_RUN_SECONDS

    def __init__(self, site: Site, host: Host, resources: Resources) -> None:
        self._host, self._share = host, host.share_of(resources)
        self._slots = Slots(site.config.spool / SLOTS / host.name, host.cores)
        self.most_memory_bytes: int | None = host.memory_bytes
        """More a job cannot have here."""
        self.places = self.most_chunks = host.cores // self._share
        """Chunks at a time."""

    def open(self, worker: Worker, hear: Callable[[Entry], None], tell: Callable[[str], None]) -> None:
        """Carry out by this worker."""
        self._worker = worker

    @property
    def unfit(self) -> str:
        """Why this process begins nothing any more, where the software of this host is not let in."""
        return self._worker.refused

    def adopt(self, lease_id: int) -> list[list[JobOrder]]:
        """Return nothing: what a process carried out itself has ended with it."""
        return []

    def claim(self, orders: Sequence[JobOrder]) -> list[JobOrder]:
        """Claim the attempts of orders, and return those that others have not."""
        taken = self._worker.claim(order.attempt for order in orders)
        return [order for order in orders if order.attempt not in taken]

    def take_cores(
        self, orders: Sequence[JobOrder], stopping: Callable[[], bool], priority: Callable[[], int]
    ) -> ExitStack | None:
        """Wait until the host has room for any of some jobs beside all others of the site, and take it."""
        wanted = [order.resources for order in orders]
        fitting = [each for each in wanted if (each.memory_bytes or 0) <= self._host.memory_bytes]
        share = max([self._share, *map(self._host.share_of, fitting)])
        return self._slots.take(share, stopping=stopping, priority=priority)

    def run(self, orders: Iterable[JobOrder]) -> Iterator[JobReport]:
        """Carry them out in this thread."""
        return self._worker.run(orders)

    def bar(self, hosts: Callable[[str], str]) -> str:
        """Say why this host may not be used."""
        return hosts(self._host.name)

    def recorded(self, attempts: Iterable[AttemptKey]) -> None:
        """Have nothing to do."""

    def close(self) -> list[AttemptKey]:
        """Leave nothing that goes on."""
        return []


class Elsewhere:
    """The workers of an engine."""

    is_here: Final = False
    most_chunks: Final = MOST_CHUNKS
    most_memory_bytes: Final = None
    """Nobody knows how much its hosts have."""

    def __init__(self, site: Site, setting: EngineSetting, of: SliceName, hosts: Callable[[], Hosts]) -> None:
        self._site, self._setting, self._of, self._hosts = site, setting, of, hosts

    def open(self, worker: Worker, hear: Callable[[Entry], None], tell: Callable[[str], None]) -> None:
        """Reach for the engine; ``hear`` is called with each entry of its workers' journals."""
        self._remote = Remote(
            open_carrier(self._setting),
            self._setting.name,
            worker,
            self._site.stagers,
            slice_number=self._of[2],
            hosts=self._hosts,
            hear=hear,
            rights_of=self._rights_over,
            alone=partial(alone, self._site.config.spool),
            tell=tell,
        )

    def adopt(self, lease_id: int) -> list[list[JobOrder]]:
        """Follow what another process of the slice, which is dead, has sent out, and go on with it under a lease.

        Returns
        -------
        list
            Their orders, chunk by chunk, as :meth:`run` is to be given them.
        """
        take = partial(hand_over, self._site, lease_id=lease_id, of=self._of)
        dispatches = self._site.patiently(lambda: self._site.database.write(take))
        self._remote.adopt(dispatches)
        return [list(read_orders(dispatched.folder / ORDERS)) for dispatched in dispatches]

    def claim(self, orders: Sequence[JobOrder]) -> list[JobOrder]:
        """Leave it to the workers."""
        return list(orders)

    def _rights_over(self, journal: Journal) -> Mapping[AttemptKey, Rights]:
        return self._site.patiently(lambda: rights_over(self._site, journal, hosts_lost(self._site)))

    @property
    def unfit(self) -> str:
        """Why workers of the engine begin nothing; empty as long as they do."""
        return f"{self._remote.unfit}; {_UNFIT.format(self._setting.name)}" if self._remote.unfit else ""

    @property
    def places(self) -> int:
        """Chunks that the engine takes at a time."""
        return self._remote.places

    @property
    def chunk_costs_seconds(self) -> float:
        """What a chunk costs beside its jobs."""
        return TASK_RUN_SECONDS + self._remote.carrier.dispatch_seconds

    def take_cores(
        self, orders: Sequence[JobOrder], stopping: Callable[[], bool], priority: Callable[[], int]
    ) -> ExitStack | None:
        """Take none: those of this host are not used."""
        return None if stopping() else ExitStack()

    def run(self, orders: Iterable[JobOrder]) -> Iterator[JobReport]:
        """Have them carried out by one worker."""
        return self._remote.run(list(orders))

    def bar(self, hosts: Callable[[str], str]) -> str:
        """Leave it to the engine which hosts are used: dispatches say which may."""
        return ""

    def recorded(self, attempts: Iterable[AttemptKey]) -> None:
        """Set aside what is left of dispatches whose every attempt is recorded."""
        tidy(self._remote.recorded(attempts))

    def close(self) -> list[AttemptKey]:
        """Let go of the engine."""
        self._remote.close()
        tidy(self._remote.unbegun)
        return self._remote.under_way


Place = Here | Elsewhere
