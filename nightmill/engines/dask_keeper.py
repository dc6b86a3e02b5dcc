"""Keeps a cluster of Dask as long as it is used: a process of its own, which an engine starts."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import ceil
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from distributed import Adaptive, Status

from nightmill.engines.commands import INHERITED
from nightmill.engines.dask_clusters import OPTIONS, ClusterFolder, DaskOptions, Told, Workers, package
from nightmill.engines.slurm import slurm_commands
from nightmill.errors import EngineAway, NightmillError, RequestRefused
from nightmill.execution.owner import this_process

Cluster = Any
"""Of ``distributed``, most of whose functions have no types."""
JOB_NAME: Final = "nightmill-dask"
LOOK_SECONDS: Final = 1.0
"""How often it is seen who uses the cluster, and how many workers are needed."""
HEAL_SECONDS: Final = 5.0
"""How often it is seen whether workers are missing."""
_NEVER_AGAIN: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "distributed.scheduler.allowed-failures": 0,  # what a dead worker had is not given to another
        "distributed.scheduler.worker-saturation": 1.0,  # nothing waits in a worker, to be lost with it
    }
)
_UNSEEN: Final[Mapping[str, Any]] = MappingProxyType({"dashboard": False, "dashboard_address": "127.0.0.1:0"})
_UNDER_WAY: Final = frozenset({"waiting", "no-worker", "queued", "processing"})
_NOBODY: Final = "fire-and-forget"
"""The client of Dask's own that has the tasks which outlive theirs."""


class _Careful(Adaptive):
    """Ends workers that are idle; Dask's own would also end one that was just given something, or has just arrived."""

    async def scale_down(self, workers: Any) -> None:
        """End those of some that are there and idle now, and give them nothing from now on."""
        own: Cluster = self.cluster
        scheduler, named, idle = own.scheduler, {str(name): name for name in workers}, set()
        for worker in scheduler.workers.values():
            if str(worker.name) in named and not worker.processing:
                scheduler.handle_worker_status_change(Status.closing_gracefully, worker, "nightmill-idle")
                idle.add(named[str(worker.name)])
        await super().scale_down(idle)


