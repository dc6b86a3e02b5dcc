"""What a campaign of a million jobs costs to be planned and sealed: memory above all, and whether time is linear."""

from __future__ import annotations

from typing import Final

from benchmarks.figures import Result, machine, now
from benchmarks.plan_100k import measured_on
from benchmarks.sites import working_folder

JOBS: Final = 1_000_000


def measure(*, size: int = JOBS, repeats: int = 1) -> Result:
    """Measure on SQLite, beside a tenth of the jobs; each in processes of their own."""
    with working_folder() as folder:
        tenth, _ = measured_on(folder / "tenth", "", max(size // 10, 1), repeats)
        whole, peak_bytes = measured_on(folder / "whole", "", size, repeats)
    return Result(
        **whole.model_dump(),
        name="plan_1m",
        unit="s",
        compared=(
            "a campaign submitted, SQLite: jobs planned and sealed, as in plan_100k; floor: the same files selected,"
            " grouped in memory, and the same rows inserted in bulk into a table without constraints"
        ),
        aim="at most 1,500 MB, and a time that grows as the number of jobs",
        size=f"{repeats} × {size:,} jobs",
        extra={
            "peak_rss_megabytes": round(peak_bytes / 1e6),
            "times_the_time_a_job_of_a_tenth": round(whole.value / size / (tenth.value / max(size // 10, 1)), 2),
        },
        counts={"jobs": size},
        machine=machine(),
        measured_at=now(),
        command="python -m benchmarks plan_1m --json",
    )
