"""Simulate a small survey: overlapping images of one field, each with a background level and gradient of its own.

``python -m examples.montage.simulate --output DIR`` writes ``raw/`` with one FITS file an image, ``truth.fits`` with
the sky of the whole region without noise and background, on the pixels that ``region.hdr`` beside this module
describes, and ``truth.ecsv`` with its stars. The same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from examples.stars import Image, star_light

REGION: Final = Path(__file__).parent / "region.hdr"
"""The pixels of the whole mosaic, as Montage describes them."""
SHAPE: Final = (240, 240)
"""Rows and columns of one image."""
SPACING: Final = 178
"""Pixels between the centres of neighbours: about a quarter of each image is in the next one as well."""
COLUMNS: Final = 3
ROWS: Final = 2
PIXEL_SCALE: Final = 1.0
"""Arcseconds."""
FWHM: Final = 3.5
"""Of the stars, pixels."""
NOISE: Final = 2.0
"""ADU."""


@dataclass(frozen=True)
class Shot:
    """One image of the survey."""

    number: int
    begins_at: datetime
    centre: tuple[float, float]
    """Degrees."""
    angle: float
    """From north through east to up, degrees."""
    level: float
    """Of the background at the centre, ADU."""
    slope: tuple[float, float]
    """ADU from edge to edge along x and y."""

    @property
    def wcs(self) -> WCS:
        """The map between its pixels (from 1) and the sky."""
        turned = np.radians(self.angle)
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.cunit = ["deg", "deg"]
        wcs.wcs.crval = self.centre
        wcs.wcs.crpix = [(size + 1) / 2 for size in reversed(SHAPE)]
        wcs.wcs.cdelt = (-PIXEL_SCALE / 3600, PIXEL_SCALE / 3600)
        wcs.wcs.pc = [[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]]
        wcs.wcs.radesys, wcs.wcs.equinox = "FK5", 2000.0
        return wcs

    @property
    def background(self) -> Image:
        """ADU in each pixel."""
        rows, columns = (axis / (size - 1) - 0.5 for axis, size in zip(np.indices(SHAPE), SHAPE, strict=True))
        return np.asarray(self.level + self.slope[0] * columns + self.slope[1] * rows)


def region() -> tuple[WCS, tuple[int, int]]:
    """Give the map and the shape (rows, columns) of the whole mosaic."""
    header = fits.Header.fromtextfile(REGION)
    return WCS(header), (header["NAXIS2"], header["NAXIS1"])


def plan_survey(seed: int) -> list[Shot]:
    """Lay out the images: a grid over the region, each shifted and turned a little."""
    rng = np.random.default_rng([seed, 1])
    wcs, (rows, columns) = region()
    first = datetime(2026, 2, 14, 2, 0, tzinfo=UTC)
    shots = []
    for index in range(ROWS * COLUMNS):
        row, column = divmod(index, COLUMNS)
        x = (columns + 1) / 2 + (column - (COLUMNS - 1) / 2) * SPACING + rng.uniform(-6, 6)
        y = (rows + 1) / 2 + (row - (ROWS - 1) / 2) * SPACING + rng.uniform(-6, 6)
        ra, dec = (float(value) for value in wcs.all_pix2world(x, y, 1))
        shots.append(
            Shot(
                number=101 + index,
                begins_at=first + timedelta(seconds=90 * index),
                centre=(ra, dec),
                angle=float(rng.uniform(-4, 4)),
                level=float(rng.uniform(200, 900)),
                slope=(float(rng.uniform(-40, 40)), float(rng.uniform(-40, 40))),
            )
        )
    return shots


def make_sky(seed: int) -> Table:
    """Make the stars of the region: columns star, ra, dec (degrees), light (ADU in all its pixels)."""
    rng = np.random.default_rng([seed, 2])
    wcs, (rows, columns) = region()
    axes = np.meshgrid(np.arange(-20, columns + 20, 36.0), np.arange(-20, rows + 20, 36.0))
    x, y = (axis.ravel() + rng.uniform(-8, 8, axis.size) for axis in axes)
    ra, dec = wcs.all_pix2world(x, y, 1)
    return Table({"star": np.arange(1, x.size + 1), "ra": ra, "dec": dec, "light": 10 ** rng.uniform(3, 4.7, x.size)})


def sky_light(wcs: WCS, shape: tuple[int, int], stars: Table) -> Image:
    """Give stars and a nebula as they fall on pixels, ADU."""
    x, y = wcs.all_world2pix(stars["ra"], stars["dec"], 1)
    light = star_light(x, y, np.asarray(stars["light"]), fwhm=FWHM, shape=shape)
    rows, columns = np.indices(shape)
    sky, _ = region()
    east, north = sky.all_world2pix(*wcs.all_pix2world(columns + 1, rows + 1, 1), 1)
    x0, y0 = sky.wcs.crpix
    return np.asarray(light + 60 * np.exp(-(((east - x0) / 120) ** 2) - ((north - y0) / 80) ** 2))


def simulate(shots: list[Shot], output: Path, *, seed: int) -> Iterator[Path]:
    """Write the truth and the images; yields the path of each image as it is written."""
    stars = make_sky(seed)
    folder = output / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    wcs, shape = region()
    truth = sky_light(wcs, shape, stars).astype(np.float32)
    fits.PrimaryHDU(truth, wcs.to_header()).writeto(output / "truth.fits", overwrite=True)
    stars.write(output / "truth.ecsv", overwrite=True)
    for shot in shots:
        rng = np.random.default_rng([seed, 3, shot.number])
        adu = sky_light(shot.wcs, SHAPE, stars) + shot.background + rng.normal(0, NOISE, SHAPE)
        header = shot.wcs.to_header()
        header["INSTRUME"] = ("nmsurvey", "simulated camera")
        header["OBS_ID"] = (shot.number, "number of the image")
        header["DATE-OBS"] = (shot.begins_at.isoformat(timespec="milliseconds")[:23], "start of the exposure")
        header["BUNIT"] = ("adu", "unit of the pixels")
        path = folder / f"survey_{shot.number:04d}.fits"
        fits.PrimaryHDU(adu.astype(np.float32), header).writeto(path, overwrite=True)
        yield path


def main(arguments: list[str] | None = None) -> None:
    """Simulate a survey from the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.montage.simulate", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write into")
    parser.add_argument("--seed", type=int, default=42, help="of all random numbers (default %(default)s)")
    options = parser.parse_args(arguments)
    images = sum(1 for _ in simulate(plan_survey(options.seed), options.output, seed=options.seed))
    print(f"{images} images in {options.output}")


if __name__ == "__main__":
    main()
