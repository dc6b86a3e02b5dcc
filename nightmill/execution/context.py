"""What the jobs of one process share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from nightmill.clock import Clock, utc_now
from nightmill.errors import JobFailed, NightmillError, StoreError
from nightmill.execution.bundles import BundleCache
from nightmill.execution.confine.confiner import Confiner
from nightmill.execution.host import CORES, DEVICES, Host, this_host
from nightmill.execution.journal import JournalWriter
from nightmill.execution.launch.containers.opened import Container, OpenedContainers
from nightmill.execution.launch.warm import Servers
from nightmill.execution.logs.lines import AttemptLines, LineSpool
from nightmill.execution.sealing import Chain
from nightmill.execution.software import sight, stack_of, with_libraries
from nightmill.execution.transfers import Transfers
from nightmill.model.container import Containers
from nightmill.model.error_rule import ErrorRule
from nightmill.model.fate import Fate
from nightmill.model.journal import (
    AttemptEntry,
    Entry,
    MadeFile,
    Sealed,
    SoftwareSeen,
)
from nightmill.model.logs import NodeLogs
from nightmill.model.node import NetworkPaths, SoftwarePolicy
from nightmill.model.order import AttemptKey, JobOrder, OrderStep
from nightmill.model.ports import Stager, View
from nightmill.model.report import JobReport, fold
from nightmill.model.software import Stack
from nightmill.model.statement import Envelope


class Superseded(NightmillError):
    """What a worker carries out was ended for it, and its jobs may be carried out by others: it publishes nothing."""


class EmptyView:
    """The view of most pipelines: the inputs as they are staged, and nothing beside them."""

    def lay_out(self, order: JobOrder, scratch: Path) -> None:
        """Leave everything as it is."""


EMPTY: Final = EmptyView()
_OF_A_JOB: Final = frozenset({*CORES, *DEVICES})
"""Variables that say what of its host a job may use: its software is the same whatever they say."""


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
    software: SoftwarePolicy = field(default_factory=SoftwarePolicy)
    """What becomes of steps whose software is new to the site."""
    refused: str = ""
    """Set to why nothing begins any more, where a step would have run with software that the site does not let in."""
    chain: Chain | None = None
    """What signs what it publishes; None where nothing does."""
    warm: Servers = field(default_factory=Servers)
    """Processes that have imported what steps need."""
    logs: NodeLogs = field(default_factory=NodeLogs)
    """What becomes of the output of steps."""
    errors: tuple[ErrorRule, ...] = ()
    """What the site knows as errors: they find what tells why a step failed in what it printed."""
    line_spool: LineSpool | None = None
    """Where lines of logs go as they are written; None for nowhere."""
    _lines: dict[AttemptKey, AttemptLines] = field(default_factory=dict)
    confiner: Confiner = field(default_factory=Confiner)
    """What steps are confined by."""
    _told: dict[AttemptKey, list[Entry]] = field(default_factory=lambda: defaultdict(list))
    _stacks: dict[object, str] = field(default_factory=dict)
    _told_stacks: dict[str, Stack] = field(default_factory=dict)

    def tell(self, entry: AttemptEntry) -> None:
        """Append an entry to the journal."""
        self.journal.append(entry)
        self._told[entry.attempt].append(entry)
        if (lines := self.lines_of(entry.attempt)) is not None:
            lines.tell(entry)

    def lines_of(self, attempt: AttemptKey) -> AttemptLines | None:
        """Return what makes lines of what is told and printed of an attempt; None where nobody wants them."""
        if self.line_spool is None:
            return None
        return self._lines.get(attempt) or self._lines.setdefault(attempt, AttemptLines(self.line_spool, attempt))

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
        self._lines.pop(attempt, None)
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
        self,
        order: JobOrder,
        step: OrderStep,
        argv: tuple[str, ...],
        environment: Mapping[str, str],
        container: Container | None = None,
    ) -> str:
        """Return the digest of the software of a step in its environment, which the journal is told once."""
        own = {name: value for name, value in environment.items() if name not in _OF_A_JOB}
        seen = sight(argv, step.software, own, container)
        bundle = order.bundle.digest if order.bundle is not None else ""
        key = (seen, tuple(step.software.items()), step.image, bundle)
        if key not in self._stacks:
            image = self.containers.told(step)
            self._stacks[key] = self._tell_stack(stack_of(seen, step.software, container, bundle=bundle, image=image))
        return self._stacks[key]

    def known_stack(self, digest: str) -> Stack:
        """Return a stack that the journal was told."""
        return self._told_stacks[digest]

    def stack_with(self, digest: str, libraries: Iterable[str], *, job: Path) -> str:
        """Return the digest of a stack with the shared libraries that a step of it was seen to load.

        The journal is told of it once. What lies in the scratch of the job or in its bundle is not of the host.
        """
        own = (f"{job}/", f"{self.bundles.trees.parent}/")
        key = (digest, frozenset(path for path in libraries if not path.startswith(own)))
        if key not in self._stacks:
            self._stacks[key] = self._tell_stack(with_libraries(self._told_stacks[digest], key[1]))
        return self._stacks[key]

    def _tell_stack(self, stack: Stack) -> str:
        if stack.sha256 not in self._told_stacks:
            self.journal.append(SoftwareSeen(sha256=stack.sha256, stack=stack))
            self._told_stacks[stack.sha256] = stack
        return stack.sha256


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
