"""Simulate exposures of a camera with distortion: reduced images with weight maps, and a reference catalogue.

``python -m examples.terapix.simulate --output DIR`` writes ``images/`` and ``weights/`` with one FITS file an exposure,
``reference.fits`` with the stars that an earlier survey knows, as SCAMP reads it, and ``truth.ecsv`` with the place and
magnitude of every star. The headers know the pointing to some arcseconds, and nothing of the distortion. The same seed
gives the same bytes.
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
from astropy.time import Time
from astropy.wcs import WCS, Sip

from examples.stars import Image, star_light

SHAPE: Final = (768, 768)
"""Rows and columns."""
PIXEL_SCALE: Final = 0.5
"""Arcseconds."""
FIELD: Final = (150.1, 2.2)
"""Centre of all exposures, degrees."""
STEP: Final = (450, 300)
"""Pixels between neighbouring pointings, east and north."""
DISTORTION: Final = 3.0
"""Pixels at a corner: radial, with a little that is not."""
POINTING_ERROR: Final = 4.0
"""Arcseconds, at most, along each axis."""
BAND: Final = "r"
ZERO_POINT: Final = 26.0
"""Magnitude of a star that gives one ADU a second on the clearest exposure."""
SECONDS: Final = 100.0
SKY: Final = 2000.0
"""ADU a pixel."""
GAIN: Final = 2.0
"""Electrons an ADU."""
SATURATION: Final = 60000.0
"""ADU."""


@dataclass(frozen=True)
class Exposure:
    """One image."""

    number: int
    begins_at: datetime
    pointing: tuple[float, float]
    """Where it really is, degrees."""
    error: tuple[float, float]
    """What its header has more, arcseconds east and north."""
    angle: float
    """From north through east to up, degrees."""
    fwhm: float
    """Of the stars, pixels."""
    cloud: float
    """Magnitudes that are lost."""

    @property
    def name(self) -> str:
        """Without its ending."""
        return f"tx{self.number:06d}"

    @property
    def true_wcs(self) -> WCS:
        """The map between its pixels (from 1) and the sky."""
        wcs = self._linear(self.pointing)
        wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
        half = SHAPE[0] / 2
        a, b = np.zeros((4, 4)), np.zeros((4, 4))
        cubic = DISTORTION / np.sqrt(2) / (2 * half**3)
        a[3, 0] = a[1, 2] = b[0, 3] = b[2, 1] = cubic
        a[2, 0], b[1, 1] = 0.15 * DISTORTION / half**2, -0.1 * DISTORTION / half**2
        wcs.sip = Sip(a, b, None, None, wcs.wcs.crpix)
        return wcs

    @property
    def header_wcs(self) -> WCS:
        """What the telescope says."""
        ra, dec = self.pointing
        east, north = (arcsec / 3600 for arcsec in self.error)
        return self._linear((ra + east / float(np.cos(np.radians(dec))), dec + north))

    def _linear(self, pointing: tuple[float, float]) -> WCS:
        turned = np.radians(self.angle)
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.cunit = ["deg", "deg"]
        wcs.wcs.crval = pointing
        wcs.wcs.crpix = [(size + 1) / 2 for size in reversed(SHAPE)]
        turn = np.array([[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]])
        wcs.wcs.cd = np.diag([-PIXEL_SCALE, PIXEL_SCALE]) / 3600 @ turn
        wcs.wcs.radesys, wcs.wcs.equinox = "ICRS", 2000.0
        return wcs

    def faintness(self, magnitude: Image) -> Image:
        """Give the ADU in all pixels of stars of such magnitudes."""
        return np.asarray(SECONDS * 10 ** (-0.4 * (magnitude + self.cloud - ZERO_POINT)))


def plan_exposures(*, seed: int, exposures: int) -> list[Exposure]:
    """Lay out exposures in rows of three, each over a part of the last; some through thin cloud."""
    rng = np.random.default_rng([seed, 1])
    first = datetime(2026, 3, 20, 1, 30, tzinfo=UTC)
    done = []
    for index in range(exposures):
        column, row = index % 3 - 1, index // 3 % 2 - 0.5
        east, north = (np.array(STEP) * (column, row) + rng.uniform(-20, 20, 2)) * PIXEL_SCALE / 3600
        ra, dec = FIELD[0] + float(east / np.cos(np.radians(FIELD[1]))), FIELD[1] + float(north)
        done.append(
            Exposure(
                number=700001 + index,
                begins_at=first + timedelta(seconds=index * (SECONDS + 25)),
                pointing=(ra, dec),
                error=(float(rng.uniform(-1, 1) * POINTING_ERROR), float(rng.uniform(-1, 1) * POINTING_ERROR)),
                angle=float(rng.uniform(-0.3, 0.3)),
                fwhm=float(rng.uniform(2.8, 3.6)),
                cloud=float(rng.choice([0.0, 0.0, 0.12, 0.25])) if index else 0.0,
            )
        )
    return done


def make_stars(seed: int) -> Table:
    """Make the stars of the field: columns star, ra, dec (degrees), mag."""
    rng = np.random.default_rng([seed, 2])
    half_x, half_y = STEP[0] + SHAPE[1] / 2 + 60, STEP[1] / 2 + SHAPE[0] / 2 + 60
    axes = np.meshgrid(np.arange(-half_x, half_x, 42.0), np.arange(-half_y, half_y, 42.0))
    east, north = (axis.ravel() + rng.uniform(-13, 13, axis.size) for axis in axes)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], FIELD, [0.0, 0.0]
    wcs.wcs.cdelt = (PIXEL_SCALE / 3600, PIXEL_SCALE / 3600)
    ra, dec = wcs.all_pix2world(east, north, 0)
    magnitude = np.clip(17.5 + 5 * rng.power(1.8, east.size), None, 22.5)
    return Table({"star": np.arange(1, east.size + 1), "ra": ra, "dec": dec, "mag": magnitude})


def make_image(exposure: Exposure, stars: Table, rng: np.random.Generator) -> tuple[Image, Image]:
    """Give the image (ADU, its flat field corrected) and its weight map (0: no information)."""
    x, y = exposure.true_wcs.all_world2pix(stars["ra"], stars["dec"], 1, tolerance=1e-5)
    light = star_light(x, y, exposure.faintness(np.asarray(stars["mag"])), fwhm=exposure.fwhm, shape=SHAPE)
    rows, columns = (axis / SHAPE[0] - 0.5 for axis in np.indices(SHAPE))
    response = 1 - 0.2 * (rows**2 + columns**2)
    expected = SKY * (1 + 0.02 * columns) + light
    image = expected + rng.normal(0, 1, SHAPE) * np.sqrt((expected / GAIN + 9) / response)
    bad = rng.random(SHAPE) < 0.001
    bad[:, 300 + exposure.number % 7] = True
    image[bad] = rng.uniform(0, SATURATION, int(bad.sum()))
    return image, np.where(bad, 0.0, response)


def make_header(exposure: Exposure) -> fits.Header:
    """Make the header that reduced images have, whose WCS is the telescope's guess."""
    header = fits.Header()
    header["TELESCOP"] = ("NM 1.0m", "simulated telescope")
    header["INSTRUME"] = ("nmwide", "camera")
    header["EXPNUM"] = (exposure.number, "number of the exposure")
    header["OBJECT"] = ("deep field", "what was pointed at")
    header["FILTER"] = (BAND, "filter")
    header["DATE-OBS"] = (exposure.begins_at.isoformat(timespec="milliseconds")[:23], "start of the exposure")
    header["MJD-OBS"] = (round(float(Time(exposure.begins_at).mjd), 6), "[d] start of the exposure")
    header["EXPTIME"] = (SECONDS, "[s] exposure time")
    header["GAIN"] = (GAIN, "[electron/adu] gain")
    header["SATURATE"] = (SATURATION, "[adu] saturation")
    header["AIRMASS"] = (1.1, "airmass")
    header["PHOT_C"] = (ZERO_POINT, "[mag] zero point by clear sky, 1 adu/s")
    header["PHOT_K"] = (0.0, "[mag] extinction an airmass")
    header["PHOTFLAG"] = (exposure.cloud == 0, "sky is clear")
    header.update(exposure.header_wcs.to_header())
    return header


