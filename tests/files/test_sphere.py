"""The sphere, compared with what others work out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from lsst import sphgeom

from nightmill.files.sphere import Floats, Regions, angles, hull, vectors

ARCSEC = 1 / 3600


def around(ra: float, dec: float, size_deg: float, random: np.random.Generator) -> Floats:
    """Return the hull of some places around another."""
    middle = vectors(ra, dec)
    east = np.cross([0.3, 0.2, 1.0], middle)
    east /= np.linalg.norm(east)
    north = np.cross(middle, east)
    places = np.deg2rad(size_deg) * random.uniform(-1, 1, (int(random.integers(3, 9)), 2))
    points = middle + places[:, :1] * east + places[:, 1:] * north
    return hull(points / np.linalg.norm(points, axis=1, keepdims=True))


def regions(polygons: list[Floats], radii_deg: list[float] | None = None) -> Regions:
    points = np.concatenate(polygons) if polygons else np.zeros((0, 3))
    return Regions.of(points, [len(each) for each in polygons], radii_deg or [0.0] * len(polygons))


def theirs(polygon: Floats) -> Any:
    return sphgeom.ConvexPolygon([sphgeom.UnitVector3d(*map(float, each)) for each in polygon])


def touching(one: Regions, other: Regions, margin_arcsec: float = 0.0) -> set[tuple[int, int]]:
    """Return the pairs that touch; each may come once."""
    pairs = [
        pair
        for own, their in one.touching(other, margin_arcsec)
        for pair in zip(own.tolist(), their.tolist(), strict=True)
    ]
    assert len(set(pairs)) == len(pairs)
    return set(pairs)


@pytest.mark.parametrize(
    ("ra", "dec", "size"),
    [(10, 0, 3), (0, 0, 1), (359.9, 45, 2), (123, 90, 5), (0, -90, 2), (77, 89.5, 1), (200, -30, 0.01), (30, 20, 20)],
    ids=["equator", "RA 0", "RA 360", "north pole", "south pole", "near the pole", "36 arcsec", "wide"],
)
def test_polygons_touch_where_others_say_so(ra: float, dec: float, size: float) -> None:
    """X08: exact, poles and RA 0 included."""
    random = np.random.default_rng(int(ra) + 1)
    middles = [(ra, dec) for _ in range(60)]
    spread = 2.5 * size
    shifted = [angles(around(each_ra, each_dec, spread, random)[0]) for each_ra, each_dec in middles]
    polygons = [around(float(one), float(other), size * random.uniform(0.2, 1), random) for one, other in shifted]
    ones, others = polygons[:30], polygons[30:]
    found = touching(regions(ones), regions(others))
    wanted = {
        (i, j)
        for i, one in enumerate(map(theirs, ones))
        for j, other in enumerate(map(theirs, others))
        if not (one.relate(other) & sphgeom.DISJOINT) and one.intersects(other)
    }
    assert found == wanted
    assert 0 < len(wanted) < 900


@pytest.mark.parametrize("dec", [0.0, 60.0, 89.9, -90.0])
@pytest.mark.parametrize("side", ["inside", "outside"])
def test_a_margin_is_exact_to_the_arcsecond(dec: float, side: str) -> None:
    """X08."""
    square = hull(vectors([-1, 1, 1, -1], [-1, -1, 1, 1]))
    turned = _turned(square, dec)
    off = 1 + (20 - 0.5 if side == "inside" else 20 + 0.5) * ARCSEC
    point = _turned(vectors([off / np.cos(0.0)], [0.0]), dec)
    found = touching(regions([turned]), regions([point]), 20.0)
    assert found == ({(0, 0)} if side == "inside" else set())
    circle = regions([point], [20 * ARCSEC])
    assert touching(regions([turned]), circle) == found


def _turned(points: Floats, dec: float) -> Floats:
    """Turn places of the equator at RA 0 to a declination."""
    angle = np.deg2rad(dec)
    turn = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
    return np.asarray(points @ turn.T)


def test_one_inside_another_touches_and_the_other_side_of_the_sky_does_not() -> None:
    square = hull(vectors([-5, 5, 5, -5], [-5, -5, 5, 5]))
    small = hull(vectors([-0.1, 0.1, 0.1, -0.1], [-0.1, -0.1, 0.1, 0.1]))
    ones = regions([square, small, -square[::-1]])
    assert touching(ones, ones) == {(0, 0), (1, 1), (2, 2), (0, 1), (1, 0)}


@pytest.mark.parametrize(
    ("ra", "dec", "told"),
    [
        ([0, 1, 2], [0, 0, 0], "span no area"),
        ([0, 0, 0], [1, 1, 1], "span no area"),
        ([0, 120, 240], [0, 0, 0], "farther than 80 degrees from its middle"),
        ([0, 90, 180, 270], [-5, -5, -5, -5], "farther than 80 degrees from its middle"),
        ([0, 1, np.nan], [0, 0, 1], "a corner is not on the sky"),
    ],
)
def test_what_is_no_convex_part_of_the_sky_is_refused(ra: list[float], dec: list[float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        hull(vectors(ra, dec))


def test_a_hull_leaves_out_what_lies_inside_or_on_an_edge() -> None:
    places = vectors([0, 1, 1, 0, 0.5, 0.5, 0, 1], [0, 0, 1, 1, 0.5, 0, 0.5, 1])
    assert len(hull(places)) == 4
    ra, dec = angles(hull(vectors([359, 1, 1, 359], [-1, -1, 1, 1])))
    assert sorted(zip(ra.round(9).tolist(), dec.round(9).tolist(), strict=True)) == [
        (1, -1),
        (1, 1),
        (359, -1),
        (359, 1),
    ]


def test_no_regions_touch_none() -> None:
    nothing, one = regions([]), regions([vectors([0.0], [0.0])], [1.0])
    assert touching(nothing, one) == touching(one, nothing) == set()


@pytest.mark.parametrize("apart", [0.0, 1e-17, 1e-13, 1e-9, 1e-8])
def test_corners_that_are_nearly_one_are_not_lost(apart: float) -> None:
    places = vectors([0, apart, 2, 2, 0], [0, 0, 0, 2, 2])
    found = hull(places)
    assert {tuple(each) for each in found.round(6).tolist()} == {tuple(each) for each in places.round(6).tolist()}
