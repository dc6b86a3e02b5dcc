"""Dask: a dispatch is a task of a scheduler of ``distributed``, in whose workers it is carried out."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from nightmill.clock import utc_now
from nightmill.engines.dask_clusters import ClusterFolder, DaskOptions, package
from nightmill.errors import EngineAway
from nightmill.execution.dispatches import Dispatched
from nightmill.execution.evidence import readable
from nightmill.execution.owner import host_name
from nightmill.execution.worker import carry_out
from nightmill.model.campaign import Hosts
from nightmill.model.dispatch import Dispatch, Ending, Standing
from nightmill.model.fate import Fate

Client = Any
"""Of ``distributed``, most of whose functions have no types."""
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 10.0
WATCH_SECONDS: Final = 0.5
"""How often a worker is asked whether it goes on."""


class Dask:
    """``dask``: each dispatch is carried out by a worker of a Dask cluster, in the worker's own process.

    The workers have nightmill installed, and see the spool and the stores by the paths and URLs of the site. How many
    dispatches a worker carries out at a time is the number of its threads. Dask tries nothing again: where a cluster is
    set up to give the tasks of a dead worker to another, that one finds them begun, and does nothing.
    """

    Options: Final = DaskOptions
    look_seconds: Final = 0.5
    dispatch_seconds: Final = 0.05  # its workers have imported everything: it has orders to read and a journal to begin

    def __init__(self, name: str, options: DaskOptions) -> None:
        self._name, self._options, self._bounds = name, options, options.bounds
        self._opening = threading.Lock()
        self._own: ClusterFolder | None = None
        self._opened: Client | None = None

    @contextmanager
    def _client(self, *, start: bool = False) -> Iterator[Client]:
        """Give the connection, made anew where there is none."""
        try:
            with self._opening:
                if self._opened is None or self._opened.status != "running":
                    self._opened = self._open(start)
            yield self._opened
        except (OSError, TimeoutError) as error:  # what a connection that fails raises
            where = self._options.address or "its own cluster"
            why = readable(str(error)) or type(error).__name__
            raise EngineAway(f"Dask at {where}: {why}", remedy="see whether its scheduler runs") from error

    def _open(self, start: bool) -> Client:
        distributed = package(self._name, "distributed", "dask")
        opened = partial(distributed.Client, timeout=CONNECT_SECONDS, set_as_default=False)
        if self._bounds is None:
            return opened(self._options.address)
        if self._own is None:
            raise _NoCluster(f"engine {self._name!r} has no cluster yet")
        with self._own.locked():
            address = self._own.address or (self._own.start(self._name, self._options) if start else "")
            if not address:
                raise _NoCluster(f"engine {self._name!r} has no cluster now")
            return opened(address, security=self._own.security(self._name))

    @property
    def places(self) -> int:
        """The threads of all workers; the most that there may be of its own."""
        if self._bounds is not None:
            return self._bounds.most
        with self._client() as client:
            return sum(client.nthreads().values())

    def submit(self, dispatches: Sequence[Dispatch]) -> list[str]:
        """Make a task of each, which outlives this process."""
        give = package(self._name, "distributed", "dask").fire_and_forget
        if self._bounds is not None and self._own is None:
            spool = Dispatched(dispatches[0].folder).spool
            self._own = ClusterFolder.of(spool, self._name, self._options)
        known_by = f" {self._own.folder}" if self._own is not None else ""
        with self._client(start=True) as client:
            handles = []
            for dispatch in dispatches:
                wanted = dispatch.resources
                future = client.submit(
                    carry_out_there,
                    str(dispatch.folder),
                    key=dispatch.name,
                    workers=_may_use(client, dispatch.hosts),
                    resources={wanted.accelerator: wanted.accelerators} if wanted.accelerators else None,
                    retries=0,
                    pure=False,
                )
                give(future)
                handles.append(f"{_scheduler(client)} {dispatch.name}{known_by}")
            while None in _states(client, [dispatch.name for dispatch in dispatches]).values():
                pass  # it is told by another way than it is asked
            return handles

    def look(self, handles: Sequence[str]) -> dict[str, Standing]:
        """Ask the scheduler for the state of each task."""
        known = self._known(handles)
        with suppress(_NoCluster), self._client() as client:
            here, states = _scheduler(client), _states(client, [key for _, key in known.values()])
            return {
                handle: _standing(client, key, states[key], scheduler == here)
                for handle, (scheduler, key) in known.items()
            }
        return {}

    def _known(self, handles: Sequence[str]) -> dict[str, tuple[str, str]]:
        """Return the scheduler and the key of each task; of one that another process submitted it takes its cluster."""
        known = {}
        for handle in handles:
            scheduler, key, *folder = handle.split(" ", 2)
            known[handle] = scheduler, key
            if folder and self._own is None and self._bounds is not None:
                self._own = ClusterFolder(Path(folder[0]))
        return known

    def hosts_to_try(self) -> list[str]:
        """Return the hosts of its workers; none of its own cluster, whose workers come once there is work."""
        if self._bounds is not None:
            return []
        with self._client() as client:
            return sorted(set(client.run(host_name).values()))

    def end(self, handles: Sequence[str]) -> None:
        """Cancel tasks that wait; one that runs hears by itself, and is not forgotten before it has ended."""
        known = self._known(handles)
        with suppress(_NoCluster), self._client() as client:
            states = _states(client, [key for _, key in known.values()])
            waiting = [_future(client, key) for key, state in states.items() if state in _WAITING]
            if waiting:
                client.cancel(waiting, force=True)

    def find(self, names: Sequence[str]) -> Mapping[str, str]:
        """Find none: the scheduler takes a second task of a name for the first."""
        return {}

    def close(self) -> None:
        """Close the connection; a cluster of its own is found again for a while."""
        if self._opened is not None:
            self._opened.close()


class _NoCluster(EngineAway):
    """Its own cluster does not run."""


_WAITING: Final = ("released", "waiting", "no-worker", "queued")
_OF_THE_CLUSTER: Final = ("KilledWorker", "CancelledError", "FutureCancelledError")
"""Errors of Dask's own, which say nothing of what a worker could not do."""