class Kept:
    """A cluster of this process: as many workers as are needed, and others for those that die.

    Nobody is let in but who reads its folder.

    Parameters
    ----------
    name
        Of the engine.
    folder
        Where it is known by.

    Raises
    ------
    RequestRefused
        Where the batch system does not take its workers.
    """

    def __init__(self, name: str, options: DaskOptions, bounds: Workers, folder: ClusterFolder) -> None:
        self._name, self._options, self._folder = name, options, folder
        self._heal_at = 0.0
        self._commands = slurm_commands(name, "queue, account and options")
        self._distributed = package(name, "distributed", "dask")
        security = folder.make_security(name)
        with package(name, "dask", "dask").config.set(_NEVER_AGAIN):
            self.cluster: Cluster = (
                self._local(bounds, security) if options.cluster == "local" else self._batch(security)
            )
        self.cluster.adapt(
            Adaptive=_Careful,
            minimum=bounds.least,
            maximum=bounds.most,
            interval=f"{LOOK_SECONDS:g}s",
            wait_count=ceil(options.keep_seconds / LOOK_SECONDS),
            target_duration="10ms",  # less than any takes: a worker for each dispatch
        )

    def _local(self, bounds: Workers, security: Any) -> Cluster:
        return self._distributed.LocalCluster(
            n_workers=bounds.least,
            threads_per_worker=1,
            memory_limit=0,
            scheduler_kwargs=_UNSEEN,
            security=security,
        )

    def _batch(self, security: Any) -> Cluster:
        jobqueue, options = package(self._name, "dask_jobqueue", "dask-jobqueue"), self._options
        kind, more = (
            (jobqueue.SLURMCluster, self._for_slurm())
            if options.cluster == "slurm"
            else (jobqueue.HTCondorCluster, self._for_htcondor())
        )
        cluster = kind(
            cores=1,  # as Dask counts: dispatches at a time
            processes=1,
            memory=f"{options.memory_bytes}B",
            interface=options.interface or None,
            python=options.python or None,
            job_name=JOB_NAME,
            security=security,
            scheduler_options=_UNSEEN,
            worker_extra_args=["--memory-limit", "0", "--no-dashboard"],
            **more,
        )
        if options.cluster == "slurm":
            try:
                self._commands.call("sbatch", "--test-only", script=cluster.job_script())
            except BaseException:
                cluster.close()
                raise
        return cluster

    def _for_slurm(self) -> dict[str, Any]:
        options = self._options
        told = ["--no-requeue", "--output=/dev/null", f"--export={','.join(INHERITED)}", *options.options]
        return {
            "queue": options.queue or None,
            "account": options.account or None,
            "job_cpu": options.cores,
            "walltime": str(ceil(options.wall_seconds / 60)),
            "job_extra_directives": told,
        }

    def _for_htcondor(self) -> dict[str, Any]:
        options = self._options
        told = dict(line.partition("=")[::2] for line in options.options)
        account = {"accounting_group": options.account} if options.account else {}
        wanted = {"request_cpus": options.cores, "getenv": ",".join(INHERITED)}
        return {"disk": "1GB", "job_extra_directives": {**wanted, **account, **told}}

    def heal(self) -> None:
        """Have others submitted for workers whose jobs the batch system does not know any more."""
        if self._options.cluster != "slurm" or time.monotonic() < self._heal_at:
            return
        self._heal_at = time.monotonic() + HEAL_SECONDS
        known = {name: job.job_id for name, job in list(self.cluster.workers.items())}  # none where sbatch failed
        with suppress(EngineAway, RequestRefused):
            jobs = self._commands.call("squeue", "--me", f"--name={JOB_NAME}", "--noheader", "--format=%A").split()
            gone = [name for name, job in known.items() if job not in jobs]
            if gone:
                self.cluster.sync(self._replace, gone)

    async def _replace(self, gone: Sequence[object]) -> None:
        """Forget workers whose jobs are gone, and have as many new ones; run by the cluster's own loop."""
        there, wanted = {str(each.name) for each in self.cluster.scheduler.workers.values()}, 0
        for name in gone:
            if str(name) not in there and self.cluster.workers.pop(name, None) is not None:
                wanted += self.cluster.worker_spec.pop(name, None) is not None
        if wanted:
            self.cluster.scale(len(self.cluster.worker_spec) + wanted)

    def close(self) -> None:
        """End it with its workers."""
        self.cluster.close()

    def is_used(self) -> bool:
        """Whether anybody is connected, or anything under way."""
        return bool(self.cluster.sync(self._used))

    async def _used(self) -> bool:
        scheduler = self.cluster.scheduler
        return bool(scheduler.clients.keys() - {_NOBODY}) or any(
            task.state in _UNDER_WAY for task in scheduler.tasks.values()
        )


def keep(kept: Kept, folder: ClusterFolder, seconds: float) -> None:
    """Keep a cluster whole until nobody has used it for a while, or its folder is gone; nobody finds it any more."""
    used_at = time.monotonic()
    while folder.folder.is_dir():
        time.sleep(LOOK_SECONDS)
        kept.heal()
        if kept.is_used():
            used_at = time.monotonic()
        elif time.monotonic() - used_at > seconds:
            with folder.locked():
                if not kept.is_used():
                    folder.forget()
                    return


def main(arguments: Sequence[str] | None = None) -> int:
    """Keep the cluster of an engine, by the folder where it is known; its options stand there."""
    name, where = arguments if arguments is not None else sys.argv[1:]
    folder, own = ClusterFolder(Path(where)), this_process()
    options = DaskOptions.model_validate_json((folder.folder / OPTIONS).read_text())
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    assert options.bounds is not None
    try:
        kept = Kept(name, options, options.bounds, folder)
    except NightmillError as error:
        folder.tell(Told(owner=own, refused=error.message, remedy=error.remedy))
        return error.exit_code
    try:
        folder.tell(Told(owner=own, address=kept.cluster.scheduler_address))
        keep(kept, folder, options.keep_seconds)
    finally:
        kept.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
