"""Detect what stands out of the background of cleaned frames: one table OBJECTS for all frames of the file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import sep
from astropy.io import fits
from astropy.table import Table, vstack

COLUMNS = ("x", "y", "flux", "peak", "a", "b", "theta", "npix", "flag")


def detect(image: fits.ImageHDU, rays: fits.ImageHDU, threshold: float) -> Table:
    """Give the objects of one frame, brightest first; places count from 1, light is electrons (ct)."""
    pixels = np.ascontiguousarray(image.data, dtype=np.float32)
    background = sep.Background(pixels, mask=rays.data.astype(bool))
    found = sep.extract(pixels - background.back(), threshold, err=background.globalrms, minarea=5)
    found = found[np.argsort(-found["flux"])]
    table = Table({name.upper(): found[name] for name in COLUMNS})
    table["X"] += 1
    table["Y"] += 1
    table.add_column(np.full(len(found), image.header["ORIGFILE"], dtype="U64"), name="FRAME", index=0)
    for name, unit in {"X": "pix", "Y": "pix", "FLUX": "ct", "PEAK": "ct", "A": "pix", "B": "pix"}.items():
        table[name].unit = unit
    print(f"{image.header['ORIGFILE']}: {len(found)} objects, background {background.globalback:.1f} electrons")
    return table


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cleaned", type=Path, help="cleaned frames")
    parser.add_argument("--threshold", type=float, default=5.0, help="deviations of the sky (default %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="catalogue to write")
    options = parser.parse_args()
    with fits.open(options.cleaned, memmap=False) as hdus:
        primary = fits.PrimaryHDU(header=hdus[0].header.copy(strip=True))
        pairs = zip(hdus[1::2], hdus[2::2], strict=True)
        objects = vstack([detect(image, rays, options.threshold) for image, rays in pairs])
    primary.header["NOBJECTS"] = (len(objects), "objects in the table")
    fits.HDUList([primary, fits.BinTableHDU(objects, name="OBJECTS")]).writeto(options.output, checksum=True)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, KeyError) as problem:
        sys.exit(f"detect: {problem}")
