"""Simulate one night of the camera "nmcam": biases, dome flats, and science exposures with known stars.

``python -m examples.ccd.simulate --output DIR`` writes ``bias/``, ``flat/`` and ``science/`` with one FITS file an
exposure and detector, and ``truth.ecsv`` with the place and brightness of every star on every science frame. The same
seed and options give the same bytes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
from astropy.coordinates import Angle
from astropy.io import fits
from astropy.table import Table, vstack
from astropy.time import Time
from astropy.wcs import WCS
from numpy.typing import NDArray

from examples.ccd.camera import (
    BANDS,
    DETECTORS,
    GAP,
    NAME,
    PIXEL_SCALE,
    SATURATION,
    SHAPE,
    Detector,
    make_detectors,
)
from examples.stars import Image, star_light

FIELD: Final = (83.8, -5.4)
"""Right ascension and declination of the field, degrees."""
STAR_SPACING: Final = 40
"""Pixels between stars, about: none touch."""
READ_OUT_SECONDS: Final = 30


@dataclass(frozen=True)
class Exposure:
    """One opening of the shutter: all detectors at once."""

    number: int
    kind: str
    """``bias``, ``flat`` or ``science``."""
    band: str
    """Empty for a bias."""
    begins_at: datetime
    seconds: float
    pointing: tuple[float, float] = FIELD
    airmass: float = 1.0
    fwhm: float = 3.0
    """Of the stars, pixels."""


def plan_night(
    night: int, *, seed: int, first: int, biases: int, flats: int, exposures: int, seconds: float
) -> list[Exposure]:
    """Lay out a night: biases and flats in the afternoon, then science exposures with the bands in turn.

    Parameters
    ----------
    night
        The local date on which it begins, YYYYMMDD.
    first
        Number of the first exposure.
    flats
        Flats in each band.
    """
    rng = np.random.default_rng([seed, 2, night])
    bands = list(BANDS)
    plans = [("bias", "", 0.0)] * biases
    plans += [("flat", band, 5.0) for band in bands for _ in range(flats)]
    plans += [("science", bands[index % len(bands)], seconds) for index in range(exposures)]
    afternoon = datetime.strptime(str(night), "%Y%m%d").replace(tzinfo=UTC) + timedelta(hours=20)
    dusk = afternoon + timedelta(hours=5)
    clock, done = afternoon, []
    for number, (kind, band, length) in enumerate(plans, start=first):
        if kind == "science":
            clock = max(clock, dusk)
        hours_from_zenith = (clock - dusk) / timedelta(hours=1) - 0.5
        dither = rng.uniform(-15, 15, 2) * PIXEL_SCALE / 3600
        done.append(
            Exposure(
                number=number,
                kind=kind,
                band=band,
                begins_at=clock,
                seconds=length,
                pointing=(FIELD[0] + dither[0] / np.cos(np.radians(FIELD[1])), FIELD[1] + dither[1]),
                airmass=round(float(1 / np.cos(np.radians(20 + 15 * hours_from_zenith))), 3),
                fwhm=float(rng.uniform(2.6, 3.4)),
            )
        )
        clock += timedelta(seconds=length + READ_OUT_SECONDS)
    return done


def make_stars(seed: int) -> Table:
    """Make the stars of the field: columns star, ra, dec (degrees), and a magnitude for each band."""
    rng = np.random.default_rng([seed, 3])
    half = [size + GAP // 2 + STAR_SPACING for size in reversed(SHAPE)]
    grid = np.meshgrid(*(np.arange(-extent, extent, STAR_SPACING, dtype=float) for extent in half))
    x, y = (axis.ravel() + rng.uniform(-9, 9, axis.size) for axis in grid)
    ra, dec = tangent_plane(FIELD, (0.0, 0.0)).all_pix2world(x, y, 1)
    blue = rng.uniform(16.5, 20.5, x.size)
    return Table(
        {"star": np.arange(1, x.size + 1), "ra": ra, "dec": dec, "g": blue, "r": blue - rng.uniform(0.1, 0.9, x.size)}
    )


def tangent_plane(pointing: tuple[float, float], reference_pixel: tuple[float, float]) -> WCS:
    """Give the map between pixels (from 1) and the sky, north up and east to the left."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = pointing
    wcs.wcs.crpix = reference_pixel
    wcs.wcs.cdelt = (-PIXEL_SCALE / 3600, PIXEL_SCALE / 3600)
    wcs.wcs.radesys = "ICRS"
    return wcs


def known_stars(exposure: Exposure, detector: Detector, stars: Table) -> Table:
    """Say where the stars stand on one frame and how many electrons each gives, as the truth table has it."""
    band = BANDS[exposure.band]
    wcs = tangent_plane(exposure.pointing, detector.reference_pixel)
    x, y = wcs.all_world2pix(stars["ra"], stars["dec"], 1)
    magnitude = stars[exposure.band]
    rate = 10 ** (0.4 * (band.zero_point - band.extinction * exposure.airmass - magnitude))
    table = Table(
        {
            "exposure": np.full(len(stars), exposure.number),
            "detector": np.full(len(stars), detector.number),
            "star": stars["star"],
            "ra": stars["ra"],
            "dec": stars["dec"],
            "x": x,
            "y": y,
            "mag": magnitude,
            "electrons": rate * exposure.seconds,
        }
    )
    near = (x > -20) & (x < SHAPE[1] + 20) & (y > -20) & (y < SHAPE[0] + 20)
    return table[near]


