"""The tiles of a tiling: their names, and the part of the sky that each covers."""

from __future__ import annotations

import csv
from collections.abc import Sequence
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


def regions_of(footprints: Sequence[Footprint]) -> Regions:
    """Return the regions of footprints."""
    places = np.array([vertex for each in footprints for vertex in each.vertices]).reshape(-1, 2)
    counts = [len(each.vertices) for each in footprints]
    return Regions.of(vectors(places[:, 0], places[:, 1]), counts, [each.radius_deg for each in footprints])


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
    rings = [_ring(ring) for ring in tiling.rings]
    counts = [each.shape[1] for each in rings for _tile in each]
    radii = [_cap_deg(ring) if ring.count == 1 else 0.0 for ring in tiling.rings for _tile in range(ring.count)]
    return tuple(names), Regions.of(np.concatenate([each.reshape(-1, 3) for each in rings]), counts, radii)


def _cap_deg(ring: Ring) -> float:
    return 90 - ring.south if ring.north == 90 else ring.north + 90


def _ring(ring: Ring) -> Floats:
    """Return the corners of each tile of a ring, n × k × 3; the tiles cover it whole."""
    pole = 90.0 if ring.north == 90 else -90.0 if ring.south == -90 else None
    if ring.count == 1:
        return vectors([[0.0]], [[pole]])
    # the edge towards the equator is the great circle that touches the parallel in its middle
    lower = ring.south if ring.south <= 0 else _touching_deg(ring.south, ring.count)
    upper = ring.north if ring.north >= 0 else _touching_deg(ring.north, ring.count)
    west = 360.0 * np.arange(ring.count)[:, None] / ring.count
    turns, decs = np.array([0, 1, 1, 0]), np.array([lower, lower, upper, upper])
    if pole is not None:  # where two corners are one
        turns, decs = (turns[:3], decs[:3]) if pole > 0 else (turns[1:], decs[1:])
    return vectors(west + turns * 360.0 / ring.count, np.broadcast_to(decs, (ring.count, len(decs))))


def _touching_deg(dec: float, count: int) -> float:
    """Return the declination at the ends of the great circle that touches a parallel in the middle of a tile."""
    return float(np.rad2deg(np.arctan(np.tan(np.deg2rad(dec)) * np.cos(np.pi / count))))


def _pixels(healpix: Healpix) -> tuple[tuple[str, ...], Regions]:
    from astropy_healpix import HEALPix

    grid = HEALPix(healpix.nside, order=healpix.order)
    numbers = np.arange(grid.npix)
    lon, lat = grid.boundaries_lonlat(numbers, 4)
    pixels = [hull(each) for each in vectors(lon.to_value("deg"), lat.to_value("deg"))]
    names = tuple([f"p{number:06d}" for number in numbers])
    return names, Regions.of(np.concatenate(pixels), [len(each) for each in pixels], np.zeros(len(pixels)))


def check_tiling(tiling: Tiling) -> list[str]:
    """Return what is wrong with a tiling in itself."""
    kinds = [name for name in ("rings", "healpix", "polygons") if getattr(tiling, name)]
    if len(kinds) != 1:
        return [f"a tiling has one of rings, healpix and polygons, and this has {' and '.join(kinds) or 'none'}"]
    wrong = [text for place, ring in enumerate(tiling.rings) for text in _check_ring(place, ring)]
    if tiling.healpix is not None and tiling.healpix.nside.bit_count() != 1:
        wrong.append(f"healpix.nside is {tiling.healpix.nside} and should be a power of 2")
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
