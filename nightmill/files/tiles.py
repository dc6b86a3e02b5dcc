"""The tiles of a tiling: their names, and the part of the sky that each covers."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

import numpy as np

from nightmill.files.footprints import corners
from nightmill.files.naming import is_fit
from nightmill.files.sphere import Floats, Regions, hull, vectors
from nightmill.model.footprint import Footprint, Healpix, Ring, Tiling

MOST: Final = 1_000_000
"""Tiles of a tiling."""
COLUMNS: Final = ("tile", "ra", "dec")


def regions_of(footprints: list[Footprint] | tuple[Footprint, ...]) -> Regions:
    """Return the regions of footprints."""
    polygons = [vectors(*zip(*each.vertices, strict=True)) for each in footprints]
    return Regions.of(polygons, [each.radius_deg for each in footprints])


def tiles_of(tiling: Tiling) -> tuple[tuple[str, ...], Regions]:
    """Return the names of all tiles, and their regions in the same order.

    Raises
    ------
    ImportError
        Where they are pixels of HEALPix, and its library is not there.
    """
    if tiling.healpix is not None:
        return _pixels(tiling.healpix)
    if tiling.polygons:
        return tuple(tiling.polygons), regions_of([Footprint(vertices=each) for each in tiling.polygons.values()])
    names = [f"r{place:03d}t{tile:04d}" for place, ring in enumerate(tiling.rings) for tile in range(ring.count)]
    polygons = [each for ring in tiling.rings for each in _ring(ring)]
    radii = [_cap_deg(ring) if ring.count == 1 else 0.0 for ring in tiling.rings for _tile in range(ring.count)]
    return tuple(names), Regions.of(polygons, radii)


def _cap_deg(ring: Ring) -> float:
    return 90 - ring.south if ring.north == 90 else ring.north + 90


def _ring(ring: Ring) -> list[Floats]:
    """Return the corners of the tiles of a ring, which cover it whole: no great circle cuts off a part of it."""
    if ring.count == 1:
        return [vectors([0.0], [90.0 if ring.north == 90 else -90.0])]
    half = 180.0 / ring.count
    south, north = ring.south, ring.north
    # the edge towards the equator is the great circle that touches the parallel in its middle
    lower = south if south <= 0 else np.rad2deg(np.arctan(np.tan(np.deg2rad(south)) * np.cos(np.deg2rad(half))))
    upper = north if north >= 0 else np.rad2deg(np.arctan(np.tan(np.deg2rad(north)) * np.cos(np.deg2rad(half))))
    made = []
    for tile in range(ring.count):
        west, east = 2 * half * tile, 2 * half * (tile + 1)
        places = vectors([west, east, east, west], [lower, lower, upper, upper])
        made.append(hull(places))
    return made


def _pixels(healpix: Healpix) -> tuple[tuple[str, ...], Regions]:
    from astropy_healpix import HEALPix

    grid = HEALPix(healpix.nside, order=healpix.order)
    numbers = np.arange(grid.npix)
    lon, lat = grid.boundaries_lonlat(numbers, 4)
    points = vectors(lon.to_value("deg"), lat.to_value("deg"))
    return tuple([f"p{number:06d}" for number in numbers]), Regions.of(
        [hull(each) for each in points], [0.0] * len(points)
    )


def check_tiling(tiling: Tiling) -> list[str]:
    """Return what is wrong with a tiling in itself."""
    kinds = [name for name in ("rings", "healpix", "polygons") if getattr(tiling, name)]
    if len(kinds) != 1:
        return [f"a tiling has one of rings, healpix and polygons, and this has {' and '.join(kinds) or 'none'}"]
    wrong = [text for place, ring in enumerate(tiling.rings) for text in _check_ring(place, ring)]
    if tiling.healpix is not None and tiling.healpix.order == "nested" and tiling.healpix.nside.bit_count() != 1:
        wrong.append(f"healpix.nside is {tiling.healpix.nside} and should be a power of 2, or say order: ring")
    if (count := sum(ring.count for ring in tiling.rings)) > MOST:
        wrong.append(f"it has {count:,} tiles, and at most {MOST:,} may be")
    return wrong


def _check_ring(place: int, ring: Ring) -> list[str]:
    name = f"rings[{place}]"
    if ring.south >= ring.north:
        return [f"{name}: south is {ring.south:g} and north is {ring.north:g}: no declination is between them"]
    if ring.count == 1 and not (abs(ring.south) == 90) ^ (abs(ring.north) == 90):
        return [f"{name}: one tile alone is a cap around a pole: south is -90, or north is 90"]
    if ring.count == 1 and _cap_deg(ring) > 80:
        return [f"{name}: a cap reaches 80 degrees at most"]
    if ring.count > 1 and (ring.count < 4 or ring.north - ring.south > 120):
        return [f"{name}: a ring has 4 tiles at least, and is 120 degrees high at most"]
    return []


def read_polygons(path: Path) -> dict[str, tuple[tuple[float, float], ...]]:
    """Read a table of polygons: CSV with the columns tile, ra and dec, a corner a row.

    Raises
    ------
    ValueError
        Where it is not what it should be; says in which line.
    OSError
        Where it cannot be read.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    lines: dict[str, int] = {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if not set(COLUMNS) <= set(reader.fieldnames or ()):
            raise ValueError(f"line 1 should have the columns {', '.join(COLUMNS)}")
        for row in reader:
            name = row["tile"] or ""
            if not is_fit(name):
                raise ValueError(f"line {reader.line_num}: tile {name!r} should have letters, digits and . _ + - alone")
            try:
                place = float(row["ra"]), float(row["dec"])
            except (TypeError, ValueError):
                raise ValueError(f"line {reader.line_num}: ra and dec should be degrees") from None
            lines.setdefault(name, reader.line_num)
            found.setdefault(name, []).append(place)
            if len(found) > MOST:
                raise ValueError(f"it has more than {MOST:,} tiles")
    made = {}
    for name, places in found.items():
        try:
            made[name] = corners(places).vertices
        except ValueError as error:
            raise ValueError(f"line {lines[name]}: tile {name!r}: {error}") from None
    if not made:
        raise ValueError("it has no tile")
    return made
