"""Jobs with what witnesses saw and steps told, and what is on record of that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import select

from nightmill.backbone.database import Database
from nightmill.backbone.schema import ExecutionRow, FileRow, InputUseRow
from nightmill.model.journal import Entry, StepObserved
from nightmill.model.observed import Eliminated, Observation
from nightmill.model.order import JobOrder, OrderInput
from tests.provenance.jobs import issued, tell
from tests.support.orders import Bench, fits_bytes, output, shell

Uses = dict[tuple[str, str], tuple[bool, bool | None, bool | None, str | None]]

CLOUDY = "clouds: 0.8 mag"
CHOOSY = Observation(
    witness="inotify",
    opened=("f1.fits", "f2.fits", "f3.fits", "flat.fits"),
    told=True,
    used=("f1.fits", "f2.fits"),
    eliminated=(Eliminated(name="f3.fits", reason=CLOUDY),),
)
"""Of a step that reads four frames, a flat and a mask, opens all but a frame and the mask, and leaves one frame out."""


def inputs_of(bench: Bench) -> tuple[OrderInput, ...]:
    """Put four frames, a flat and a mask into the store."""
    frames = [bench.put(f"f{number}.fits", fits_bytes(exposure=number)) for number in range(1, 5)]
    others = [bench.put(f"{role}.fits", fits_bytes(), role=role) for role in ("flat", "mask")]
    return (*frames, *others)


def stacked(bench: Bench, number: int = 1, unit: str = "exposure=12,detector=3") -> JobOrder:
    """Make a job whose first step makes an image of four frames, a flat and a mask; a second one, a catalogue of it."""
    inputs = inputs_of(bench)
    tag = f"{unit.partition(',')[0].replace('=', '')}a{number}"
    image = output("image", f"image-{tag}.fits", type="image")
    catalog = output("catalog", f"catalog-{tag}.txt")
    return bench.order(
        shell("stack", f"cp ../inputs/flat.fits image-{tag}.fits", image, inputs=tuple(each.name for each in inputs)),
        shell("detect", f"echo 1 > catalog-{tag}.txt", catalog, inputs=image.names),
        inputs=inputs,
        unit=unit,
        number=number,
    )


def observing(entries: Iterable[Entry], observations: Mapping[str, Observation]) -> list[Entry]:
    """Return entries with these observations of steps, and of other steps none that says anything."""
    return [
        entry.model_copy(update={"observed": observations.get(entry.step, Observation())})
        if isinstance(entry, StepObserved)
        else entry
        for entry in entries
    ]


def carry_out(database: Database, bench: Bench, *orders: JobOrder, **observations: Observation) -> list[Entry]:
    """Issue orders, run them, and record what they told, with these observations of steps; return what was told."""
    issued(database, *orders)
    bench.run(*orders)
    told = observing(bench.entries(), observations)
    tell(database, told)
    return told


def uses(database: Database) -> Uses:
    """Return what is on record: step and name to planned, opened, contributed, and why not."""
    query = (
        select(ExecutionRow.step, FileRow.name)
        .add_columns(InputUseRow.planned, InputUseRow.opened, InputUseRow.contributed, InputUseRow.reason)
        .join(InputUseRow, InputUseRow.execution_id == ExecutionRow.id)
        .join(FileRow, FileRow.id == InputUseRow.file_id)
    )
    with database.reading() as session:
        return {(step, name): tuple(facts) for step, name, *facts in session.execute(query)}
