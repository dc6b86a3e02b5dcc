"""Gather the planes that mFitplane fitted to differences into the table that mBgModel reads.

``fit_table.py DIFFERENCES FIT... --output TABLE`` takes the table of mOverlaps and the status files of mFitplane (its
option -s), each named as its difference with ``.txt`` for ``.fits``. Montage's own mConcatFit does this, where it is
installed. A pair whose fit is missing or failed has no line, as there: its images may touch in a few pixels only.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

COLUMNS = {
    "plus": "9d",
    "minus": "9d",
    **dict.fromkeys(("a", "b", "c"), "16.5e"),
    **dict.fromkeys(("crpix1", "crpix2"), "14.2f"),
    **dict.fromkeys(("xmin", "xmax", "ymin", "ymax"), "10d"),
    **dict.fromkeys(("xcenter", "ycenter"), "13.2f"),
    "npixel": "13d",
    "rms": "16.5e",
    **dict.fromkeys(("boxx", "boxy", "boxwidth", "boxheight", "boxang"), "16.1f"),
}
"""Of the table, with their formats."""


def read_fit(path: Path) -> dict[str, float]:
    """Give what mFitplane says of a difference; nothing where it could not fit a plane."""
    text = path.read_text()
    if 'stat="OK"' not in text:
        return {}
    return {name: float(value) for name, value in re.findall(r"(\w+)=([-+.\deE]+)", text)}


def table(differences: Path, fits: list[Path]) -> str:
    """Give the table, its lines in the order of the differences."""
    by_name = {path.stem: path for path in fits}
    lines = ["".join(f"|{name.rjust(int(float(kind[:-1])))}" for name, kind in COLUMNS.items()) + "|"]
    for line in differences.read_text().splitlines():
        if line.startswith(("|", "\\")) or not line.strip():
            continue
        plus, minus, *_, difference = line.split()
        path = by_name.pop(Path(difference).stem, None)
        fit = read_fit(path) if path else {}
        if not fit:
            continue
        values = {**fit, "plus": int(plus), "minus": int(minus)}
        if missing := [name for name in COLUMNS if name not in values]:
            raise ValueError(f"{path}: {missing[0]} is missing")
        lines.append("".join(f" {_format(values[name], kind)}" for name, kind in COLUMNS.items()) + " ")
    if by_name:
        raise ValueError(f"{min(by_name)}.txt: {differences.name} has no difference of this name")
    return "\n".join(lines) + "\n"


def _format(value: float, kind: str) -> str:
    return format(int(value) if kind.endswith("d") else value, kind)


def main() -> int:
    """Gather from the command line; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("differences", type=Path)
    parser.add_argument("fits", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    try:
        text = table(options.differences, options.fits)
    except (OSError, ValueError) as problem:
        text = f"{problem.filename}: {problem.strerror}" if isinstance(problem, OSError) else str(problem)
        print(f"fit_table: {text}", file=sys.stderr)
        return 1
    options.output.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