def expected_light(exposure: Exposure, detector: Detector, known: Table | None) -> Image:
    """Give the electrons expected in each pixel, before dark current and cosmic rays."""
    if exposure.kind == "bias":
        return np.zeros(SHAPE)
    response = detector.response[exposure.band]
    if known is None:
        return 22000.0 * response
    gradient = 1 + 0.03 * np.linspace(-1, 1, SHAPE[1])[None, :]
    sky = BANDS[exposure.band].sky * exposure.seconds * gradient
    x, y, electrons = (np.asarray(known[name], dtype=float) for name in ("x", "y", "electrons"))
    return np.asarray(response * (sky + star_light(x, y, electrons, fwhm=exposure.fwhm, shape=SHAPE)))


def make_header(exposure: Exposure, detector: Detector) -> fits.Header:
    """Make the header that the camera's control system would write."""
    header = fits.Header()
    kinds = {"bias": ("zero", "bias"), "flat": ("dome flat", "flat"), "science": ("object", "object")}
    obstype, imagetyp = kinds[exposure.kind]
    ra, dec = (Angle(value, "deg") for value in exposure.pointing)
    header["OBSERVAT"] = ("nightmill", "simulated observatory")
    header["TELESCOP"] = ("NM 1.0m", "simulated telescope")
    header["INSTRUME"] = (NAME, "camera")
    header["EXPNUM"] = (exposure.number, "number of the exposure")
    header["CCDNUM"] = (detector.number, "number of the detector")
    header["OBSTYPE"] = (obstype, "kind of observation")
    header["IMAGETYP"] = (imagetyp, "kind of image, IRAF's names")
    header["OBJECT"] = ("Orion field" if exposure.kind == "science" else obstype, "what was pointed at")
    header["DATE-OBS"] = (exposure.begins_at.isoformat(timespec="milliseconds")[:23], "start of the exposure")
    header["TIMESYS"] = ("UTC", "time system")
    header["MJD-OBS"] = (round(float(Time(exposure.begins_at).mjd), 6), "[d] start of the exposure")
    header["EXPTIME"] = (exposure.seconds, "[s] exposure time")
    header["FILTER"] = (exposure.band or "none", "filter")
    header["GAIN"] = (detector.gain, "[electron/adu] gain")
    header["RDNOISE"] = (detector.read_noise, "[electron] read noise")
    header["SATURATE"] = (SATURATION, "[adu] saturation")
    header["BUNIT"] = ("adu", "unit of the pixels")
    if exposure.kind == "science":
        header["RA"] = (ra.to_string(unit="hourangle", sep=":", precision=2, pad=True), "pointing")
        header["DEC"] = (dec.to_string(unit="deg", sep=":", precision=1, pad=True, alwayssign=True), "pointing")
        header["AIRMASS"] = (exposure.airmass, "airmass at the start")
        header.update(tangent_plane(exposure.pointing, detector.reference_pixel).to_header())
    return header


def write_frame(path: Path, adu: NDArray[np.uint16], header: fits.Header, exposure: Exposure) -> None:
    """Write a frame with CHECKSUM and DATASUM, which are dated by the exposure and not by the clock."""
    hdu = fits.PrimaryHDU(adu, header)
    hdu.add_checksum(when=f"written {exposure.begins_at:%Y-%m-%dT%H:%M:%S}")
    hdu.writeto(path, overwrite=True)


def simulate(exposures: list[Exposure], output: Path, *, seed: int) -> Iterator[Path]:
    """Write the frames of a night and, last, its truth table; yields each path as it is written."""
    detectors, stars, truth = make_detectors(seed), make_stars(seed), []
    for exposure in exposures:
        folder = output / exposure.kind
        folder.mkdir(parents=True, exist_ok=True)
        for detector in detectors:
            known = known_stars(exposure, detector, stars) if exposure.kind == "science" else None
            rng = np.random.default_rng([seed, 4, exposure.number, detector.number])
            adu = detector.read_out(expected_light(exposure, detector, known), exposure.seconds, rng)
            path = folder / f"{NAME}_{exposure.number:08d}_{detector.number:02d}.fits"
            write_frame(path, adu, make_header(exposure, detector), exposure)
            yield path
            if known is not None:
                truth.append(known)
    if truth:
        table = vstack(truth)
        for name, decimals in {"ra": 7, "dec": 7, "x": 3, "y": 3, "mag": 4, "electrons": 1}.items():
            table[name] = np.round(table[name], decimals)
        table.write(output / "truth.ecsv", overwrite=True)
        yield output / "truth.ecsv"


def main(arguments: list[str] | None = None) -> None:
    """Simulate a night from the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.ccd.simulate", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write into")
    parser.add_argument("--seed", type=int, default=42, help="of all random numbers (default %(default)s)")
    parser.add_argument("--night", type=int, default=20260110, help="local date, YYYYMMDD (default %(default)s)")
    parser.add_argument("--first", type=int, default=5001, help="number of the first exposure (default %(default)s)")
    parser.add_argument("--biases", type=int, default=5, help="(default %(default)s)")
    parser.add_argument("--flats", type=int, default=4, help="in each band (default %(default)s)")
    parser.add_argument("--exposures", type=int, default=12, help="of science (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each science exposure (default %(default)s)")
    options = parser.parse_args(arguments)
    night = plan_night(
        options.night,
        seed=options.seed,
        first=options.first,
        biases=options.biases,
        flats=options.flats,
        exposures=options.exposures,
        seconds=options.seconds,
    )
    frames = sum(path.suffix == ".fits" for path in simulate(night, options.output, seed=options.seed))
    print(f"{frames} frames of {len(night)} exposures with {len(DETECTORS)} detectors in {options.output}")


if __name__ == "__main__":
    main()
