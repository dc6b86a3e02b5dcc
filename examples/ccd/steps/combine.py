"""Combine biases of one detector into a master bias or, with --bias, flats into a master flat of mean 1."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timedelta
from pathlib import Path

import ccdproc
import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.stats import mad_std


def read_frame(path: Path) -> CCDData:
    """Read a raw frame, whose checksum must hold."""
    with fits.open(path, memmap=False) as hdus:
        if not hdus[0].verify_checksum():
            raise ValueError(f"{path.name} was damaged after it was written: its CHECKSUM does not hold")
        return CCDData(hdus[0].data.astype(np.float64), unit="adu", meta=hdus[0].header.copy(strip=True))


def check_alike(frames: list[CCDData]) -> None:
    """Make sure that all frames are of one camera, detector, filter and kind."""
    for keyword in ("INSTRUME", "CCDNUM", "FILTER", "IMAGETYP"):
        values = {frame.header[keyword] for frame in frames}
        if len(values) > 1:
            raise ValueError(f"the frames differ in {keyword}: {', '.join(sorted(map(str, values)))}")


def combine(frames: list[CCDData], bias: CCDData | None, sigma: float) -> CCDData:
    """Average frames without outliers; where a bias is given, subtract it and bring every frame to mean 1 first."""
    if bias is not None:
        frames = [ccdproc.subtract_bias(frame, bias) for frame in frames]
    return ccdproc.combine(
        frames,
        method="average",
        scale=None if bias is None else lambda pixels: 1 / np.mean(pixels),
        sigma_clip=True,
        sigma_clip_low_thresh=sigma,
        sigma_clip_high_thresh=sigma,
        sigma_clip_func=np.ma.median,
        sigma_clip_dev_func=mad_std,
        dtype=np.float64,
    )


def make_header(frames: list[CCDData], paths: list[Path], kind: str) -> fits.Header:
    """Make the master's header: what its frames have in common, and when they were taken."""
    first = frames[0].header
    begins = [datetime.fromisoformat(frame.header["DATE-OBS"]) for frame in frames]
    ends = [begin + timedelta(seconds=frame.header["EXPTIME"]) for begin, frame in zip(begins, frames, strict=True)]
    header = fits.Header()
    for keyword in ("INSTRUME", "CCDNUM", "FILTER", "GAIN", "RDNOISE"):
        header[keyword] = (first[keyword], first.comments[keyword])
    header["IMAGETYP"] = (f"master {kind}", "kind of image")
    if kind == "bias":
        header["BUNIT"] = ("adu", "unit of the pixels")
    header["DATE-OBS"] = (min(begins).isoformat(timespec="milliseconds"), "start of the first exposure")
    header["DATE-END"] = (max(ends).isoformat(timespec="milliseconds"), "end of the last exposure")
    header["TIMESYS"] = ("UTC", "time system")
    header["NCOMBINE"] = (len(frames), "number of frames combined")
    for number, path in enumerate(paths, start=1):
        header[f"IMCMB{number:03d}"] = (path.name, "combined frame")
    return header


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frames", type=Path, nargs="+", help="raw frames")
    parser.add_argument("--bias", type=Path, help="master bias: the frames are flats")
    parser.add_argument("--sigma", type=float, default=3.0, help="clip beyond so many deviations (default %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="master to write")
    options = parser.parse_args()
    frames = [read_frame(path) for path in options.frames]
    check_alike(frames)
    bias = None if options.bias is None else CCDData(fits.getdata(options.bias), unit="adu")
    master = combine(frames, bias, options.sigma)
    header = make_header(frames, options.frames, "bias" if bias is None else "flat")
    data = np.asarray(master.data)
    if bias is not None:
        data = data / data.mean()
    header["DATAMEAN"] = (round(float(data.mean()), 4), "mean of the pixels")
    header["DATASTD"] = (round(float(data.std()), 4), "standard deviation of the pixels")
    fits.PrimaryHDU(data.astype(np.float32), header).writeto(options.output, checksum=True)
    print(f"{options.output.name}: {len(frames)} frames, mean {data.mean():.4f}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, KeyError) as problem:
        sys.exit(f"combine: {problem}")
