"""Which part of the sky a file covers: what its WCS says, to the arcsecond, or a refusal that says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from lsst import sphgeom

from nightmill.errors import BadFile
from nightmill.files.inspection import inspect_file
from nightmill.files.sphere import vectors
from nightmill.model.file_type import FileType, MetadataKey
from nightmill.model.footprint import Footprint, FootprintKeys

WITH_WCS = FileType(name="image", format="fits", footprint="wcs")


def wcs_header(
    ra: float = 150.0, dec: float = 2.0, *, kind: str = "TAN", scale: float = 0.01, **more: Any
) -> fits.Header:
    """Give the header of an image of 100 × 50 pixels around a place."""
    header = fits.Header()
    for axis, (name, value, middle) in enumerate([("RA--", ra, 50.5), ("DEC-", dec, 25.5)], start=1):
        header[f"CTYPE{axis}"] = f"{name}-{kind}"
        header[f"CRVAL{axis}"] = value
        header[f"CRPIX{axis}"] = middle
        header[f"CUNIT{axis}"] = "deg"
    header["CD1_1"], header["CD1_2"], header["CD2_1"], header["CD2_2"] = -scale, 0.0, 0.0, scale
    header.update(more)
    return header


def write(path: Path, *headers: fits.Header | None) -> Path:
    """Write a FITS file with an image for each header."""
    data = np.zeros((50, 100), "int16")
    first, *others = [(None if header is None else data, header) for header in headers]
    hdus = [fits.PrimaryHDU(*first), *(fits.ImageHDU(*each) for each in others)]
    fits.HDUList(hdus).writeto(path)
    return path


def footprints(path: Path, file_type: FileType = WITH_WCS) -> tuple[Footprint, ...]:
    return inspect_file(path, file_type).footprints


def holds(footprint: Footprint, ra: Any, dec: Any) -> list[bool]:
    """Say which places a footprint holds, as others work it out."""
    corners = [sphgeom.UnitVector3d(*map(float, vectors(*vertex))) for vertex in footprint.vertices]
    polygon = sphgeom.ConvexPolygon(corners)
    return [polygon.contains(sphgeom.UnitVector3d(*map(float, each))) for each in vectors(ra, dec)]


@pytest.mark.parametrize(("ra", "dec"), [(150, 2), (0, 0), (359.999, -45), (10, 89.9), (200, -90)])
def test_an_image_covers_what_its_wcs_says(tmp_path: Path, ra: float, dec: float) -> None:
    """X08: corners of a plain projection, poles and RA 0 included."""
    header = wcs_header(ra, dec)
    [found] = footprints(write(tmp_path / "image.fits", header))
    wanted = SkyCoord(WCS(header).calc_footprint(axes=(100, 50), center=False), unit="deg")
    corners = SkyCoord(found.vertices, unit="deg")
    assert len(corners) == 4
    assert max(wanted.match_to_catalog_sky(corners)[1].arcsec) < 1e-3


DISTORTED = {
    "SIP": wcs_header(kind="TAN-SIP", A_ORDER=2, B_ORDER=2, A_2_0=3e-4, B_0_2=-2e-4, A_1_1=1e-4),
    "TPV": wcs_header(kind="TPV", PV1_1=1.0, PV2_1=1.0, PV1_4=0.02, PV2_4=-0.03),
    "galactic": wcs_header(CTYPE1="GLON-CAR", CTYPE2="GLAT-CAR", CRVAL2=0.0),
    "FK5": wcs_header(RADESYS="FK5", EQUINOX=1975.0),
    "degrees": wcs_header(CUNIT1="degree", CUNIT2="degrees"),
    "old": wcs_header(RADECSYS="ICRS"),
}


@pytest.mark.parametrize("kind", DISTORTED)
def test_every_pixel_lies_within_whatever_the_projection(tmp_path: Path, kind: str) -> None:
    """X08: TPV and SIP too; the edges are bent, and the footprint holds them."""
    [found] = footprints(write(tmp_path / "image.fits", DISTORTED[kind]))
    header = DISTORTED[kind].copy()
    header["CUNIT1"] = header["CUNIT2"] = "deg"
    header["RADESYS"] = header.pop("RADECSYS", header.get("RADESYS", "ICRS"))
    x, y = np.meshgrid(np.linspace(0.501, 100.499, 21), np.linspace(0.501, 50.499, 11))
    sky = WCS(header).pixel_to_world(x.ravel() - 1, y.ravel() - 1).icrs
    held = holds(found, sky.ra.deg, sky.dec.deg)
    assert sum(held) >= len(held) - (4 if kind in ("SIP", "TPV", "galactic") else 0)  # between the places looked at
    x, y = np.array([-3.0, 104.0, 50.0, 50.0]), np.array([25.0, 25.0, -3.0, 54.0])
    outside = WCS(header).pixel_to_world(x, y).icrs
    assert not any(holds(found, outside.ra.deg, outside.dec.deg))


def test_a_file_of_several_images_covers_several_parts(tmp_path: Path) -> None:
    path = write(tmp_path / "mef.fits", None, wcs_header(10, 0), fits.Header(), wcs_header(20, 0))
    found = footprints(path)
    assert [round(np.mean([ra for ra, _dec in each.vertices]), 6) for each in found] == [10, 20]


def test_a_compressed_image_covers_what_it_does_as_it_is(tmp_path: Path) -> None:
    plain = footprints(write(tmp_path / "plain.fits", wcs_header()))
    packed = tmp_path / "packed.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.zeros((50, 100), "int16"), wcs_header())]).writeto(packed)
    assert footprints(packed) == plain


def test_a_cube_covers_what_its_sky_axes_do(tmp_path: Path) -> None:
    header = wcs_header()
    header["CTYPE3"], header["CRVAL3"], header["CRPIX3"], header["CDELT3"], header["CUNIT3"] = "FREQ", 1e9, 1, 1e6, "Hz"
    header["CD3_3"] = 1e6
    path = tmp_path / "cube.fits"
    fits.PrimaryHDU(np.zeros((3, 50, 100), "int16"), header).writeto(path)
    [found], [flat] = footprints(path), footprints(write(tmp_path / "flat.fits", wcs_header()))
    assert np.allclose(found.vertices, flat.vertices)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (fits.Header(), "it has no image with a celestial WCS"),
        (wcs_header(CTYPE1="WAVE", CTYPE2="LINEAR", CUNIT1="m"), "it has no image with a celestial WCS"),
        (wcs_header(scale=30.0), "it reaches farther than 80 degrees from its middle"),
        (wcs_header(kind="CAR", scale=2.0), "it reaches farther than 80 degrees from its middle"),
        (wcs_header(kind="AIT", scale=10.0), "an edge of the image is not on the sky"),
        (wcs_header(CD1_1=0.0, CD2_2=0.0), "the WCS of HDU 0 tells no footprint: PCi_ja matrix is singular."),
        (wcs_header(CTYPE2="DEC--XYZ"), "the WCS of HDU 0 tells no footprint"),
    ],
)
def test_a_wcs_that_tells_no_part_of_the_sky_is_refused(tmp_path: Path, header: fits.Header, told: str) -> None:
    with pytest.raises(BadFile) as caught:
        footprints(write(tmp_path / "image.fits", header))
    assert caught.value.reason == "no_footprint"
    assert told in caught.value.message


KEYS = {name: MetadataKey(keywords=(name.upper(),), type="float") for name in ("a", "b", "c", "d", "e", "f", "g", "h")}


def by_keys(*names: str) -> FileType:
    return FileType(name="field", format="fits", metadata=KEYS, footprint=FootprintKeys(keys=names))


def header_of(**values: float) -> fits.Header:
    return fits.Header([(name.upper(), value) for name, value in values.items()])


def test_keys_tell_a_circle_or_corners(tmp_path: Path) -> None:
    path = write(tmp_path / "field.fits", header_of(a=-10, b=5, c=0.5))
    assert footprints(path, by_keys("a", "b", "c")) == (Footprint(vertices=((350.0, 5.0),), radius_deg=0.5),)
    corners = header_of(a=359, b=-1, c=359, d=1, e=1, f=1, g=1, h=-1)
    [found] = footprints(write(tmp_path / "corners.fits", corners), by_keys(*KEYS))
    assert sorted((round(ra, 6), round(dec, 6)) for ra, dec in found.vertices) == [(1, -1), (1, 1), (359, -1), (359, 1)]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"a": 1, "b": 5}, "it has no c"),
        ({"a": 1, "b": 95, "c": 1}, "a circle around 1,95 of 1 degrees is not a part of the sky"),
        ({"a": 1, "b": 5, "c": -1}, "of -1 degrees is not a part of the sky"),
        ({"a": 1e300, "b": 5, "c": 1}, "is not a part of the sky"),
    ],
)
def test_keys_that_tell_no_part_of_the_sky_are_refused(tmp_path: Path, values: dict[str, float], told: str) -> None:
    with pytest.raises(BadFile, match=r"field\.fits: ") as caught:
        footprints(write(tmp_path / "field.fits", header_of(**values)), by_keys("a", "b", "c"))
    assert told in caught.value.message


def test_corners_that_are_not_convex_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "field.fits", header_of(a=0, b=0, c=2, d=0, e=1, f=0.5, g=1, h=2))
    with pytest.raises(BadFile, match="its corners are not those of a convex polygon"):
        footprints(path, by_keys(*KEYS))
