"""What the jobs of one process share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Final

from nightmill.clock import Clock, utc_now
from nightmill.errors import JobFailed, NightmillError, StoreError
from nightmill.execution.bundles import BundleCache
from nightmill.execution.confine.confiner import Confiner
from nightmill.execution.host import Host, this_host
from nightmill.execution.journal import JournalWriter
from nightmill.execution.launch.containers.opened import Container, OpenedContainers
from nightmill.execution.launch.warm import Servers
from nightmill.execution.sealing import Chain
from nightmill.execution.software import stack_of
from nightmill.execution.transfers import Transfers
from nightmill.model.container import Containers
from nightmill.model.fate import Fate
from nightmill.model.journal import (
    AttemptEntry,
    Entry,
    MadeFile,
    Sealed,
    SoftwareSeen,
)
from nightmill.model.node import NetworkPaths
from nightmill.model.order import AttemptKey, JobOrder, OrderStep
from nightmill.model.ports import Stager, View
from nightmill.model.report import JobReport, fold
from nightmill.model.statement import Envelope


class Superseded(NightmillError):
    """What a worker carries out was ended for it, and its jobs may be carried out by others: it publishes nothing."""


class EmptyView:
    """The view of most pipelines: the inputs as they are staged, and nothing beside them."""

    def lay_out(self, order: JobOrder, scratch: Path) -> None:
        """Leave everything as it is."""


EMPTY: Final = EmptyView()


@dataclass
class JobContext:
    """What the jobs of one process share."""

    stagers: Mapping[str, Stager]
    scratch: Path
    """Folder for the scratches, on a local disk."""
    journal: JournalWriter
    bundles: BundleCache
    keep_scratch: bool = False
    now: Clock = utc_now
    host: Host = field(default_factory=this_host)
    stopping: str = ""
    """Set, by any thread, to why everything is to end: steps that run are ended, and none begins any more."""
    view: View = EMPTY
    transfers: Transfers | None = None
    """What limits transfers; None where nothing does."""
    containers: OpenedContainers = field(default_factory=lambda: OpenedContainers(Containers(), Path()))
    """What steps with an image are run with."""
    superseded: Callable[[], bool] = lambda: False
    """Asked before anything is published whether what is carried out was given up for it meanwhile."""
    is_guest: bool = False
    """Whether it carries out a dispatch: what it leaves where it dies, nobody may come to this host to remove."""
    network_paths: NetworkPaths = NetworkPaths.WARN
    """What becomes of steps that depend on network mounts of this host."""
    chain: Chain | None = None
    """What signs what it publishes; None where nothing does."""
    warm: Servers = field(default_factory=Servers)
    """Processes that have imported what steps need."""
    confiner: Confiner = field(default_factory=Confiner)
    """What steps are confined by."""
    _told: dict[AttemptKey, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    _stacks: dict[object, str] = field(default_factory=dict)

    def tell(self, entry: AttemptEntry) -> None:
        """Append an entry to the journal."""
        self.journal.append(entry)
        self._told[entry.attempt].append(entry)

    def seal(self, attempt: AttemptKey, files: Sequence[MadeFile], fate: Fate, step: str, evidence: str) -> None:
        """Tell, signed, what an attempt is about to publish, where this process signs anything."""
        if self.chain is None:
            return
        report, at = fold(self._told[attempt])[attempt], self.now()

        def tell(envelope: Envelope) -> None:
            self.tell(Sealed(attempt=attempt, at=at, envelope=envelope))

        self.chain.add(report, files, fate, step, evidence, now=at, tell=tell)

    def report(self, attempt: AttemptKey) -> JobReport:
        """Fold what was told of an attempt, and forget it."""
        return fold(self._told.pop(attempt))[attempt]

    def stager(self, store: str) -> Stager:
        """Return what moves bytes to and from a store, as :func:`stager_of` does."""
        return stager_of(store, self.stagers)

    @contextmanager
    def moving(self, store: str, *, insist: bool = False) -> Iterator[Stager]:
        """Give what moves bytes to and from a store for one transfer, which waits where no more may run at a time.

        Parameters
        ----------
        insist
            Whether it waits no longer once everything is to end, rather than not to happen.

        Raises
        ------
        JobFailed
            Where everything is to end before its turn comes.
        StoreError
            Where the store is not open here.
        nightmill.execution.journal.SpoolAway
            Where it is not known how many run.
        """
        stager, place = self.stager(store), None
        if self.transfers is not None:
            place = self.transfers.take(store, stopping=lambda: bool(self.stopping))
            if place is None and not insist:
                why = f"a transfer with store {store!r} was not begun: {self.stopping}"
                raise JobFailed(why, fate=Fate.CANCELLED)
        with place or ExitStack():
            yield stager

    def fetch(self, store: str, path: str, target: Path) -> int:
        """Copy a stored file to a local path that does not exist yet, as :meth:`moving` says; return its bytes.

        Once everything is to end, none is begun.
        """
        if self.stopping:
            raise JobFailed(f"{path!r} was not fetched from store {store!r}: {self.stopping}", fate=Fate.CANCELLED)
        with self.moving(store) as stager:
            return stager.fetch(path, target)

    def stack(
        self, argv: tuple[str, ...], step: OrderStep, environment: Mapping[str, str], container: Container | None = None
    ) -> str:
        """Return the digest of the software of a step in its environment, which the journal is told once."""
        key = (argv[0], tuple(step.software.items()), tuple(environment.items()), step.image)
        if key not in self._stacks:
            packages = stack_of(argv, step.software, environment, container)
            packages |= container.packages if container else self.containers.told(step)
            digest = sha256(repr(sorted(packages.items())).encode()).hexdigest()
            self.journal.append(SoftwareSeen(sha256=digest, packages=packages))
            self._stacks[key] = digest
        return self._stacks[key]


def is_far(order: JobOrder, store: str) -> bool:
    """Whether a store of an order is none of the folders that hosts see, so that a transfer waits most of its time."""
    return store in order.stores and not order.stores[store].is_folder


def stager_of(store: str, stagers: Mapping[str, Stager]) -> Stager:
    """Return what moves bytes to and from a store that an order names.

    Raises
    ------
    StoreError
        Where the store is not open here.
    """
    if store not in stagers:
        raise StoreError(f"store {store!r} of the order is not open here", remedy="add it to the stores of the site")
    return stagers[store]
