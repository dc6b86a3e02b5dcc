"""How long it takes to show how a plan differs from the campaign that ran; beside the plan alone."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Final

from benchmarks.figures import Figure, Result, in_processes, machine, now, tell
from benchmarks.plan_100k import MINUTES_A_CALIBRATION, STAGE, add_calibrations
from benchmarks.sites import WHO, databases, new_site, register_raw, working_folder, write_campaign
from nightmill.config.campaign import load_campaign
from nightmill.operations.comparison import plan_to_compare
from nightmill.operations.preview import preview
from nightmill.operations.site import open_site
from nightmill.operations.submit import submit
from nightmill.planning.compare import Change, compare
from nightmill.planning.digest import text_of

UNITS: Final = 10_000
REPEATS: Final = 5
_LEFT_OUT: Final = "FILE bias_0000.dat"
"""Units of the first minutes have the second calibration then."""


def measure(*, size: int = UNITS, repeats: int = REPEATS) -> Result:
    """Measure on each database that can be had, in processes of their own; SQLite is the headline."""
    with working_folder() as folder, databases() as urls:
        measured = {name: _measured_on(folder / name, url, size, repeats) for name, url in urls.items()}
    headline, peak_bytes = measured.pop("SQLite")
    return Result(
        **headline.model_dump(),
        name="plan_compare",
        unit="s",
        compared=(
            "a campaign that was submitted, planned again without one of its calibrations, and compared with what was"
            " sealed: every unit that now has another calibration is found, SQLite; floor: the same plan alone"
        ),
        aim="at most 5 s for 10,000 units",
        size=f"{repeats} × {size:,} units",
        also={name: other for name, (other, _peak) in measured.items()},
        extra={"peak_rss_megabytes": round(peak_bytes / 1e6)},
        counts={"units": size},
        machine=machine(),
        measured_at=now(),
        command="python -m benchmarks plan_compare --json",
    )


def _measured_on(folder: Path, database: str, size: int, repeats: int) -> tuple[Figure, int]:
    with new_site(folder / "site", database) as site:
        register_raw(site, size)
        add_calibrations(site, -(-size // MINUTES_A_CALIBRATION) + 1)
        path = write_campaign(folder, "first", STAGE, {})
        submit(site, load_campaign(path), who=WHO)
    place = (site.config.directory, path)
    most = min(size, MINUTES_A_CALIBRATION)
    return in_processes(
        "benchmarks.plan_compare",
        repeats,
        lambda _: (*place, "first"),
        (*place, ""),
        done=lambda count: 0 < count <= most,
    )


def main(directory: str, path: str, against: str) -> None:
    """Plan, and compare where there is something to compare with, once, and print what it took."""
    with open_site(Path(directory)) as site:
        campaign = load_campaign(Path(path), exclude=(_LEFT_OUT,))
        start = time.perf_counter()
        before = plan_to_compare(site, against) if against else None
        planned = preview(site, campaign)
        planned.require()
        differ = 0
        if before is not None:
            differ = compare(before, text_of(planned)).stages[0].counts[Change.INPUT]
        seconds = time.perf_counter() - start
    tell(seconds, differ)


if __name__ == "__main__":
    main(*sys.argv[1:])