def write_reference(path: Path, stars: Table, rng: np.random.Generator) -> None:
    """Write the brighter stars as SCAMP reads a reference catalogue: FITS_LDAC, with errors as Gaia has them."""
    bright = stars[stars["mag"] < 21.5]
    error = np.full(len(bright), 0.01 / 3600)
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("X_WORLD", "D", unit="deg", array=bright["ra"]),
            fits.Column("Y_WORLD", "D", unit="deg", array=bright["dec"]),
            fits.Column("ERRA_WORLD", "E", unit="deg", array=error),
            fits.Column("ERRB_WORLD", "E", unit="deg", array=error),
            fits.Column("MAG", "E", unit="mag", array=bright["mag"] + rng.normal(0, 0.02, len(bright))),
            fits.Column("MAGERR", "E", unit="mag", array=np.full(len(bright), 0.02)),
            fits.Column("OBSDATE", "D", unit="yr", array=np.full(len(bright), 2026.0)),
        ],
        name="LDAC_OBJECTS",
    )
    cards = fits.PrimaryHDU().header.tostring(padding=False)
    header = fits.BinTableHDU.from_columns(
        [fits.Column("Field Header Card", f"{len(cards)}A", array=[cards])], name="LDAC_IMHEAD"
    )
    fits.HDUList([fits.PrimaryHDU(), header, table]).writeto(path, overwrite=True)


def simulate(exposures: list[Exposure], output: Path, *, seed: int) -> Iterator[Path]:
    """Write the catalogues, and images with their weight maps; yields each image as it is written."""
    for name in ("images", "weights"):
        (output / name).mkdir(parents=True, exist_ok=True)
    stars = make_stars(seed)
    stars.write(output / "truth.ecsv", overwrite=True)
    write_reference(output / "reference.fits", stars, np.random.default_rng([seed, 3]))
    for exposure in exposures:
        image, weight = make_image(exposure, stars, np.random.default_rng([seed, 4, exposure.number]))
        header = make_header(exposure)
        path = output / "images" / f"{exposure.name}.fits"
        fits.PrimaryHDU(image.astype(np.float32), header).writeto(path, overwrite=True)
        fits.PrimaryHDU(weight.astype(np.float32), header).writeto(
            output / "weights" / f"{exposure.name}.weight.fits", overwrite=True
        )
        yield path


def main(arguments: list[str] | None = None) -> None:
    """Simulate exposures from the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.terapix.simulate", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write into")
    parser.add_argument("--seed", type=int, default=7, help="of all random numbers (default %(default)s)")
    parser.add_argument("--exposures", type=int, default=6, help="(default %(default)s)")
    options = parser.parse_args(arguments)
    planned = plan_exposures(seed=options.seed, exposures=options.exposures)
    images = sum(1 for _ in simulate(planned, options.output, seed=options.seed))
    print(f"{images} images with weight maps in {options.output}")


if __name__ == "__main__":
    main()