def carry_out_there(folder: str) -> bool:
    """Carry out a dispatch: what a worker of Dask is given."""
    dispatched = Dispatched(Path(folder))
    with _watching(dispatched):
        return carry_out(dispatched)


@contextmanager
def _watching(dispatched: Dispatched) -> Iterator[None]:
    """Say of a dispatch that it is over where its worker ends before it: nobody else may be there to tell.

    A worker ends itself where it has lost its scheduler, as when the process of a slice dies that had a cluster of its
    own, or when it is told to by SIGTERM.
    """
    worker, done = import_module("distributed").get_worker(), threading.Event()

    def watch() -> None:
        while not done.wait(WATCH_SECONDS):
            if worker.status.name in _ENDING:
                said = (
                    f"worker {worker.name} of Dask on {host_name()} ended itself: it lost its scheduler, or was told to"
                )
                with suppress(OSError):
                    dispatched.end(Ending(at=utc_now(), fate=Fate.LOST, evidence=said))
                return

    watcher = threading.Thread(target=watch, name="nightmill-dask-watcher", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


_ENDING: Final = ("closing", "closed", "failed")


def _scheduler(client: Client) -> str:
    """Return the identity of the scheduler: another that has its address later is not taken for it."""
    return str(client.scheduler_info()["id"])


def _states(client: Client, keys: Sequence[str]) -> dict[str, str | None]:
    """Ask the scheduler for the states of tasks; None of one that it does not know."""
    return dict(client.sync(client.scheduler.get_task_status, keys=list(keys), callback_timeout=ANSWER_SECONDS))


def _future(client: Client, key: str) -> Any:
    return import_module("distributed").Future(key, client=client)


def _may_use(client: Client, hosts: Hosts) -> list[str] | None:
    """Return the addresses of workers that a dispatch may go to; None for any."""
    if hosts == Hosts():
        return None
    found: Mapping[str, str] = client.run(host_name)
    allowed = [address for address, host in found.items() if not hosts.bar(host)]
    if not allowed:
        there = ", ".join(sorted(set(found.values()))) or "none at all"
        raise EngineAway(f"none of its workers is where the jobs may run: they are on {there}")
    return allowed


def _standing(client: Client, key: str, state: str | None, is_same: bool) -> Standing:
    match state:
        case "processing":
            return Standing(state="running")
        case "memory":
            return Standing(state="ended")
        case "erred":
            error = _future(client, key).exception(timeout=ANSWER_SECONDS)
            evidence = f"Dask says {type(error).__name__}: {readable(str(error))}"
            unfit = type(error).__name__ not in _OF_THE_CLUSTER
            return Standing(state="ended", fate=Fate.LOST, evidence=evidence, unfit=unfit)
        case None if is_same:  # it knows each until that has ended
            evidence = "Dask's scheduler does not know the task any more"
            return Standing(state="ended", fate=Fate.LOST, evidence=evidence)
        case None:
            return Standing(state="unknown")
        case _:
            return Standing(state="waiting", evidence="Dask's scheduler has no worker free for it")
