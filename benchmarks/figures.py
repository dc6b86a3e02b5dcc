"""What a benchmark gives: a figure beside its floor, with all that is needed to judge it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final, TypeVar

import psutil
from pydantic import Field

from nightmill.model.base import Frozen

Value = TypeVar("Value")

RESULTS: Final = Path(__file__).parent / "results"
"""The last results that were kept, a file a benchmark: what the page in the documentation is made of."""


class Figure(Frozen):
    """A measured value beside the bare minimum that does the same work.

    Parameters
    ----------
    floor
        In the unit of the value.
    ratio
        How many times its floor the cost is: the value over the floor, or for a rate the floor over the value.
    spread
        The least and the greatest of the values that the median was taken of.
    """

    value: float
    floor: float
    ratio: float
    spread: tuple[float, float]


class Result(Figure):
    """What ``python -m benchmarks NAME --json`` prints.

    Parameters
    ----------
    compared
        What the value and the floor are of, in words.
    aim
        What the value is wanted to be, in words.
    size
        How much was measured, as ``2,000 files``.
    also
        The same measured otherwise, by what is different.
    extra
        Other quantities of the same run; their names end in their units.
    parts
        Where the CPU time goes, in milliseconds of what the unit is for, by what it is for.
    counts
        What was counted, for a check that the work was done.
    load_before
        How many processes wanted the machine's cores before (the load average of a minute).
    command
        That measures it again.
    """

    name: str
    unit: str
    compared: str
    aim: str
    size: str
    also: Mapping[str, Figure] = Field(default_factory=dict)
    extra: Mapping[str, float] = Field(default_factory=dict)
    parts: Mapping[str, float] = Field(default_factory=dict)
    counts: Mapping[str, int] = Field(default_factory=dict)
    machine: str
    load_before: float = 0.0
    measured_at: datetime
    command: str

    def keep(self, folder: Path = RESULTS) -> None:
        """Keep it for the documentation."""
        folder.mkdir(exist_ok=True)
        (folder / f"{self.name}.json").write_text(self.model_dump_json(indent=2) + "\n")


def kept(folder: Path = RESULTS) -> list[Result]:
    """Return the results that were kept, by their names."""
    return [Result.model_validate_json(path.read_text()) for path in sorted(folder.glob("*.json"))]


def figure(values: Sequence[float], floors: Sequence[float], *, rate: bool = False) -> Figure:
    """Make a figure of repeated measurements of a cost, or of a rate: medians, and the ratio of the medians."""
    value, floor = median(values), median(floors)
    ratio = floor / value if rate else value / floor
    return Figure(
        value=_rounded(value),
        floor=_rounded(floor),
        ratio=_rounded(ratio),
        spread=(_rounded(min(values)), _rounded(max(values))),
    )


def alternately(repeats: int, *measured: Callable[[], Value]) -> list[list[Value]]:
    """Measure several things in turns, so that what else the machine does hits all of them alike.

    Returns
    -------
    list of list
        The values of each.
    """
    rounds = [[measure() for measure in measured] for _ in range(repeats)]
    return [list(values) for values in zip(*rounds, strict=True)]


def in_processes(
    module: str,
    repeats: int,
    work: Callable[[int], Sequence[object]],
    floor: Sequence[object],
    *,
    done: Callable[[int], bool],
) -> tuple[Figure, int]:
    """Measure work and its floor, each time in a process of its own, whose memory is nothing else's.

    Parameters
    ----------
    module
        Of the benchmark: run as a program, it does one thing and calls :func:`tell`.
    work, floor
        What it is called with: for the work by the number of the repeat, from 1 on.
    done
        Whether the work was done, by what was counted.

    Returns
    -------
    Figure
        What the work took, seconds.
    int
        The peak of its memory, bytes.
    """
    values, floors, peaks = [], [], []
    for number in range(1, repeats + 1):
        told = _told_by(module, work(number))
        if not done(int(told["count"])):
            raise AssertionError(f"{module} {work(number)} counted {told['count']:.0f}: the work was not done")
        values.append(told["seconds"])
        peaks.append(int(told["peak_rss_bytes"]))
        floors.append(_told_by(module, floor)["seconds"])
    return figure(values, floors), max(peaks)


def _told_by(module: str, arguments: Sequence[object]) -> dict[str, float]:
    argv = [sys.executable, "-m", module, *map(str, arguments)]
    answer = subprocess.run(argv, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, check=True)
    told: dict[str, float] = json.loads(answer.stdout)
    return told


def tell(seconds: float, count: int) -> None:
    """Print for :func:`in_processes` what this process took, and what it counted."""
    print(json.dumps({"seconds": seconds, "peak_rss_bytes": peak_rss_bytes(), "count": count}))


def machine() -> str:
    """Say what this machine is, without naming it."""
    memory = round(psutil.virtual_memory().total / 2**30)
    python = platform.python_version()
    return f"{os.cpu_count()} cores, {memory} GiB, {platform.system()} {platform.machine()}, Python {python}"


def now() -> datetime:
    """Return the time, UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def peak_rss_bytes() -> int:
    """Return the peak of this process; that of getrusage may be the one of the process that started it."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def _rounded(value: float) -> float:
    """Keep three significant digits: more would be noise."""
    return float(f"{value:.3g}")
