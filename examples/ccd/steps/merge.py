"""Join the catalogues of an exposure's detectors into one, with places on the sky."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from astropy.io import fits
from astropy.table import Table, vstack
from astropy.wcs import WCS

OF_THE_EXPOSURE = (
    *("OBSERVAT", "TELESCOP", "INSTRUME", "EXPNUM", "OBJECT", "DATE-OBS", "TIMESYS", "MJD-OBS"),
    *("EXPTIME", "FILTER", "RA", "DEC", "AIRMASS", "MAGZERO"),
)


def read_catalog(path: Path) -> tuple[fits.Header, Table]:
    """Read a detector's catalogue and work out RA and DEC (degrees) from the WCS of its header."""
    with fits.open(path, memmap=False) as hdus:
        header, table = hdus[0].header.copy(strip=True), Table.read(hdus["OBJECTS"])
    table["RA"], table["DEC"] = WCS(header).all_pix2world(table["X"].value, table["Y"].value, 1)
    table["RA"].unit = table["DEC"].unit = "deg"
    return header, table


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("catalogs", type=Path, nargs="+", help="one a detector")
    parser.add_argument("--output", type=Path, required=True, help="catalogue to write")
    options = parser.parse_args()
    headers, tables = zip(*(read_catalog(path) for path in options.catalogs), strict=True)
    exposures = {header["EXPNUM"] for header in headers}
    detectors = [header["CCDNUM"] for header in headers]
    if len(exposures) > 1 or len(set(detectors)) < len(detectors):
        raise ValueError(f"not the detectors of one exposure: exposures {sorted(exposures)}, detectors {detectors}")
    joined = vstack(tables, metadata_conflicts="silent")
    joined.sort(["DETECTOR", "NUMBER"])
    header = fits.Header([headers[0].cards[keyword] for keyword in OF_THE_EXPOSURE])
    header["NSTARS"] = (len(joined), "stars in the table")
    header["NDET"] = (len(detectors), "detectors joined")
    table = fits.BinTableHDU(joined, name="OBJECTS")
    fits.HDUList([fits.PrimaryHDU(header=header), table]).writeto(options.output, checksum=True)
    print(f"{options.output.name}: {len(joined)} stars on {len(detectors)} detectors")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, KeyError) as problem:
        sys.exit(f"merge: {problem}")
