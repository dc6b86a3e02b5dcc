"""Convex regions of the sphere: which of them touch, worked out for many at a time.

A region is a convex polygon of fewer than a half of the sphere, with great circles as its edges, grown by a radius; one
with a single vertex is a circle. Everything is done with unit vectors, so that poles and right ascension 0 are places
like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

REACH_DEG: Final = 80.0
"""No vertex of a region lies farther from its middle, degrees."""
PAIRS: Final = 50_000
"""So many pairs of regions are compared at a time."""
_STRAIGHT: Final = 5e-10
"""A vertex that lies so near to the edge of its neighbours is none: 0.1 mas."""


def vectors(ra_deg: Any, dec_deg: Any) -> Floats:
    """Return unit vectors.

    Parameters
    ----------
    ra_deg, dec_deg
        Numbers or arrays of one shape, degrees.

    Returns
    -------
    numpy.ndarray
        Of that shape, with a last axis of three.
    """
    ra, dec = np.deg2rad(np.asarray(ra_deg, float)), np.deg2rad(np.asarray(dec_deg, float))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def angles(points: Floats) -> tuple[Floats, Floats]:
    """Return right ascension, from 0 to 360, and declination of vectors, degrees."""
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    return np.rad2deg(np.arctan2(y, x)) % 360.0, np.rad2deg(np.arctan2(z, np.hypot(x, y)))


def hull(points: Floats) -> Floats:
    """Return the vertices of the smallest convex polygon that holds all points, anticlockwise as seen on the sky.

    Parameters
    ----------
    points
        Unit vectors, n × 3.

    Raises
    ------
    ValueError
        Where they span no area, or reach farther than :data:`REACH_DEG` from their middle; says which.
    """
    if not np.isfinite(points).all():
        raise ValueError("a corner is not on the sky")
    middle = _middle(points)
    cosines = points @ middle
    if not np.linalg.norm(middle) or cosines.min() < np.cos(np.deg2rad(REACH_DEG)):
        raise ValueError(f"it reaches farther than {REACH_DEG:g} degrees from its middle")
    east = np.cross([0.0, 0.0, 1.0] if abs(middle[2]) < 0.9 else [1.0, 0.0, 0.0], middle)
    east /= np.linalg.norm(east)
    north = np.cross(middle, east)
    flat = np.stack([points @ east / cosines, points @ north / cosines], axis=-1)
    order = np.lexsort((flat[:, 1], flat[:, 0]))
    places = [*_chain(flat, order)[:-1], *_chain(flat, order[::-1])[:-1]]
    at = 0
    while at < len(places):  # one after another: of two that are nearly one, one stays
        if _bend(flat, places[at - 1], places[at], places[(at + 1) % len(places)]) <= _STRAIGHT:
            places.pop(at)
        else:
            at += 1
    if len(places) < 3:
        raise ValueError("its corners span no area")
    return points[places]


def _chain(flat: Floats, order: Places) -> list[int]:
    """Return one half of the hull of points of a plane."""
    chain: list[int] = []
    for place in order.tolist():
        while len(chain) > 1 and _bend(flat, chain[-2], chain[-1], place) <= 0:
            chain.pop()
        chain.append(place)
    return chain


def _bend(flat: Floats, before: int, place: int, after: int) -> float:
    """Return how far a point lies to the right of the line between two others."""
    along, to = flat[after] - flat[before], flat[place] - flat[before]
    length = float(np.hypot(*along))
    return float(to[0] * along[1] - to[1] * along[0]) / length if length else 0.0


def _middle(points: Floats) -> Floats:
    total: Floats = points.mean(axis=0)
    length = np.linalg.norm(total)
    return total / length if length > 1e-12 else np.zeros(3)


@dataclass(frozen=True)
class Regions:
    """Regions, each a convex polygon that is grown by a radius.

    Parameters
    ----------
    vertices
        Unit vectors, n × k × 3, anticlockwise; one that has fewer than k has its last again.
    radii
        How far each is grown, radians.
    middles, caps
        Of a circle around each, with its radius in radians.
    """

    vertices: Floats
    radii: Floats
    middles: Floats
    caps: Floats

    @classmethod
    def of(cls, points: Floats, counts: npt.ArrayLike, radii_deg: npt.ArrayLike) -> Regions:
        """Make regions of the vertices of all of them, one region after another.

        Parameters
        ----------
        points
            Unit vectors, m × 3.
        counts
            How many vertices each has, n; at least 1.
        radii_deg
            By how much each is grown, n, degrees.
        """
        of_each = np.asarray(counts, np.int64)
        first = np.cumsum(of_each) - of_each
        within = np.minimum(np.arange(of_each.max(initial=1)), of_each[:, None] - 1)
        vertices = np.asarray(points, float).reshape(-1, 3)[first[:, None] + within]
        middles = vertices.mean(axis=1)
        middles /= np.linalg.norm(middles, axis=1, keepdims=True)
        chords = np.linalg.norm(vertices - middles[:, None], axis=-1).max(axis=1, initial=0.0)
        radii = np.deg2rad(np.asarray(radii_deg, float))
        return cls(vertices, radii, middles, 2 * np.arcsin(np.minimum(chords / 2, 1)) + radii)

    def __len__(self) -> int:
        return len(self.vertices)

    def touching(self, others: Regions, margin_arcsec: float = 0.0) -> Iterator[tuple[Places, Places]]:
        """Yield the places of regions that touch others, or come as near as a margin; each pair once, in no order.

        The cost grows with the number of pairs whose surroundings touch, not with that of all pairs.
        """
        margin = np.deg2rad(margin_arcsec / 3600.0)
        for own, other in self._near(others, margin):
            for start in range(0, len(own), PAIRS):
                mine, theirs = own[start : start + PAIRS], other[start : start + PAIRS]
                limit = self.radii[mine] + others.radii[theirs] + margin
                touch = _touch(self.vertices[mine], others.vertices[theirs], limit)
                yield mine[touch], theirs[touch]

    def _near(self, others: Regions, margin: float) -> Iterator[tuple[Places, Places]]:
        """Yield the places of regions whose surrounding circles touch."""
        if not len(self) or not len(others):
            return
        reach = float(self.caps.max() + others.caps.max() + margin)
        side = max(2 * np.sin(min(reach, np.pi) / 2), 1e-6) * (1 + 1e-9)
        cells = np.floor(others.middles / side).astype(np.int64)
        keys = _key(cells)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        own = np.floor(self.middles / side).astype(np.int64)
        for step in product((-1, 0, 1), repeat=3):
            wanted = _key(own + np.array(step))
            first, last = np.searchsorted(keys, wanted, "left"), np.searchsorted(keys, wanted, "right")
            counts = last - first
            ends = np.cumsum(counts)
            start = 0
            while start < len(counts):
                # as many regions as have a bounded number of pairs, one at least
                stop = max(
                    int(np.searchsorted(ends, (ends[start - 1] if start else 0) + 20 * PAIRS, "right")), start + 1
                )
                of_some = counts[start:stop]
                mine = np.repeat(np.arange(start, stop), of_some)
                within = np.arange(len(mine)) - np.repeat(np.cumsum(of_some) - of_some, of_some)
                theirs = order[np.repeat(first[start:stop], of_some) + within]
                chords = np.linalg.norm(self.middles[mine] - others.middles[theirs], axis=1)
                limit = np.minimum(self.caps[mine] + others.caps[theirs] + margin, np.pi)
                near = chords <= 2 * np.sin(limit / 2) + 1e-12
                yield mine[near], theirs[near]
                start = stop


def _key(cells: Places) -> Places:
    """Give the cells of a grid numbers of their own: a cell has at most 2 ** 21 neighbours along each axis."""
    shifted = cells + (1 << 20)
    key: Places = (shifted[:, 0] << 42) | (shifted[:, 1] << 21) | shifted[:, 2]
    return key


def _touch(ones: Floats, others: Floats, limit: Floats) -> npt.NDArray[np.bool_]:
    """Say which pairs of polygons touch, or lie apart by a limit at most, radians."""
    one_ends, other_ends = np.roll(ones, -1, axis=1), np.roll(others, -1, axis=1)
    one_normals, other_normals = np.cross(ones, one_ends), np.cross(others, other_ends)
    touch = _holds(one_normals, others[:, 0]) | _holds(other_normals, ones[:, 0])
    touch |= _cross(ones, one_ends, one_normals, others, other_ends, other_normals)
    near = np.flatnonzero(~touch & (limit > 0))
    if len(near):
        to_one = _to_edges(others[near], ones[near], one_ends[near], one_normals[near])
        to_other = _to_edges(ones[near], others[near], other_ends[near], other_normals[near])
        touch[near] = np.minimum(to_one, to_other) <= limit[near]
    return np.asarray(touch)


def _holds(normals: Floats, points: Floats) -> npt.NDArray[np.bool_]:
    """Say whether polygons hold points, one each."""
    inside = (np.einsum("pkc,pc->pk", normals, points) >= 0).all(axis=1)
    area = (np.linalg.norm(normals, axis=2) > 0).sum(axis=1) > 2
    return np.asarray(inside & area)


def _cross(a: Floats, b: Floats, ab: Floats, c: Floats, d: Floats, cd: Floats) -> npt.NDArray[np.bool_]:
    """Say whether an edge from a to b of one polygon crosses one from c to d of the other."""
    c_side, d_side = np.einsum("pic,pjc->pij", ab, c), np.einsum("pic,pjc->pij", ab, d)
    a_side, b_side = np.einsum("pic,pjc->pij", a, cd), np.einsum("pic,pjc->pij", b, cd)
    crossing = (c_side * d_side < 0) & (c_side * b_side > 0) & (c_side * a_side < 0)
    return np.asarray(crossing.any(axis=(1, 2)))


def _to_edges(points: Floats, begins: Floats, ends: Floats, normals: Floats) -> Floats:
    """Return how far the nearest of some points lies from the edges of a polygon, of each pair, radians."""
    chords = np.linalg.norm(points[:, :, None] - begins[:, None], axis=3).min(axis=(1, 2))
    corner = 2 * np.arcsin(np.minimum(chords / 2, 1))
    lengths = np.linalg.norm(normals, axis=2, keepdims=True)
    units = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0)
    after = np.einsum("pic,pjc->pij", points, np.cross(units, begins)) > 0
    before = np.einsum("pic,pjc->pij", points, np.cross(ends, units)) > 0
    sines = np.abs(np.einsum("pic,pjc->pij", points, units))
    beside = np.where(after & before, np.arcsin(np.minimum(sines, 1)), np.pi).min(axis=(1, 2))
    nearest: Floats = np.minimum(corner, beside)
    return nearest
