"""Which part of the sky a file covers, by its WCS or by keys of its metadata."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from nightmill.errors import BadFile
from nightmill.files.reading import StrPath
from nightmill.model.content import Section
from nightmill.model.file_type import FileType
from nightmill.model.footprint import Footprint
from nightmill.model.journal import MetadataValue

EDGE: Final = 8
"""So many places of each edge of an image are looked at: distortions bend it."""
CIRCLE: Final = 3
"""So many keys tell a circle."""
_WCS: Final = re.compile(
    r"WCSAXES|CTYPE\d|CRVAL\d|CRPIX\d|CUNIT\d|CDELT\d|CROTA\d|(CD|PC)\d_\d|P[VS]\d_\d+|LONPOLE|LATPOLE|RADECSYS|RADESYS"
    r"|EQUINOX|EPOCH|[AB]P?_(ORDER|\d_\d)"
)
_AXES: Final = (("ZNAXIS1", "ZNAXIS2"), ("NAXIS1", "NAXIS2"), ("IMAGEW", "IMAGEH"))
"""Where the size of the image stands that a WCS is about: inside a compressed one, of an image, of a table."""


def footprints_of(
    path: StrPath, file_type: FileType, sections: Sequence[Section], values: Mapping[str, MetadataValue]
) -> tuple[Footprint, ...]:
    """Return which parts of the sky a file covers: one an image, where its type wants to know.

    Parameters
    ----------
    path
        What messages call it.
    sections
        Its headers.
    values
        Its metadata.

    Raises
    ------
    BadFile
        Where they cannot be told.
    """
    if file_type.footprint is None:
        return ()
    try:
        if file_type.footprint != "wcs":
            return (_of_keys(file_type.footprint.keys, values),)
        found = tuple(_of_sections(sections))
    except ValueError as error:
        raise _refused(path, str(error)) from error
    if not found:
        raise _refused(path, "it has no image with a celestial WCS")
    return found


def polygon(vertices: Any) -> Footprint:
    """Return the smallest convex polygon around some unit vectors, n × 3.

    Raises
    ------
    ValueError
        As :func:`nightmill.files.sphere.hull`.
    """
    from nightmill.files import sphere

    ra, dec = sphere.angles(sphere.hull(vertices))
    return Footprint(vertices=tuple(zip(ra.tolist(), dec.tolist(), strict=True)))


def corners(places: Sequence[tuple[float, float]]) -> Footprint:
    """Return the polygon with some corners, given in degrees.

    Raises
    ------
    ValueError
        Where they are not on the sky, or not those of a convex polygon.
    """
    from nightmill.files import sphere

    if not all(-90 <= dec <= 90 and -360 <= ra <= 720 for ra, dec in places):
        raise ValueError("a corner is not on the sky")
    found = polygon(sphere.vectors(*zip(*places, strict=True)))
    if len(found.vertices) < len(places):
        raise ValueError("its corners are not those of a convex polygon")
    return found


def _of_keys(keys: Sequence[str], values: Mapping[str, MetadataValue]) -> Footprint:
    numbers = [float(value) for key in keys if (value := values.get(key)) is not None]
    if len(numbers) < len(keys):
        raise ValueError(f"it has no {' and '.join(key for key in keys if values.get(key) is None)}")
    if len(numbers) != CIRCLE:
        return corners(list(zip(numbers[::2], numbers[1::2], strict=True)))
    ra, dec, radius = numbers
    if not -90 <= dec <= 90 or not -360 <= ra <= 720 or not 0 <= radius <= 80:
        raise ValueError(
            f"a circle around {ra:g},{dec:g} of {radius:g} degrees is not a part of the sky, of 80 at most"
        )
    return Footprint(vertices=((ra % 360.0, dec),), radius_deg=radius)


def _of_sections(sections: Sequence[Section]) -> Iterator[Footprint]:
    for section in sections:
        if section.get("CTYPE1") is None:
            continue
        sizes = [[section.get(axis) for axis in axes] for axes in _AXES]
        size = [
            each for each in next((each for each in sizes if None not in each), []) if isinstance(each, int | float)
        ]
        if len(size) < 2 or section.get("NAXIS") == 0 or min(size) < 1:
            continue
        try:
            found = _of_wcs(section, *size)
        except ValueError as error:
            raise ValueError(f"the WCS of HDU {section.number} tells no footprint: {error}") from error
        if found is not None:
            yield found


def _of_wcs(section: Section, width: float, height: float) -> Footprint | None:
    """Return what an image covers; None where its WCS is not celestial."""
    import numpy as np
    from astropy.coordinates import ICRS, SkyCoord  # a second, for who has such files alone
    from astropy.io.fits import Header
    from astropy.wcs import WCS
    from astropy.wcs.utils import wcs_to_celestial_frame

    from nightmill.files import sphere

    header = Header()
    for keyword, value in section.items():
        if _WCS.fullmatch(keyword):
            is_degrees = keyword.startswith("CUNIT") and str(value).lower().startswith("deg")
            header[{"RADECSYS": "RADESYS"}.get(keyword, keyword)] = "deg" if is_degrees else value
    try:
        wcs = WCS(header, fix=False)
        if not wcs.has_celestial:
            return None
        steps = np.linspace(0, 1, EDGE, endpoint=False)
        ones, zeros = np.ones(EDGE), np.zeros(EDGE)
        x = 0.5 + width * np.concatenate([steps, ones, 1 - steps, zeros])
        y = 0.5 + height * np.concatenate([zeros, steps, ones, 1 - steps])
        others = [np.full(4 * EDGE, axis) for axis in wcs.wcs.crpix[2:]]
        world = wcs.all_pix2world(*(x, y, *others)[: wcs.naxis], 1)
        lon, lat = (np.asarray(world[axis], float) for axis in (wcs.wcs.lng, wcs.wcs.lat))
        if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
            raise ValueError("an edge of the image is not on the sky")
        frame = wcs_to_celestial_frame(wcs)
        if not isinstance(frame, ICRS):
            sky = SkyCoord(lon, lat, unit="deg", frame=frame).icrs
            lon, lat = sky.ra.deg, sky.dec.deg
    except MemoryError:
        raise
    except Exception as error:  # of wcslib, whose errors have no common kind, and many lines
        lines = [line for line in str(error).splitlines() if not line.startswith("ERROR")]
        raise ValueError((lines or [type(error).__name__])[-1].strip()) from error
    return polygon(sphere.vectors(lon, lat))


def _refused(path: StrPath, why: str) -> BadFile:
    return BadFile(f"{path}: {why}", reason="no_footprint", remedy="see 'footprint' of its file type")
