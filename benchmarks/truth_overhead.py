"""What it costs to hold a step to what it was given and to know what it used; beside the same jobs without it."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.figures import Result, alternately, figure, machine, now
from benchmarks.job_overhead import CONTENT, cpu_seconds, run_slice
from benchmarks.sites import COPY_STAGE, WHO, new_site, register_raw, working_folder, write_campaign
from nightmill.config.campaign import load_campaign
from nightmill.operations.site import Site
from nightmill.operations.submit import submit
from nightmill.operations.turns import take_turn

JOBS: Final = 120
"""Jobs of one measurement: few, so that what else the machine does hits what is compared alike."""
REPEATS: Final = 7
_CAMPAIGN: Final = "truth"
_STRACE: Final = ("strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=%file", "-o", "trace")

EVERYTHING_ON: Final[Mapping[str, object]] = {"logs": {"files": True}}
EVERYTHING_OFF: Final[Mapping[str, object]] = {"confinement": {"use": "off"}}
"""Keys of a site; where everything is off, nothing is signed, either."""


@dataclass
class _Way:
    """A site whose jobs are carried out in one way, and its slices."""

    site: Site
    slices: Iterator[int]

    def run(self, jobs: int) -> tuple[float, float]:
        """Carry out a slice; return the milliseconds that a job took, and those of CPU time."""
        before = cpu_seconds()
        wall = run_slice(self.site, _CAMPAIGN, next(self.slices))
        return wall / jobs * 1000, (cpu_seconds() - before) / jobs * 1000


def measure(*, size: int = JOBS, repeats: int = REPEATS) -> Result:
    """Measure on SQLite, in turns."""
    with working_folder() as folder, ExitStack() as sites:

        def way(name: str, settings: Mapping[str, object], **execution: str) -> _Way:
            site = sites.enter_context(new_site(folder / name / "site", settings=settings))
            if settings is EVERYTHING_OFF:
                site.signing_key.unlink()
            register_raw(site, size * (repeats + 1), content=CONTENT)  # the first slice warms up
            path = write_campaign(folder / name, _CAMPAIGN, COPY_STAGE, {"jobs_per_slice": size, **execution})
            submit(site, load_campaign(path), who=WHO)
            made = _Way(site, iter(take_turn(site, _CAMPAIGN, "copy").slices))
            made.run(size)
            return made

        on, off = way("on", EVERYTHING_ON), way("off", EVERYTHING_OFF)
        audit = way("audit", EVERYTHING_ON, level="audit") if shutil.which("strace") else None
        spawns = _spawns(folder / "bare")
        held, free, known, bare, traced = alternately(
            repeats,
            lambda: on.run(size),
            lambda: off.run(size),
            lambda: audit.run(size) if audit is not None else (0.0, 0.0),
            lambda: (_spawned((), spawns, size), 0.0),
            lambda: (_spawned(_STRACE, spawns, size) if shutil.which("strace") else 0.0, 0.0),
        )
    wall, cpu = (figure([each[index] for each in held], [each[index] for each in free]) for index in range(2))
    strace = figure([each for each, _ in traced], [each for each, _ in bare])
    return Result(
        **wall.model_dump(),
        name="truth_overhead",
        unit="ms per job",
        compared=(
            "a trivial job in chunks, one at a time, from its issue to its last row, with its step confined and"
            " watched, its lines kept as JSON and its statement signed, SQLite; floor: the same jobs with all that"
            " switched off"
        ),
        aim="at most 1.5 times the floor and 8 ms",
        size=f"{repeats} × {size} jobs",
        also={
            "CPU time, of all processes": cpu,
            **(
                {"at the level audit": figure([each for each, _ in known], [each for each, _ in free])} if audit else {}
            ),
            **({"strace around its step alone, beside the bare step": strace} if audit else {}),
        },
        extra={
            "milliseconds_on_top_of_the_floor": round(wall.value - wall.floor, 2),
            "milliseconds_strace_on_top_of_a_spawn": round(strace.value - strace.floor, 2),
        },
        counts={"jobs": size * repeats},
        machine=machine(),
        measured_at=now(),
        command="python -m benchmarks truth_overhead --json",
    )


def _spawns(folder: Path) -> Path:
    """Make a folder with what the bare step copies."""
    folder.mkdir()
    (folder / "input").write_bytes(CONTENT)
    return folder


def _spawned(around: tuple[str, ...], folder: Path, size: int) -> float:
    """Return the milliseconds that the program of the step takes for itself."""
    start = time.perf_counter()
    for _ in range(size):
        subprocess.run([*around, "cp", "input", "output"], cwd=folder, check=True)
    return (time.perf_counter() - start) / size * 1000
