"""Dask: a dispatch is a task of a scheduler of ``distributed``, in whose workers it is carried out."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Self

from pydantic import Field, model_validator

from nightmill.errors import BadPlugin, EngineAway
from nightmill.execution.dispatches import Dispatched
from nightmill.execution.evidence import readable
from nightmill.execution.owner import host_name
from nightmill.execution.worker import carry_out
from nightmill.model.base import Frozen
from nightmill.model.campaign import Hosts
from nightmill.model.dispatch import Dispatch, Standing
from nightmill.model.fate import Fate

Client = Any
"""Of ``distributed``, most of whose functions have no types."""
CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 10.0
_NEVER_AGAIN: Final[Mapping[str, Any]] = {
    "distributed.scheduler.allowed-failures": 0,  # what a dead worker had is not given to another
    "distributed.scheduler.worker-saturation": 1.0,  # nothing waits in a worker, to be lost with it
}


class DaskOptions(Frozen):
    """Which scheduler: one that runs already, or one of the slice's own."""

    address: str = ""
    """Of a scheduler that runs: ``tcp://head:8786``."""
    workers: int = Field(default=0, ge=0)
    """Instead, how many worker processes a scheduler of the slice's own has on its host; they end with the slice."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if bool(self.address) == bool(self.workers):
            raise ValueError("it has an address or a number of workers, one of the two")
        return self


class Dask:
    """``dask``: each dispatch is carried out by a worker of a Dask cluster, in the worker's own process.

    The workers have nightmill installed, and see the spool and the stores by the paths and URLs of the site. How many
    dispatches a worker carries out at a time is the number of its threads. Dask tries nothing again: where a cluster is
    set up to give the tasks of a dead worker to another, that one finds them begun, and does nothing.
    """

    Options: Final = DaskOptions
    look_seconds: Final = 0.5

    def __init__(self, name: str, options: DaskOptions) -> None:
        self._name, self._options = name, options
        self._opening = threading.Lock()
        self._cluster: Any = None
        self._opened: Client | None = None

    @contextmanager
    def _client(self) -> Iterator[Client]:
        """Give the connection, made anew where there is none."""
        try:
            with self._opening:
                if self._opened is None or self._opened.status != "running":
                    self._opened = self._open()
            yield self._opened
        except (OSError, TimeoutError) as error:  # what a connection that fails raises
            where = self._options.address or "its own cluster"
            why = readable(str(error)) or type(error).__name__
            raise EngineAway(f"Dask at {where}: {why}", remedy="see whether its scheduler runs") from error

    def _open(self) -> Client:
        distributed, dask = self._package("distributed"), self._package("dask")
        if self._options.workers and self._cluster is None:
            with dask.config.set(_NEVER_AGAIN):
                self._cluster = distributed.LocalCluster(
                    n_workers=self._options.workers, threads_per_worker=1, dashboard_address=None, memory_limit=0
                )
        return distributed.Client(self._cluster or self._options.address, timeout=CONNECT_SECONDS, set_as_default=False)

    def _package(self, name: str) -> Any:
        """Import a package, whose functions have no types."""
        try:
            return import_module(name)
        except ImportError as error:
            what = f"engine {self._name!r} needs the package {name}: {error}"
            raise BadPlugin(what, remedy="install nightmill[dask]") from error

    @property
    def places(self) -> int:
        """The threads of all workers."""
        with self._client() as client:
            return sum(client.nthreads().values())

    def submit(self, dispatches: Sequence[Dispatch]) -> list[str]:
        """Make a task of each, which outlives this process."""
        give = self._package("distributed").fire_and_forget
        with self._client() as client:
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
                handles.append(f"{_scheduler(client)} {dispatch.name}")
            while None in _states(client, [dispatch.name for dispatch in dispatches]).values():
                pass  # it is told by another way than it is asked
            return handles

    def look(self, handles: Sequence[str]) -> dict[str, Standing]:
        """Ask the scheduler for the state of each task."""
        with self._client() as client:
            here = _scheduler(client)
            known = dict(handle.split(" ", 1)[::-1] for handle in handles)
            states = _states(client, list(known))
            return {
                f"{scheduler} {key}": _standing(client, key, states[key], scheduler == here)
                for key, scheduler in known.items()
            }

    def hosts_to_try(self) -> list[str]:
        """Return the hosts of its workers."""
        with self._client() as client:
            return sorted(set(client.run(host_name).values()))

    def end(self, handles: Sequence[str]) -> None:
        """Cancel tasks that wait; one that runs hears by itself, and is not forgotten before it has ended."""
        with self._client() as client:
            states = _states(client, [handle.split(" ", 1)[1] for handle in handles])
            waiting = [_future(client, key) for key, state in states.items() if state in _WAITING]
            if waiting:
                client.cancel(waiting, force=True)

    def find(self, names: Sequence[str]) -> Mapping[str, str]:
        """Return the tasks that the scheduler knows."""
        with self._client() as client:
            here = _scheduler(client)
            return {name: f"{here} {name}" for name, state in _states(client, names).items() if state is not None}

    def close(self) -> None:
        """Close the connection, and the cluster where that is of this process."""
        if self._opened is not None:
            self._opened.close()
        if self._cluster is not None:
            self._cluster.close()


_WAITING: Final = ("released", "waiting", "no-worker", "queued")
_OF_THE_CLUSTER: Final = ("KilledWorker", "CancelledError", "FutureCancelledError")
"""Errors of Dask's own, which say nothing of what a worker could not do."""


def carry_out_there(folder: str) -> bool:
    """Carry out a dispatch: what a worker of Dask is given."""
    return carry_out(Dispatched(Path(folder)))


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
