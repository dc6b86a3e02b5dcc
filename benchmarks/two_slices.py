"""What a second slice brings on a second core: a campaign of trivial jobs in two processes, and in one."""

from __future__ import annotations

from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks.figures import Figure, Result, alternately, figure, machine, now
from benchmarks.job_overhead import CONTENT
from benchmarks.processes import Ran, bare_together, slice_in_parts, slices_together
from benchmarks.sites import COPY_STAGE, WHO, databases, new_site, register_raw, working_folder, write_campaign
from nightmill.config.campaign import load_campaign
from nightmill.operations.site import Site
from nightmill.operations.submit import submit
from nightmill.operations.turns import take_turn

JOBS: Final = 500
"""Jobs of one measurement, in however many slices."""
REPEATS: Final = 3
PROCESSES: Final = 2


def measure(*, size: int = JOBS, repeats: int = REPEATS) -> Result:
    """Measure on each database that can be had; SQLite is the headline."""
    also: dict[str, Figure] = {}
    extra: dict[str, float] = {}
    with working_folder() as folder, databases() as urls:
        for database, url in urls.items():
            of_both, shares = _measure(folder / database, url, jobs=size - size % PROCESSES, repeats=repeats)
            also |= {f"{database}, {slices}": found for slices, found in of_both.items()}
            extra |= {f"{name} ({database})": value for name, value in shares.items()}
        parts = _parts(folder / "parts", size)
    headline = also.pop("SQLite, two slices")
    return Result(
        **headline.model_dump(),
        name="two_slices",
        unit="ms per job",
        compared=(
            "trivial jobs in two slices, each in a process of its own and one job at a time, from the first issue to"
            " the last row, SQLite; floor: the bare loop of job_overhead in as many processes, which share a database"
        ),
        aim="at most 1.6 times the floor, and 0.55 of the time of one slice",
        size=f"{repeats} × {size:,} jobs",
        also=also,
        extra=extra,
        parts=parts,
        counts={"jobs": size - size % PROCESSES, "processes": PROCESSES},
        machine=machine(),
        measured_at=now(),
        command="python -m benchmarks two_slices --json",
    )


def _measure(folder: Path, database: str, *, jobs: int, repeats: int) -> tuple[dict[str, Figure], dict[str, float]]:
    """Return the wall time of a job, by how many slices there are, and what there is to say of it beside that."""
    numbers = count(1)
    with new_site(folder / "site", database) as site:
        register_raw(site, jobs, content=CONTENT)

        def slices(processes: int) -> Ran:
            name = f"measured-{next(numbers)}"
            return slices_together(site, name, _submitted(site, folder, name, jobs // processes))

        def bare(processes: int) -> Ran:
            number = next(numbers)
            own = folder / f"bare-{number}"
            return bare_together(own, site, jobs, processes, database=database, first=number * jobs + 1)

        rounds = [partial(slices, 1), partial(slices, PROCESSES), partial(bare, 1), partial(bare, PROCESSES)]
        one, two, bare_one, bare_two = alternately(repeats, *rounds)
    figures = {"one slice": _figure(one, bare_one, jobs), "two slices": _figure(two, bare_two, jobs)}
    return figures, {
        "two_over_one_wall": _ratio([ran.wall_seconds for ran in two], [ran.wall_seconds for ran in one]),
        "two_over_one_cpu": _ratio(_cpu(two), _cpu(one)),
        "cpu_milliseconds_per_job": _each(_cpu(two), jobs),
        "cpu_milliseconds_per_job, floor": _each(_cpu(bare_two), jobs),
    }


def _parts(folder: Path, jobs: int) -> dict[str, float]:
    """Return where the CPU time of a job goes, milliseconds."""
    with new_site(folder / "site") as site:
        register_raw(site, jobs, content=CONTENT)
        [number, *_] = _submitted(site, folder, "parts", jobs)
        spent = slice_in_parts(site, "parts", number).cpu_seconds
    return {part: round(seconds / jobs * 1000, 3) for part, seconds in spent.items()}


def _submitted(site: Site, folder: Path, name: str, jobs_per_slice: int) -> tuple[int, ...]:
    """Submit a campaign of every raw file, and return the numbers of its slices."""
    path = write_campaign(folder, name, COPY_STAGE, {"jobs_per_slice": jobs_per_slice})
    submit(site, load_campaign(path), who=WHO)
    return take_turn(site, name, "copy").slices


def _figure(slices: list[Ran], bare: list[Ran], jobs: int) -> Figure:
    return figure(*([ran.wall_seconds / jobs * 1000 for ran in each] for each in (slices, bare)))


def _cpu(runs: list[Ran]) -> list[float]:
    return [sum(ran.cpu_seconds.values()) for ran in runs]


def _ratio(values: list[float], others: list[float]) -> float:
    return round(median(values) / median(others), 3)


def _each(seconds: list[float], jobs: int) -> float:
    return round(median(seconds) / jobs * 1000, 2)
