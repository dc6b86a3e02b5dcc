"""Reduce a raw frame: subtract the bias, divide by the flat, convert to electrons, flag bad pixels and cosmic rays.

The reduced frame has the image in its first HDU and the flags in the extension MASK: 1 for a pixel that hardly counts
light, 2 for a saturated one, 4 for one that a cosmic ray hit. The cleaned frame is the same with the pixels that
cosmic rays hit replaced by their neighbours: good to detect stars in, no data to keep.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import astroscrappy
import ccdproc
import numpy as np
from astropy import units
from astropy.io import fits
from astropy.nddata import CCDData
from numpy.typing import NDArray

INSENSITIVE, SATURATED, COSMIC_RAY = 1, 2, 4


def read_frame(path: Path) -> CCDData:
    """Read a frame, whose checksum must hold."""
    with fits.open(path, memmap=False) as hdus:
        if not hdus[0].verify_checksum():
            raise ValueError(f"{path.name} was damaged after it was written: its CHECKSUM does not hold")
        header = hdus[0].header.copy(strip=True)
        return CCDData(hdus[0].data.astype(np.float64), unit=header.get("BUNIT", ""), meta=header)


def check_match(raw: CCDData, master: CCDData, path: Path, keywords: tuple[str, ...]) -> None:
    """Make sure that a master was made for frames such as the raw one."""
    for keyword in keywords:
        wanted, found = raw.header[keyword], master.header[keyword]
        if found != wanted:
            raise ValueError(f"{path.name} is for {keyword} {found}, the raw frame has {wanted}")


def calibrate(raw: CCDData, bias: CCDData, flat: CCDData) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Give the image in electrons and its flags."""
    flags = np.where(flat.data < 0.5, INSENSITIVE, 0) | np.where(raw.data >= raw.header["SATURATE"], SATURATED, 0)
    image = ccdproc.subtract_bias(raw, bias)
    image = ccdproc.flat_correct(image, flat, min_value=0.1, norm_value=1.0)
    image = ccdproc.gain_correct(image, raw.header["GAIN"] * units.electron / units.adu)
    return image.data.astype(np.float32), flags.astype(np.uint8)


def write_frame(path: Path, image: NDArray[np.float32], flags: NDArray[np.uint8], header: fits.Header) -> None:
    """Write an image with its flags."""
    hdus = fits.HDUList([fits.PrimaryHDU(image, header), fits.ImageHDU(flags, name="MASK")])
    hdus.writeto(path, checksum=True)


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Reduce a raw frame.")
    parser.add_argument("frame", type=Path, help="raw frame")
    parser.add_argument("--bias", type=Path, required=True, help="master bias")
    parser.add_argument("--flat", type=Path, required=True, help="master flat of the same filter")
    parser.add_argument("--sigma", type=float, default=4.5, help="of a cosmic ray's edge (default %(default)s)")
    parser.add_argument("--contrast", type=float, default=4.0, help="of it with a star's edge (default %(default)s)")
    parser.add_argument("--reduced", type=Path, required=True, help="frame to write, cosmic rays flagged")
    parser.add_argument("--cleaned", type=Path, required=True, help="frame to write, cosmic rays replaced")
    options = parser.parse_args()
    raw, bias, flat = (read_frame(path) for path in (options.frame, options.bias, options.flat))
    check_match(raw, bias, options.bias, ("INSTRUME", "CCDNUM"))
    check_match(raw, flat, options.flat, ("INSTRUME", "CCDNUM", "FILTER"))
    image, flags = calibrate(raw, bias, flat)
    saturation = raw.header["SATURATE"] * raw.header["GAIN"]
    rays, cleaned = astroscrappy.detect_cosmics(
        image,
        inmask=flags != 0,
        gain=1.0,
        readnoise=raw.header["RDNOISE"],
        satlevel=saturation,
        sigclip=options.sigma,
        objlim=options.contrast,
    )
    flags[rays] |= COSMIC_RAY
    header = raw.header
    for keyword in ("BZERO", "BSCALE"):
        header.remove(keyword, ignore_missing=True)
    header["BUNIT"] = ("electron", "unit of the pixels")
    header["SATURATE"] = (saturation, "[electron] saturation")
    header["BIASFILE"] = (options.bias.name, "bias that was subtracted")
    header["FLATFILE"] = (options.flat.name, "flat that was divided by")
    header["NCOSMIC"] = (int(rays.sum()), "pixels hit by cosmic rays")
    write_frame(options.reduced, image, flags, header)
    write_frame(options.cleaned, cleaned, flags, header)
    print(f"{options.reduced.name}: {np.median(image):.1f} electrons, {header['NCOSMIC']} pixels hit by cosmic rays")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, KeyError) as problem:
        sys.exit(f"reduce: {problem}")
