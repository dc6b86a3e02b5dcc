"""Which part of the sky a file covers, and how a site cuts the sky into tiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from nightmill.model.base import Frozen


class Footprint(Frozen):
    """A part of the sky: a convex polygon with great circles as its edges, or a circle."""

    vertices: tuple[tuple[float, float], ...]
    """Right ascension and declination of each corner, degrees, ICRS; a single one is the centre of a circle."""
    radius_deg: float = 0.0
    """Of the circle, degrees; 0 for a polygon."""


class FootprintKeys(Frozen):
    """The keys of metadata that tell where a file lies, where its header has no WCS that does."""

    keys: tuple[str, ...]
    """Right ascension, declination and radius of a circle, or right ascension and declination of each corner, in their
    order around; degrees, ICRS."""


class Ring(Frozen):
    """A ring of tiles between two parallels, of equal length, from right ascension 0 on."""

    south: float = Field(ge=-90, le=90)
    """Declination where it begins, degrees."""
    north: float = Field(ge=-90, le=90)
    """Declination where it ends, degrees."""
    count: int = Field(ge=1)
    """How many tiles; one alone is a cap around a pole."""


class Healpix(Frozen):
    """The pixels of HEALPix."""

    nside: int = Field(ge=1, le=64)
    """The resolution, a power of 2: 12 times its square are the tiles."""
    order: Literal["nested", "ring"] = "nested"
    """How pixels are numbered."""


class Tiling(Frozen):
    """How the sky is cut into tiles; in one of three ways."""

    rings: tuple[Ring, ...] = ()
    """Tiles ``r003t0012``: of ring 3 that with the number 12, both from 0."""
    healpix: Healpix | None = None
    """Tiles ``p000123``: the pixel of that number."""
    polygons: Mapping[str, tuple[tuple[float, float], ...]] = Field(default_factory=dict)
    """Corners of each tile, by its name: right ascension and declination in degrees, ICRS. In YAML, the path of a table
    of CSV with the columns tile, ra and dec, a corner a row."""


class TilingMargin(Frozen):
    """The tiles that a file touches, or comes near to."""

    tiling: str
    """Name of a tiling of the site."""
    margin_arcsec: float = Field(default=0.0, ge=0, le=3_600_000)
    """How near is near enough, arcseconds."""
