"""What a trivial job costs on each engine; beside an empty job of the engine's own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import Any, Final

import dask
from distributed import Client, LocalCluster

from benchmarks.figures import Figure, Result, alternately, figure, machine, now
from benchmarks.sites import working_folder
from nightmill.engines.dask import Dask
from nightmill.engines.dask_clusters import DaskOptions
from nightmill.engines.processes import Processes, ProcessOptions
from nightmill.engines.slurm import Slurm, SlurmOptions
from nightmill.engines.threads import ThreadsEngine
from nightmill.execution.stores import open_stagers
from nightmill.execution.worker import Worker
from nightmill.model.carrier import Carrier
from nightmill.model.order import JobOrder
from nightmill.testing.engines import Ground, engine
from tests.support.slurm import Slurm as SlurmCluster
from tests.support.slurm import SlurmUnavailable, running_slurm

JOBS: Final = 100
"""Jobs of one measurement; a fifth of these on Slurm, which starts few a second."""
REPEATS: Final = 3
CHUNK: Final = 50
PLACES: Final = 2
"""Jobs, or chunks of them, that run at a time."""

Timed = Callable[[], float]
"""Carries out jobs, and returns the milliseconds that each took."""


def measure(*, size: int = JOBS, repeats: int = REPEATS) -> Result:
    """Measure each engine that can be had, in turns with its own empty jobs; processes are the headline."""
    numbers, few = count(1), max(1, size // 5)
    with working_folder() as folder, _dask() as address, _slurm() as slurm:
        (folder / "store").mkdir()
        ground = Ground(folder)

        def orders(jobs: int) -> list[JobOrder]:
            return [ground.order(next(numbers)) for _ in range(jobs)]

        def beside(carrier: Callable[[], Carrier] | None, empty: Timed, jobs: int, chunk: int) -> Figure:
            timed = _threads if carrier is None else _carried(carrier)
            timed(ground, orders(PLACES), 1)  # what is imported once is not measured
            return figure(*alternately(repeats, lambda: timed(ground, orders(jobs), chunk), empty))

        kinds: dict[str, tuple[Callable[[], Carrier] | None, Timed, int]] = {
            "processes": (
                lambda: Processes("processes", ProcessOptions(workers=PLACES)),
                lambda: _in_threads(_empty_process, size),
                size,
            ),
            "threads": (None, lambda: _in_threads(lambda: None, size), size),
            "dask": (
                lambda: Dask("dask", DaskOptions(address=address)),
                lambda: _empty_tasks(address, size),
                size,
            ),
        }
        if slurm is not None:
            options = SlurmOptions(places=PLACES, look_seconds=0.25, export=("SLURM_CONF",))
            kinds["slurm"] = (lambda: Slurm("slurm", options), lambda: _empty_array(slurm, few), few)
        found = {
            f"{name}, {how}": beside(carrier, empty, jobs, chunk)
            for name, (carrier, empty, jobs) in kinds.items()
            for how, chunk in (("one a dispatch", 1), (f"in chunks of {CHUNK}", CHUNK))
        }
    headline = found.pop("processes, one a dispatch")
    return Result(
        **headline.model_dump(),
        name="engines",
        unit="ms per job",
        compared=(
            f"a trivial job (a shell writes a file, which is published), {PLACES} at a time, without the database, on"
            " processes, each with a dispatch to itself; floor: an empty job of the engine's own: a Python that ends at"
            " once; for threads an empty call, for Dask an empty task, for Slurm an element of an array of `true`"
        ),
        aim="in chunks at most what a job of threads and an empty job of the engine cost together",
        size=f"{repeats} × {size} jobs ({few} on Slurm)",
        also=found,
        counts={"jobs": next(numbers) - 1},
        machine=machine(),
        measured_at=now(),
        command="python -m benchmarks engines --json",
    )


def _carried(carrier: Callable[[], Carrier]) -> Callable[[Ground, list[JobOrder], int], float]:
    def timed(ground: Ground, orders: list[JobOrder], chunk: int) -> float:
        with ground.remote(carrier()) as (remote, worker):
            start = time.perf_counter()
            reports = list(engine(remote, worker, chunk).run(orders))
            return _milliseconds(start, len(reports))

    return timed


def _threads(ground: Ground, orders: list[JobOrder], chunk: int) -> float:
    with Worker(ground.profile, open_stagers({"backbone": ground.store}, {})) as worker:
        of_process = ThreadsEngine(
            lambda some: list(worker.run(some)),
            threads=PLACES,
            chunk_size=lambda: chunk,
            interrupt=lambda error: worker.stop(str(error)),
        )
        start = time.perf_counter()
        reports = list(of_process.run(orders))
        return _milliseconds(start, len(reports))


def _in_threads(job: Callable[[], None], jobs: int) -> float:
    start = time.perf_counter()
    with ThreadPoolExecutor(PLACES) as pool:
        for done in [pool.submit(job) for _ in range(jobs)]:
            done.result()
    return _milliseconds(start, jobs)


def _empty_process() -> None:
    subprocess.run([sys.executable, "-P", "-c", ""], check=True)


def _empty_tasks(address: str, jobs: int) -> float:
    client: Any = Client  # which has no types
    with client(address, set_as_default=False) as opened:
        start = time.perf_counter()
        opened.gather([opened.submit(os.getpid, pure=False) for _ in range(jobs)])
        return _milliseconds(start, jobs)


def _empty_array(slurm: SlurmCluster, jobs: int) -> float:
    start = time.perf_counter()
    array = f"--array=0-{jobs - 1}%{PLACES}"
    job = slurm.call("sbatch", "--parsable", array, "--output=/dev/null", "--wrap=true").strip()
    while slurm.call("squeue", "--noheader", f"--jobs={job}", "--states=PENDING,RUNNING,COMPLETING"):
        time.sleep(0.25)
    return _milliseconds(start, jobs)


def _milliseconds(start: float, jobs: int) -> float:
    return (time.perf_counter() - start) / jobs * 1000


@contextmanager
def _dask() -> Iterator[str]:
    local: Any = LocalCluster
    settings: Mapping[str, Any] = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.scheduler.worker-saturation": 1.0,
    }
    with (
        dask.config.set(settings),
        local(n_workers=PLACES, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=0) as cluster,
    ):
        yield cluster.scheduler_address


@contextmanager
def _slurm() -> Iterator[SlurmCluster | None]:
    """Start a Slurm of its own; None where it cannot be had here."""
    try:
        with running_slurm() as cluster:
            for name in ("PATH", "SLURM_CONF"):
                os.environ[name] = cluster.environment[name]
            yield cluster
    except SlurmUnavailable as unavailable:
        print(f"without Slurm: {unavailable}", file=sys.stderr)
        yield None
