"""What it costs to publish files in object storage and to fetch them; beside the bare client, and in a folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import file_digest, sha256
from itertools import count
from pathlib import Path
from shutil import copyfile
from typing import Final

import obstore

from benchmarks.figures import Figure, Result, alternately, figure, machine, now
from benchmarks.sites import working_folder
from nightmill.execution import at_once
from nightmill.execution.at_once import AT_ONCE
from nightmill.model.order import JobOrder
from nightmill.model.ports import Stager
from nightmill.model.states import AttemptState
from nightmill.model.store import Store
from stagers.local import LocalStager
from stagers.objects import ObjectStager
from tests.support.faults import proxy_of
from tests.support.orders import Bench, output, shell
from tests.support.seaweed import running_seaweed

FILES: Final = 200
REPEATS: Final = 5
SMALL_BYTES: Final = 20_000
LARGE_BYTES: Final = 1 << 20
"""Of one large file, for each small one."""
LATER_SECONDS: Final = 0.01
"""What a network may add to each answer."""

Cycle = Callable[[Path, str, Path], None]
"""Publishes a local file under a path, and fetches it to another."""


def measure(*, size: int = FILES, repeats: int = REPEATS) -> Result:
    """Measure on a server of this machine, in turns with the bare client."""
    with working_folder() as folder, running_seaweed() as server, proxy_of(server.port) as proxy:
        far = ObjectStager(Store(name="far", url=server.url("far")))
        (folder / "store").mkdir()
        near = LocalStager(Store(name="near", url=str(folder / "store")))
        small, large = folder / "small", folder / "large"
        small.write_bytes(os.urandom(SMALL_BYTES))
        large.write_bytes(os.urandom(LARGE_BYTES) * size)
        numbers = count(1)

        def timed(cycle: Cycle, source: Path, files: int, threads: int = 1) -> float:
            names = [f"n/{next(numbers)}" for _ in range(files)]
            start = time.perf_counter()
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(lambda name: cycle(source, name, folder / name.replace("/", "-")), names))
            return (time.perf_counter() - start) / files * 1000

        def beside(stager: Stager, bare: Cycle, source: Path, files: int, threads: int = 1) -> Figure:
            own = _of(stager)
            for cycle in (own, bare):
                timed(cycle, source, 1)
            return figure(
                *alternately(
                    repeats,
                    lambda: timed(own, source, files, threads),
                    lambda: timed(bare, source, files, threads),
                )
            )

        def by_job(name: str, url: str) -> Figure:
            bench, order_of = _bench(folder / name, url, small, of_job)

            def run(files_at_once: int) -> float:
                at_once.AT_ONCE = files_at_once  # type: ignore[misc]
                order = order_of(next(numbers))
                start = time.perf_counter()
                assert bench.run_one(order).state is AttemptState.PUBLISHED
                return (time.perf_counter() - start) / (2 * of_job) * 1000

            return figure(*alternately(repeats, lambda: run(AT_ONCE), lambda: run(1)))

        of_job = max(size // 8, 4)
        proxy.pause_seconds = LATER_SECONDS
        headline = beside(far, _bare(far), small, size)
        also = {
            f"{AT_ONCE} at a time": beside(far, _bare(far), small, size, AT_ONCE),
            f"one of {size} MiB": beside(far, _bare(far), large, 1),
            f"by a job, {of_job} inputs and outputs": by_job("job", server.url("job")),
            f"the same, each answer {LATER_SECONDS * 1000:.0f} ms later": by_job(
                "later", server.url("later", endpoint=proxy.endpoint)
            ),
            "in a folder": beside(near, _copied(folder), small, size),
            f"in a folder, one of {size} MiB": beside(near, _copied(folder), large, 1),
        }
    return Result(
        **headline.model_dump(),
        name="transfers",
        unit="ms per file",
        compared=(
            "a file of 20 kB uploaded to a server of S3, read again and hashed, given its name, and fetched; floor: the"
            " bare client writes it once under its name, reads and hashes it, and reads it into a file (in a folder:"
            " two copies, one of them hashed and made durable; by a job: itself, which moves one file at a time)"
        ),
        aim="at most 3 times the floor for a small file, and 1.5 times for a large one",
        size=f"{repeats} × {size} files",
        also=also,
        machine=machine(),
        measured_at=now(),
        command="python -m benchmarks transfers --json",
    )


def _bench(folder: Path, url: str, small: Path, files: int) -> tuple[Bench, Callable[[int], JobOrder]]:
    """Give a bench whose backbone is a bucket with some small files, and what makes orders that copy them."""
    folder.mkdir()
    bench = Bench(folder)
    store = bench.stores["backbone"] = Store(name="backbone", url=url, verify="checksum")
    stager = bench.stagers["backbone"] = ObjectStager(store)
    inputs = []
    for number in range(files):
        inputs.append(bench.put(f"{number}.txt", small.read_bytes(), role=f"in{number}", type="text"))
        stager.upload(small, inputs[-1].path, attempt="a01")
        stager.reveal(inputs[-1].path, attempt="a01")

    def order(number: int) -> JobOrder:
        names = [f"made{number}_{each}.txt" for each in range(files)]
        made = [output(f"out{each}", name) for each, name in enumerate(names)]
        copy = f"for each in $(seq 0 {files - 1}); do cp ../inputs/$each.txt made{number}_$each.txt; done"
        reads = tuple(file.name for file in inputs)
        return bench.order(shell("copy", copy, *made, inputs=reads), inputs=tuple(inputs), unit=f"exposure={number}")

    return bench, order


def _of(stager: Stager) -> Cycle:
    def cycle(source: Path, path: str, target: Path) -> None:
        stager.upload(source, path, attempt="a01")
        stager.uploaded(path, attempt="a01")
        stager.reveal(path, attempt="a01")
        stager.settle([path])
        stager.fetch(path, target)
        target.unlink()

    return cycle


def _bare(stager: ObjectStager) -> Cycle:
    client = stager.endpoint.client

    def chunks(path: str) -> Iterator[bytes]:
        yield from obstore.get(client, path).stream()

    def cycle(source: Path, path: str, target: Path) -> None:
        obstore.put(client, path, source)
        digest = sha256()
        for chunk in chunks(path):
            digest.update(chunk)
        with target.open("xb") as file:
            for chunk in chunks(path):
                file.write(chunk)
        target.unlink()

    return cycle


def _copied(folder: Path) -> Cycle:
    def cycle(source: Path, path: str, target: Path) -> None:
        stored = folder / f"stored-{path.replace('/', '-')}"
        copyfile(source, stored)
        with stored.open("rb") as file:
            os.fsync(file.fileno())
            file_digest(file, "sha256")
        copyfile(stored, target)
        target.unlink()

    return cycle
