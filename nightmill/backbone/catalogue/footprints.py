"""Which part of the sky each file covers: written with the file, and asked for by place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.schema import FootprintRow
from nightmill.files.tiles import regions_of
from nightmill.model.footprint import Footprint

_SLACK: float = 1e-9
"""What rounding may take from a sine or cosine."""


def add_footprints(session: Session, file_ids: Sequence[int], footprints: Sequence[Sequence[Footprint]]) -> None:
    """Write the footprints of files that are registered, in the transaction that does it."""
    flat = [
        (id_, number, each)
        for id_, of_file in zip(file_ids, footprints, strict=True)
        for number, each in enumerate(of_file)
    ]
    if not flat:
        return
    regions = regions_of([each for _id, _number, each in flat])
    rows = [
        {
            "file_id": id_,
            "number": number,
            "vertices": [list(vertex) for vertex in each.vertices],
            "radius_deg": each.radius_deg,
            "x": x,
            "y": y,
            "z": z,
            "cap_deg": math.degrees(cap),
        }
        for (id_, number, each), (x, y, z), cap in zip(
            flat, regions.middles.tolist(), regions.caps.tolist(), strict=True
        )
    ]
    session.execute(insert(FootprintRow), rows)


def footprints_among(session: Session, file_ids: Iterable[int]) -> Iterator[tuple[int, Footprint]]:
    """Yield the footprints of files, each with the file's ID; streamed, in the order of the files."""
    query = (
        select(FootprintRow.file_id, FootprintRow.vertices, FootprintRow.radius_deg)
        .where(among(FootprintRow.file_id, file_ids))
        .order_by(FootprintRow.file_id, FootprintRow.number)
        .execution_options(yield_per=5_000)
    )
    for id_, vertices, radius_deg in session.execute(query):
        yield id_, _footprint(vertices, radius_deg)


def files_touching(session: Session, place: Footprint) -> list[int]:
    """Return the IDs of the files whose footprints touch a part of the sky, in order."""
    wanted = regions_of([place])
    [[x, y, z]], [cap] = wanted.middles.tolist(), wanted.caps.tolist()
    reach = cap + math.radians(session.scalar(select(func.max(FootprintRow.cap_deg))) or 0.0)
    least = math.cos(min(reach, math.pi)) - _SLACK
    dec = math.asin(max(-1.0, min(1.0, z)))
    south, north = max(dec - reach, -math.pi / 2), min(dec + reach, math.pi / 2)
    query = select(FootprintRow.file_id, FootprintRow.vertices, FootprintRow.radius_deg).where(
        FootprintRow.z.between(math.sin(south) - _SLACK, math.sin(north) + _SLACK),
        FootprintRow.x * x + FootprintRow.y * y + FootprintRow.z * z >= least,
    )
    near = [(id_, _footprint(vertices, radius)) for id_, vertices, radius in session.execute(query)]
    if not near:
        return []
    regions = regions_of([each for _id, each in near])
    return sorted({near[own][0] for mine, _theirs in regions.touching(wanted) for own in mine.tolist()})


def _footprint(vertices: Iterable[Sequence[float]], radius_deg: float) -> Footprint:
    return Footprint.model_construct(vertices=tuple([(ra, dec) for ra, dec in vertices]), radius_deg=radius_deg)
