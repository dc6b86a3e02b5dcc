"""How long it takes to tell which footprints touch which tiles; beside a look at each tile's distances alone."""

from __future__ import annotations

import time
from typing import Final

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmarks.figures import Result, alternately, figure, machine, now
from benchmarks.sites import EPOCH, WHO, new_site, working_folder
from nightmill.backbone.catalogue.footprints import footprints_among
from nightmill.backbone.catalogue.registration import NewFile, register
from nightmill.backbone.schema import FootprintRow
from nightmill.files.sphere import angles, vectors
from nightmill.files.tiles import regions_of, tiles_of
from nightmill.model.footprint import Footprint, Ring, Tiling
from nightmill.model.origin import Origin
from nightmill.operations.site import Site

FOOTPRINTS: Final = 100_000
REPEATS: Final = 3
SIZE_DEG: Final = 0.5
TILES: Final = Tiling(
    rings=tuple([Ring(south=-90 + 1.8 * ring, north=-90 + 1.8 * (ring + 1), count=100) for ring in range(100)])
)
COUNT: Final = 10_000
"""Tiles."""


def measure(*, size: int = FOOTPRINTS, repeats: int = REPEATS) -> Result:
    """Measure on SQLite, in this process."""
    counts: set[int] = set()

    def touching() -> float:
        start = time.perf_counter()
        counts.add(_touching(session))
        return time.perf_counter() - start

    def bare() -> float:
        start = time.perf_counter()
        _bare(session)
        return time.perf_counter() - start

    with working_folder() as folder, new_site(folder / "site", types={"raw": {}}) as site:
        _add_footprints(site, size)
        with site.database.reading() as session:
            values, floors = alternately(repeats, touching, bare)
    [count] = counts
    return Result(
        **figure(values, floors).model_dump(),
        name="overlaps",
        unit="s",
        compared=(
            "footprints all over the sky read from the catalogue, and every tile told that each touches, exactly;"
            " floor: the middles of the same footprints read, and each tile's distances to all of them worked out"
        ),
        aim="at most 30 s",
        size=f"{repeats} × {size:,} footprints and {COUNT:,} tiles",
        counts={"footprints": size, "tiles": COUNT, "pairs": count},
        machine=machine(),
        measured_at=now(),
        command="python -m benchmarks overlaps --json",
    )


def _add_footprints(site: Site, count: int) -> None:
    """Register files that cover squares all over the sky."""
    random = np.random.default_rng(1)
    middles = random.normal(size=(count, 3))
    middles /= np.linalg.norm(middles, axis=1, keepdims=True)
    east = np.cross(middles, random.normal(size=(count, 3)))
    east *= np.deg2rad(SIZE_DEG / 2) / np.linalg.norm(east, axis=1, keepdims=True)
    north = np.cross(middles, east)
    corners = np.stack([middles + x * east + y * north for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))], axis=1)
    ra, dec = angles(corners)
    places = np.stack([ra, dec], axis=-1).tolist()
    files = [
        NewFile(
            name=f"f{number}",
            type="raw",
            origin=Origin.RAW,
            size_bytes=1,
            sha256="0" * 64,
            footprints=(Footprint(vertices=vertices),),
        )
        for number, vertices in enumerate(places)
    ]
    site.database.write(lambda session: register(session, files, who=WHO, now=EPOCH))


def _touching(session: Session) -> int:
    found = list(footprints_among(session, range(1, FOOTPRINTS + 1)))
    _names, tiles = tiles_of(TILES)
    regions = regions_of([each for _id, each in found])
    return sum(len(own) for own, _tile in regions.touching(tiles))


def _bare(session: Session) -> int:
    query = select(FootprintRow.x, FootprintRow.y, FootprintRow.z, FootprintRow.cap_deg)
    rows = np.array([tuple(row) for row in session.execute(query)])
    middles, caps = rows[:, :3], np.deg2rad(rows[:, 3])
    golden = np.arange(COUNT)
    tiles = vectors(golden * 222.49 % 360, np.rad2deg(np.arcsin(2 * (golden + 0.5) / len(golden) - 1)))
    return sum(int((middles @ tile >= np.cos(caps + np.deg2rad(1.5))).sum()) for tile in tiles)
