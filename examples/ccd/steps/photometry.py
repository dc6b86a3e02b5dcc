"""Measure the stars of a cleaned frame: sky, detection, centres, aperture fluxes, magnitudes.

Writes a FITS table OBJECTS whose positions count from 1, as the WCS cards of its primary header do (a count, ct, is
an electron), and a JSON file
with the figures of the whole frame.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import sep
from astropy.io import fits
from numpy.typing import NDArray

IMAGE_ONLY = ("BUNIT", "GAIN", "RDNOISE", "SATURATE", "CHECKSUM", "DATASUM", "EXTEND")
FWHM_PER_SIGMA = 2.3548


def band_values(items: list[str]) -> dict[str, float]:
    """Read ``BAND=VALUE`` items."""
    pairs = (item.partition("=") for item in items)
    return {band: float(value) for band, _, value in pairs}


def measure(image: NDArray[np.float32], bad: NDArray[np.bool_], threshold: float, radius: float) -> dict[str, Any]:
    """Detect and measure stars.

    Parameters
    ----------
    image
        Electrons.
    bad
        Pixels that do not count.
    threshold
        In deviations of the sky.
    radius
        Of the aperture, pixels.

    Returns
    -------
    dict
        ``sky`` and ``noise`` (electrons a pixel), and one array a column for the stars, brightest first.
    """
    sky = sep.Background(image, mask=bad, bw=64, bh=64)
    light = image - sky.back()
    found = sep.extract(light, threshold, err=sky.globalrms, mask=bad, minarea=5)
    found = found[np.argsort(-found["flux"])]
    x, y, _ = sep.winpos(light, found["x"], found["y"], np.sqrt(found["a"] * found["b"]), mask=bad)
    variance = sky.globalrms**2 + np.maximum(light, 0)
    flux, error, flags = sep.sum_circle(light, x, y, radius, var=variance, mask=bad)
    return {
        "sky": sky.globalback,
        "noise": sky.globalrms,
        "x": x + 1,
        "y": y + 1,
        "flux": flux,
        "error": error,
        "fwhm": FWHM_PER_SIGMA * np.sqrt((found["a"] ** 2 + found["b"] ** 2) / 2),
        "ellipticity": 1 - found["b"] / found["a"],
        "peak": found["peak"],
        "flags": found["flag"] | flags,
    }


def make_table(stars: dict[str, Any], header: fits.Header, zero_point: float) -> fits.BinTableHDU:
    """Make the table of the stars with a positive flux."""
    good = stars["flux"] > 0
    flux, error = stars["flux"][good] / header["EXPTIME"], stars["error"][good] / header["EXPTIME"]
    columns = {
        "NUMBER": ("J", "", np.arange(1, good.sum() + 1)),
        "DETECTOR": ("I", "", np.full(good.sum(), header["CCDNUM"])),
        "X": ("D", "pixel", stars["x"][good]),
        "Y": ("D", "pixel", stars["y"][good]),
        "FLUX": ("D", "ct/s", flux),
        "FLUXERR": ("D", "ct/s", error),
        "MAG": ("D", "mag", zero_point - 2.5 * np.log10(flux)),
        "MAGERR": ("D", "mag", 2.5 / np.log(10) * error / flux),
        "FWHM": ("E", "pixel", stars["fwhm"][good]),
        "ELLIPTICITY": ("E", "", stars["ellipticity"][good]),
        "PEAK": ("E", "ct", stars["peak"][good]),
        "FLAGS": ("J", "", stars["flags"][good]),
    }
    return fits.BinTableHDU.from_columns(
        [
            fits.Column(name=name, format=code, unit=unit or None, array=array)
            for name, (code, unit, array) in columns.items()
        ],
        name="OBJECTS",
    )


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("frame", type=Path, help="cleaned frame, in electrons")
    parser.add_argument("--threshold", type=float, default=5.0, help="deviations of the sky (default %(default)s)")
    parser.add_argument("--radius", type=float, default=6.0, help="of the aperture, pixels (default %(default)s)")
    parser.add_argument("--zero-point", nargs="+", required=True, metavar="BAND=MAG", help="of one electron a second")
    parser.add_argument("--extinction", nargs="+", required=True, metavar="BAND=MAG", help="an airmass")
    parser.add_argument("--min-stars", type=int, default=1, help="fewer are an error (default %(default)s)")
    parser.add_argument("--catalog", type=Path, required=True, help="FITS table to write")
    parser.add_argument("--quality", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args()
    with fits.open(options.frame, memmap=False) as hdus:
        header, bad = hdus[0].header, hdus["MASK"].data != 0
        image = np.ascontiguousarray(hdus[0].data, dtype=np.float32)
    band = header["FILTER"]
    zero_points, extinctions = band_values(options.zero_point), band_values(options.extinction)
    if band not in zero_points or band not in extinctions:
        raise ValueError(f"no zero point or extinction was given for filter {band}")
    zero_point = zero_points[band] - extinctions[band] * header["AIRMASS"]
    stars = measure(image, bad, options.threshold, options.radius)
    table = make_table(stars, header, zero_point)
    count = len(table.data)
    if count < options.min_stars:
        raise ValueError(f"{options.frame.name} has {count} stars, at least {options.min_stars} are wanted")
    quality = {
        "stars": count,
        "fwhm_pixels": round(float(np.median(table.data["FWHM"])), 3) if count else None,
        "sky_electrons": round(float(stars["sky"]), 2),
        "noise_electrons": round(float(stars["noise"]), 2),
        "zero_point": round(zero_point, 4),
    }
    for keyword in IMAGE_ONLY:
        header.remove(keyword, ignore_missing=True)
    header["NSTARS"] = (count, "stars in the table")
    header["FWHM"] = (quality["fwhm_pixels"], "[pixel] median of the stars")
    header["SKY"] = (quality["sky_electrons"], "[electron] sky a pixel")
    header["SKYNOISE"] = (quality["noise_electrons"], "[electron] its noise")
    header["MAGZERO"] = (quality["zero_point"], "[mag] of one electron a second, at this airmass")
    fits.HDUList([fits.PrimaryHDU(header=header), table]).writeto(options.catalog, checksum=True)
    options.quality.write_text(json.dumps(quality, indent=2) + "\n")
    print(f"{options.catalog.name}: {count} stars, FWHM {quality['fwhm_pixels']} pixels")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, KeyError) as problem:
        sys.exit(f"photometry: {problem}")
