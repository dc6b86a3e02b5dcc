"""How long a campaign of a hundred thousand jobs takes to be planned and sealed; beside the queries alone."""

from __future__ import annotations

import sys
import time
from bisect import bisect_left
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Column, MetaData, Table, select
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session

from benchmarks.figures import Figure, Result, in_processes, machine, now, tell
from benchmarks.sites import (
    COPY_STAGE,
    COPY_STEP,
    EPOCH,
    WHO,
    databases,
    new_site,
    register_raw,
    working_folder,
    write_campaign,
)
from nightmill.backbone.catalogue import calibrations
from nightmill.backbone.catalogue.registration import NewFile, register
from nightmill.backbone.schema import FileRow, JobRow, ReplicaRow
from nightmill.backbone.work.campaigns import campaign_named, progress
from nightmill.config.campaign import load_campaign
from nightmill.model.calibration import Maturity
from nightmill.model.origin import Origin
from nightmill.operations.site import Site, open_site
from nightmill.operations.submit import submit

JOBS: Final = 100_000
REPEATS: Final = 3
MINUTES_A_CALIBRATION: Final = 1_000

STAGE: Final = {
    **COPY_STAGE,
    "inputs": {
        "raw": {"type": "raw"},
        "bias": {
            "type": "bias",
            "source": {"calibrations": ["nightly"]},
            "lookup": {"strategy": "nearest", "max_days": 2},
        },
    },
}


_KEYED: Final = {
    **STAGE,
    "per": ["serial"],
    "steps": [{**COPY_STEP, "outputs": {"product": {"type": "keyed"}}}],
}
"""The same, with units by a key of metadata."""


def measure(*, size: int = JOBS, repeats: int = REPEATS) -> Result:
    """Measure on each database that can be had, each time in a process of its own; SQLite is the headline."""
    with working_folder() as folder, databases() as urls:
        measured = {name: measured_on(folder / name, url, size, repeats) for name, url in urls.items()}
        keyed = measured_on(folder / "keyed", "", size, repeats, stage=_KEYED)
        measured["SQLite, units by a key of metadata"] = keyed
    headline, peak_bytes = measured.pop("SQLite")
    return Result(
        **headline.model_dump(),
        name="plan_100k",
        unit="s",
        compared=(
            "a campaign submitted, SQLite: its jobs planned, each with one raw input and the nearest calibration, their"
            " names proven unique, and sealed; floor: the same files selected, grouped, and the same rows inserted in"
            " bulk into a table without constraints"
        ),
        aim="at most 60 s and 1,000 MB",
        size=f"{repeats} × {size:,} jobs",
        also={name: other for name, (other, _peak) in measured.items()},
        extra={
            "peak_rss_megabytes": round(peak_bytes / 1e6),
            **{f"peak_rss_megabytes ({name})": round(peak / 1e6) for name, (_other, peak) in measured.items()},
        },
        counts={"jobs": size},
        machine=machine(),
        measured_at=now(),
        command="python -m benchmarks plan_100k --json",
    )


def measured_on(
    folder: Path, database: str, jobs: int, repeats: int, stage: Mapping[str, object] = STAGE
) -> tuple[Figure, int]:
    """Measure on one database; return what it took, and the peak of memory in bytes."""
    with new_site(folder / "site", database) as site:
        register_raw(site, jobs)
        add_calibrations(site, -(-jobs // MINUTES_A_CALIBRATION))
    directory = site.config.directory

    def work(number: int) -> tuple[Path, Path]:
        return directory, write_campaign(folder, f"plan-{number}", stage, {})

    return in_processes("benchmarks.plan_100k", repeats, work, (directory, "bare"), done=lambda count: count == jobs)


def add_calibrations(site: Site, count: int) -> None:
    """Register master biases, some hours apart, and certify them."""
    files = [
        NewFile(
            name=f"bias_{number:04d}.dat",
            type="bias",
            origin=Origin.RAW,
            size_bytes=1,
            sha256="0" * 64,
            begins_at=EPOCH + timedelta(minutes=MINUTES_A_CALIBRATION * number),
            ends_at=EPOCH + timedelta(minutes=MINUTES_A_CALIBRATION * number + 1),
            store="backbone",
            path=f"raw/bias_{number:04d}.dat",
        )
        for number in range(count)
    ]

    def work(session: Session) -> None:
        register(session, files, who=WHO, now=EPOCH)
        validity = {"valid_from": EPOCH, "valid_until": EPOCH + timedelta(days=365)}
        names = [file.name for file in files]
        certified = Maturity.CERTIFIED
        calibrations.add(session, names, "nightly", **validity, maturity=certified, who=WHO, why="benchmark", now=EPOCH)

    site.database.write(work)


def main(directory: str, what: str) -> None:
    """Do the work once and print what it took."""
    with open_site(Path(directory)) as site:
        start = time.perf_counter()
        jobs = _bare(site.database.engine) if what == "bare" else _submit(site, Path(what))
        seconds = time.perf_counter() - start
    tell(seconds, jobs)


def _submit(site: Site, path: Path) -> int:
    campaign = load_campaign(path)
    submit(site, campaign, who=WHO)
    with site.database.reading() as session:
        return progress(session, campaign_named(session, campaign.name).id)[0].total


def _bare(engine: Engine) -> int:
    """Select what a plan must see, group it by unit, and insert a row a job."""
    columns = (FileRow.id, FileRow.name, FileRow.exposure, FileRow.begins_at, FileRow.ends_at, ReplicaRow.path)
    query = select(*columns).join(ReplicaRow, ReplicaRow.file_id == FileRow.id)
    bare = MetaData()
    columns_of_job = [Column(each.name, each.type, primary_key=each.primary_key) for each in JobRow.__table__.columns]
    table = Table("bare_job", bare, *columns_of_job)
    with engine.connect().execution_options(write=True) as connection:
        bare.drop_all(connection)
        bare.create_all(connection)
        biases = [(row.begins_at, row.id) for row in connection.execute(query.where(FileRow.type == "bias"))]
        biases.sort()
        times = [begins_at for begins_at, _ in biases]
        units: dict[int, list[Any]] = {}
        for row in connection.execute(query.where(FileRow.type == "raw")):
            units.setdefault(row.exposure, []).append(row)
        rows = [
            {
                "campaign_id": 1,
                "plan_id": 1,
                "slice_id": number // 1000,
                "stage": "copy",
                "unit": f"exposure={exposure}",
                "state": "planned",
                "attempts": 0,
                "stale": False,
                "detail": {
                    "number": number,
                    "data_id": {"exposure": exposure},
                    "inputs": {"raw": [0, [files[0].id]], "bias": [1, [_nearest(times, biases, files[0].begins_at)]]},
                    "begins_at": files[0].begins_at.isoformat(),
                    "ends_at": files[0].ends_at.isoformat(),
                },
            }
            for number, (exposure, files) in enumerate(sorted(units.items()))
        ]
        connection.execute(table.insert(), rows)
        connection.commit()
    return len(rows)


def _nearest(times: list[datetime], biases: list[tuple[datetime, int]], when: datetime) -> int:
    after = bisect_left(times, when)
    return min(biases[max(after - 1, 0) : after + 1], key=lambda each: abs(each[0] - when))[1]


if __name__ == "__main__":
    main(*sys.argv[1:])
