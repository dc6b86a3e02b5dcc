"""Make the mosaics of a simulated survey as a person does, program by program.

``python -m examples.montage.by_hand SURVEY OUTPUT`` takes a survey of :mod:`examples.montage.simulate` and needs
Debian's montage. Its lines are those of the pipeline. ``OUTPUT/mosaics`` has one mosaic a tile, ``uncorrected.fits``
shows the seams that they have without the background model.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final, NamedTuple

from astropy.io import fits

from examples.montage.simulate import REGION
from examples.programs import run

TILES: Final = Path(__file__).parent / "tiles"
"""One header a tile: pixels of the region."""
FIT_TABLE: Final = Path(__file__).parent / "steps" / "fit_table.py"


class Pair(NamedTuple):
    """Two images that overlap, as mOverlaps names them."""

    plus: str
    minus: str
    difference: str


def image_table(images: list[Path], table: Path) -> None:
    """Describe images of one folder in the order given: mImgtbl alone takes the order of the folder's entries."""
    names = [image.name for image in images]
    width = max(map(len, names)) + 2
    lines = [f"|{'fname'.rjust(width)}|", f"|{'char'.rjust(width)}|", *(f" {name.rjust(width)} " for name in names)]
    listed = table.with_suffix(".list")
    listed.write_text("\n".join(lines) + "\n")
    run("mImgtbl", "-t", listed.name, images[0].parent, table.name, directory=table.parent)


def pairs_of(table: Path) -> list[Pair]:
    """Read the pairs that mOverlaps found."""
    rows = [line.split() for line in table.read_text().splitlines() if not line.startswith(("|", "\\"))]
    return [Pair(*row[2:5]) for row in rows]


def touches(image: Path, tile: Path) -> bool:
    """Whether an image has pixels on a tile: both are parts of one grid, which differ in CRPIX alone."""
    header, of_tile = fits.getheader(image), fits.Header.fromtextfile(tile)
    for axis in (1, 2):
        first = of_tile[f"CRPIX{axis}"] - header[f"CRPIX{axis}"]
        if first + header[f"NAXIS{axis}"] <= 0 or first >= of_tile[f"NAXIS{axis}"]:
            return False
    return True


def project(images: list[Path], folder: Path) -> list[Path]:
    """Bring each image onto the pixels of the region; an image of the weight of each pixel lies beside it."""
    folder.mkdir()
    for image in images:
        run("mProject", image, image.name, REGION, directory=folder)
    return [folder / image.name for image in images]


def model_background(projected: list[Path], folder: Path) -> tuple[Path, Path]:
    """Fit a plane to the difference of each pair and, from them, one to each image; gives both tables."""
    differences, fitted = folder / "differences", folder / "fits"
    for each in (differences, fitted):
        each.mkdir()
    images, overlaps, corrections = folder / "images.tbl", folder / "overlaps.tbl", folder / "corrections.tbl"
    image_table(projected, images)
    run("mOverlaps", images, overlaps, directory=folder)
    for pair in pairs_of(overlaps):
        plus, minus = (projected[0].parent / name for name in (pair.plus, pair.minus))
        run("mDiff", plus, minus, pair.difference, REGION, directory=differences)
        fit = (fitted / pair.difference).with_suffix(".txt")
        run("mFitplane", "-s", fit, differences / pair.difference, directory=fitted)
    run(sys.executable, FIT_TABLE, overlaps, *sorted(fitted.glob("*.txt")), "--output", "fits.tbl", directory=folder)
    run("mBgModel", images, "fits.tbl", corrections, directory=folder)
    return images, corrections


def correct(projected: list[Path], images: Path, corrections: Path, folder: Path) -> list[Path]:
    """Take the modelled background off each image."""
    folder.mkdir()
    for image in projected:
        run("mBackground", "-t", image.name, folder / image.name, images, corrections, directory=image.parent)
    return [folder / image.name for image in projected]


def mosaic(images: list[Path], header: Path, output: Path) -> None:
    """Add those of the images that touch a tile."""
    table = output.with_suffix(".tbl")
    image_table([image for image in images if touches(image, header)], table)
    run("mAdd", "-p", images[0].parent, table, header, output, directory=output.parent)


def make_mosaics(images: list[Path], folder: Path) -> None:
    """Make every product of a survey."""
    folder.mkdir(parents=True)
    projected = project(images, folder / "projected")
    corrected = correct(projected, *model_background(projected, folder), folder / "corrected")
    mosaics = folder / "mosaics"
    mosaics.mkdir()
    for header in sorted(TILES.glob("*.hdr")):
        mosaic(corrected, header, mosaics / f"{header.stem}.fits")
    mosaic(corrected, REGION, folder / "region.fits")
    mosaic(projected, REGION, folder / "uncorrected.fits")


def main(arguments: list[str] | None = None) -> None:
    """Make mosaics from the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.montage.by_hand", description=__doc__)
    parser.add_argument("survey", type=Path, help="folder that examples.montage.simulate wrote")
    parser.add_argument("output", type=Path, help="folder to make")
    options = parser.parse_args(arguments)
    make_mosaics(sorted((options.survey / "raw").resolve().glob("*.fits")), options.output.resolve())


if __name__ == "__main__":
    main()
