"""Cut a calibration to the window in which other frames were read.

``cut.py FRAME OUTPUT LIKE...`` takes of each chip of FRAME the rows and columns that all of LIKE have, as ``ESO DET WIN
STARTX``, ``STARTY``, ``NX`` and ``NY`` of their headers say. All else of FRAME stays as it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from astropy.io import fits


def window(header: fits.Header, name: str) -> tuple[int, int, int, int]:
    """Give the first column and row of a frame, from 1, and how many there are."""
    keys = [f"ESO DET WIN {key}" for key in ("STARTX", "STARTY", "NX", "NY")]
    if missing := [key for key in keys if key not in header]:
        raise ValueError(f"{name}: no {missing[0]} in its header")
    x, y, nx, ny = (int(header[key]) for key in keys)
    return x, y, nx, ny


def cut(frame: Path, output: Path, like: Sequence[Path]) -> None:
    """Write the part of a frame that the window of others has."""
    wanted, *others = [window(fits.getheader(each), each.name) for each in like]
    for other, each in zip(others, like[1:], strict=True):
        if other != wanted:
            raise ValueError(f"{each.name}: its window is not that of {like[0].name}")
    with fits.open(frame, memmap=False) as hdus:
        primary = hdus[0].header
        x, y, nx, ny = window(primary, frame.name)
        to_x, to_y, to_nx, to_ny = wanted
        columns, rows = to_x - x, to_y - y
        if columns < 0 or rows < 0 or columns + to_nx > nx or rows + to_ny > ny:
            raise ValueError(f"{frame.name}: the window of {like[0].name} lies outside of it")
        for key, value in {"STARTX": to_x, "STARTY": to_y, "NX": to_nx, "NY": to_ny}.items():
            primary[f"ESO DET WIN {key}"] = value
        for hdu in hdus[1:]:
            hdu.data = hdu.data[rows : rows + to_ny, columns : columns + to_nx].copy()
        hdus.writeto(output, checksum=True, output_verify="silentfix")


def main() -> int:
    """Cut from the command line; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("frame", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("like", type=Path, nargs="+")
    options = parser.parse_args()
    try:
        cut(options.frame, options.output, options.like)
    except (OSError, ValueError) as problem:
        print(f"cut: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
