"""Slices, and bare loops, in several processes that begin together."""

from __future__ import annotations

import gc
import json
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.job_overhead import BareLoop, cpu_seconds, run_slice
from benchmarks.parts import spent_by_part
from benchmarks.sites import raw_names, store_folder
from nightmill.operations.site import Site, open_site

REPOSITORY: Final = Path(__file__).parents[1]


@dataclass(frozen=True)
class Ran:
    """What processes took that began together."""

    wall_seconds: float
    """Until the last had done its work; what they took to start is not in it."""
    cpu_seconds: Mapping[str, float]
    """Of all of them and of the processes that they waited for, by what it was for, as far as that was measured."""


def slices_together(site: Site, campaign: str, numbers: Sequence[int]) -> Ran:
    """Carry out slices of a campaign, each in a process of its own."""
    return _together([["slice", str(site.config.directory), campaign, str(number)] for number in numbers])


def slice_in_parts(site: Site, campaign: str, number: int) -> Ran:
    """Carry out a slice in a process of its own, and measure what each part of it takes."""
    return _together([["parts", str(site.config.directory), campaign, str(number)]])


def bare_together(folder: Path, site: Site, count: int, processes: int, *, database: str = "", first: int = 1) -> Ran:
    """Do so many trivial jobs in bare loops, which share a database.

    Parameters
    ----------
    folder
        For what they make; new.
    site
        Whose raw files they read.
    database
        URL; by default an SQLite file in the folder.
    first
        Number of the first job, where the database has others.
    """
    folder.mkdir(parents=True)
    database = database or f"sqlite:///{folder / 'bare.db'}"
    BareLoop(folder / "tables", database).close()
    share, raw = count // processes, str(store_folder(site) / "raw")
    return _together(
        [
            ["bare", str(folder / str(number)), database, raw, str(number * share), str(share), str(first)]
            for number in range(processes)
        ]
    )


def _together(tasks: Sequence[Sequence[str]]) -> Ran:
    argv = [sys.executable, "-m", "benchmarks.processes"]
    with ExitStack() as until:
        running = [
            until.enter_context(
                subprocess.Popen([*argv, *task], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
            for task in tasks
        ]
        for process in running:
            _said(process)  # it is ready
        start = time.perf_counter()
        for process in running:
            assert process.stdin is not None
            process.stdin.close()
        used: Counter[str] = Counter()
        for process in running:
            used.update(json.loads(_said(process)))
        return Ran(time.perf_counter() - start, used)


def _said(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    if not (line := process.stdout.readline()):
        raise AssertionError("a process ended before its work was done")
    return line


def main(what: str, *arguments: str) -> None:
    """Do a share of the work once stdin ends, and print the CPU seconds that it took, by what they were for."""
    gc.freeze()  # as the runner of slices does
    if what == "bare":
        own, database, raw, before, share, first = arguments
        names = raw_names(int(before) + int(share))[int(before) :]
        with closing(BareLoop(Path(own), database, first=int(first) + int(before))) as bare:
            _tell(lambda: _whole(lambda: bare.run([Path(raw) / name for name in names])))
        return
    folder, campaign, number = arguments
    measured = _in_parts if what == "parts" else _whole
    with open_site(Path(folder)) as site:
        _tell(lambda: measured(lambda: run_slice(site, campaign, int(number))))


def _tell(measured: Callable[[], Mapping[str, float]]) -> None:
    print("ready", flush=True)
    sys.stdin.read()
    print(json.dumps(measured()), flush=True)


def _whole(work: Callable[[], object]) -> Mapping[str, float]:
    before = cpu_seconds()
    work()
    return {"whole": cpu_seconds() - before}


def _in_parts(work: Callable[[], object]) -> Mapping[str, float]:
    before, steps_before = cpu_seconds(), cpu_seconds(resource.RUSAGE_CHILDREN)
    with spent_by_part() as spent:
        work()
    whole, steps = cpu_seconds() - before, cpu_seconds(resource.RUSAGE_CHILDREN) - steps_before
    return {"the steps themselves": steps, **spent, "the rest": whole - steps - sum(spent.values())}


if __name__ == "__main__":
    main(*sys.argv[1:])
