"""Make frames of different cameras alike: take off the overscan, convert to electrons, replace and flag cosmic rays.

Takes the first HDU that holds an image, and what the frame offers: BIASSEC and TRIMSEC, GAIN and RDNOISE (the options
stand in where they are absent), a fitted sky (extension SKYFIT) and a variance (VAR). The output has two HDUs a frame:
the cleaned image, whose ORIGFILE names the raw file, and its flags (1: hit by a cosmic ray).
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

PRIMARY_KEYS = ("INSTRUME", "DATE-OBS", "UT")
FRAME_KEYS = ("OBJECT", "EXPTIME")
HELPS = {"inbkg": "SKYFIT", "invar": "VAR"}
"""Names of astroscrappy to names of extensions."""


def calibrate(hdus: fits.HDUList, gain: float) -> CCDData:
    """Give the image without its overscan, in electrons."""
    header = hdus[0].header
    images = [hdu.data for hdu in hdus if hdu.is_image and hdu.data is not None and hdu.data.ndim == 2]
    if not images:
        raise ValueError("no HDU holds an image")
    frame = CCDData(images[0].astype(np.float32), unit="adu")
    if "BIASSEC" in header:
        frame = ccdproc.subtract_overscan(frame, fits_section=header["BIASSEC"].replace(" ", ""), median=True)
    if "TRIMSEC" in header:
        frame = ccdproc.trim_image(frame, fits_section=header["TRIMSEC"].replace(" ", ""))
    return ccdproc.gain_correct(frame, header.get("GAIN", gain) * units.electron / units.adu)


def clean(path: Path, options: argparse.Namespace) -> list[fits.ImageHDU]:
    """Give the HDUs of one cleaned frame."""
    with fits.open(path, memmap=False) as hdus:
        header = hdus[0].header
        try:
            frame = calibrate(hdus, options.gain)
        except ValueError as problem:
            raise ValueError(f"{path.name}: {problem}") from problem
        rays, cleaned = astroscrappy.detect_cosmics(
            np.ascontiguousarray(frame.data, dtype=np.float32),
            gain=1.0,
            readnoise=header.get("RDNOISE", options.read_noise),
            sigclip=options.sigma,
            **{name: hdus[extension].data.astype(np.float32) for name, extension in HELPS.items() if extension in hdus},
        )
    image = fits.ImageHDU(cleaned)
    image.header["ORIGFILE"] = (path.name, "raw frame")
    for keyword in FRAME_KEYS:
        image.header[keyword] = (header[keyword], header.comments[keyword])
    image.header["BUNIT"] = ("electron", "unit of the pixels")
    image.header["NCOSMIC"] = (int(rays.sum()), "pixels hit by cosmic rays")
    print(f"{path.name}: {image.header['NCOSMIC']} pixels hit by cosmic rays")
    return [image, fits.ImageHDU(rays.astype(np.uint8))]


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Clean frames of different cameras.")
    parser.add_argument("frames", type=Path, nargs="+", help="raw frames of one instrument and night")
    parser.add_argument("--gain", type=float, default=1.0, help="electrons an ADU, in place of GAIN")
    parser.add_argument("--read-noise", type=float, default=5.0, help="electrons, in place of RDNOISE")
    parser.add_argument("--sigma", type=float, default=4.5, help="of a cosmic ray's edge (default %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="cleaned frames to write")
    options = parser.parse_args()
    primary = fits.PrimaryHDU()
    header = fits.getheader(options.frames[0])
    for keyword in PRIMARY_KEYS:
        primary.header[keyword] = (header[keyword], header.comments[keyword])
    primary.header["NFRAMES"] = (len(options.frames), "frames in this file")
    cleaned = [hdu for path in options.frames for hdu in clean(path, options)]
    primary.header["NCOSMIC"] = (sum(hdu.header.get("NCOSMIC", 0) for hdu in cleaned), "pixels hit by cosmic rays")
    fits.HDUList([primary, *cleaned]).writeto(options.output, checksum=True)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, KeyError) as problem:
        sys.exit(f"clean: {problem}")
