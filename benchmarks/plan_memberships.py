"""What it costs to plan units that the rows of a table make, each with the files that its rows name."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmarks.figures import Figure, Result, in_processes, machine, now, tell
from benchmarks.sites import COPY_STEP, EPOCH, WHO, databases, new_site, register_raw, working_folder, write_campaign
from nightmill.backbone.catalogue.attachments import attach, load
from nightmill.backbone.catalogue.registration import NewFile, register
from nightmill.backbone.schema import AttachedRow, FileRow, ReplicaRow
from nightmill.config.campaign import load_campaign
from nightmill.model.attachment import MEMBERSHIP, Attachment
from nightmill.model.origin import Origin
from nightmill.operations.site import Site, open_site
from nightmill.planning.plan import plan_campaign

ROWS: Final = 1_000_000
ROWS_A_UNIT: Final = 10
REPEATS: Final = 3

_TYPES: Final = {
    "raw": {},
    "tiles": {"format": "fits", "membership": {"columns": {"serial": "int", "exposure": "int"}}},
    "product": {"template": "product_{serial:08d}_c{campaign:04d}a{attempt:02d}.dat"},
}
_STAGE: Final = {
    "per": ["serial"],
    "units_from": "tiles",
    "inputs": {"tiles": {"type": "tiles"}, "raw": {"type": "raw", "through": "tiles", "max": None}},
    "steps": [{**COPY_STEP, "argv": ["cat", "{inputs.raw}"], "outputs": {"product": {"type": "product"}}}],
}


def measure(*, size: int = ROWS, repeats: int = REPEATS) -> Result:
    """Measure on each database that can be had, in processes of their own; SQLite is the headline."""
    size = max(size, ROWS_A_UNIT)
    with working_folder() as folder, databases() as urls:
        measured = {name: _measured_on(folder / name, url, size, repeats) for name, url in urls.items()}
    headline, peak_bytes = measured.pop("SQLite")
    return Result(
        **headline.model_dump(),
        name="plan_memberships",
        unit="s",
        compared=(
            f"units that rows of a table make, each with the {ROWS_A_UNIT} files that its rows name, planned, and their"
            " names proven unique, SQLite; floor: the same rows and files selected, and the files of each unit put"
            " together in a dictionary"
        ),
        aim="at most 4 times the floor",
        size=f"{repeats} × {size:,} rows",
        also={name: other for name, (other, _peak) in measured.items()},
        extra={"peak_rss_megabytes": round(peak_bytes / 1e6)},
        counts={"rows": size, "units": size // ROWS_A_UNIT},
        machine=machine(),
        measured_at=now(),
        command="python -m benchmarks plan_memberships --json",
    )


def _measured_on(folder: Path, database: str, size: int, repeats: int) -> tuple[Figure, int]:
    units = size // ROWS_A_UNIT
    with new_site(folder / "site", database, _TYPES) as site:
        register_raw(site, units)
        _add_table(site, size, units)
    campaign = write_campaign(folder, "plan", _STAGE, {})
    directory = site.config.directory
    return in_processes(
        "benchmarks.plan_memberships",
        repeats,
        lambda _: (directory, campaign),
        (directory, "bare"),
        done=lambda count: count == units,
    )


def _add_table(site: Site, size: int, units: int) -> None:
    """Register a table in which each unit has some exposures, and each exposure is in as many units."""
    file = NewFile("tiles.fits", "tiles", Origin.RAW, 1, "0" * 64, store="backbone", path="raw/tiles.fits")
    [id_] = site.database.write(lambda session: register(session, [file], who=WHO, now=EPOCH))

    def rows() -> Iterator[tuple[int, int]]:
        for number in range(size):
            yield number // ROWS_A_UNIT + 1, (number * 7919) % units + 1

    attachment = Attachment(kind=MEMBERSHIP, sha256="0" * 64, size_bytes=1, rows=size)
    loaded = load(site.database, attachment, ["serial", "exposure"], rows(), now=EPOCH)
    site.database.write(lambda session: attach(session, [id_], [[loaded]]))


def main(directory: str, what: str) -> None:
    """Do the work once and print what it took."""
    with open_site(Path(directory)) as site, site.database.reading() as session:
        campaign = None if what == "bare" else load_campaign(Path(what))
        start = time.perf_counter()
        if campaign is None:
            units = _bare(session)
        else:
            plan = plan_campaign(session, campaign, site.config, 1)
            plan.require()
            units = len(plan.stages[0].jobs)
        seconds = time.perf_counter() - start
    tell(seconds, units)


def _bare(session: Session) -> int:
    """Select rows and files, and put the files of each unit together."""
    columns = (FileRow.exposure, FileRow.id, FileRow.name, FileRow.attributes, FileRow.begins_at, ReplicaRow.path)
    query = select(*columns).join(ReplicaRow, ReplicaRow.file_id == FileRow.id).where(FileRow.type == "raw")
    files = {row.exposure: row for row in session.execute(query)}
    units: dict[int, list[object]] = {}
    for row in session.scalars(select(AttachedRow.data).execution_options(yield_per=10_000)):
        units.setdefault(row["serial"], []).append(files[row["exposure"]])
    return len(units)


if __name__ == "__main__":
    main(*sys.argv[1:])
