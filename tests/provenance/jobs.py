"""Jobs to be recorded, and what is on record of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from sqlalchemy import select

from nightmill.backbone.database import Database
from nightmill.backbone.schema import (
    AttemptRow,
    JobRow,
)
from nightmill.model.journal import Entry
from nightmill.model.order import JobOrder
from nightmill.model.report import JobReport, fold, stacks
from provenance.record import Recorded, record
from tests.support.backbone import issue
from tests.support.orders import Bench, fits_bytes, output, shell

LATER = datetime(2026, 1, 12, 9, 30, tzinfo=UTC)


def science(bench: Bench, unit: int = 12, *, number: int = 1, fails: bool = False) -> JobOrder:
    """Make a job of two steps: frame → flattened image (not kept) → catalogue (kept) and preview (delivered)."""
    frame = bench.put(f"frame{unit}.fits", fits_bytes(AIRMASS=1.25))
    tag = f"{unit}a{number:02d}"
    flat = output("flat", f"flat{tag}.fits", type="image", store="")
    catalog = output("catalog", f"cat{tag}.txt")
    preview = output("preview", f"pre{tag}.txt", store="quicklook")
    make = "exit 1" if fails else f"echo {unit} > cat{tag}.txt; echo p > pre{tag}.txt"
    return bench.order(
        shell("flatten", f"cp ../inputs/{frame.name} flat{tag}.fits", flat, inputs=(frame.name,)),
        shell("detect", make, catalog, preview, inputs=flat.names),
        inputs=(frame,),
        unit=f"exposure={unit}",
        number=number,
    )


def tell(database: Database, entries: Iterable[Entry], *, reports: Sequence[JobReport] | None = None) -> Recorded:
    """Record the fold of entries (or chosen reports of it)."""
    told = list(entries)
    chosen = list(fold(told).values()) if reports is None else reports
    return database.write(lambda session: record(session, chosen, stacks(told), now=LATER))


def issued(database: Database, *orders: JobOrder) -> None:
    database.write(lambda session: issue(session, *orders))


def job_states(database: Database) -> dict[str, str]:
    with database.reading() as session:
        return dict(session.execute(select(JobRow.unit, JobRow.state)).tuples().all())


def attempts(database: Database) -> list[tuple[int, str, str | None, bool]]:
    with database.reading() as session:
        columns = select(AttemptRow.number, AttemptRow.state, AttemptRow.fate, AttemptRow.result).order_by(
            AttemptRow.id
        )
        return list(session.execute(columns).tuples())
