"""Make tiles of simulated exposures as a person does, program by program.

``python -m examples.terapix.by_hand EXPOSURES OUTPUT`` takes what :mod:`examples.terapix.simulate` wrote and needs
Debian's source-extractor, psfex, scamp and swarp. Its lines are those of the pipeline. ``OUTPUT/tiles`` has one image,
weight map and catalogue a tile, ``OUTPUT/photometry`` the stars of each exposure, measured with its point spread
function.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales

from examples.programs import run
from examples.terapix.simulate import ZERO_POINT

FOLDER: Final = Path(__file__).parent
CONFIG: Final = FOLDER / "config"
MARGIN_ARCSEC: Final = 20.0
"""What headers may be off by: an exposure so near to a tile is given to it as well."""


@dataclass(frozen=True)
class Tile:
    """A part of the sky; its ``.head`` says which pixels it has."""

    head: Path

    @property
    def name(self) -> str:
        """Without its ending."""
        return self.head.stem

    @cached_property
    def header(self) -> fits.Header:
        """What SWarp gives the sum."""
        return fits.Header.fromtextfile(self.head)

    def touches(self, wcs: WCS, shape: tuple[int, int]) -> bool:
        """Whether a frame may have pixels of it."""
        own = WCS(self.header)
        corners = own.all_world2pix(wcs.calc_footprint(axes=shape[::-1], center=False), 1)
        margin = MARGIN_ARCSEC / 3600 / proj_plane_pixel_scales(own)
        last = np.array([self.header["NAXIS1"], self.header["NAXIS2"]]) + 0.5
        return bool(np.all(corners.min(axis=0) < last + margin) and np.all(corners.max(axis=0) > 0.5 - margin))


TILES: Final = [Tile(head) for head in sorted(FOLDER.glob("tiles/*.head"))]


@dataclass(frozen=True)
class Exposure:
    """An image and its weight map."""

    image: Path
    weight: Path

    @property
    def name(self) -> str:
        """Without its ending."""
        return self.image.stem


def exposures_of(folder: Path) -> list[Exposure]:
    """Give the exposures of a folder, each with its weight map."""
    images = sorted((folder / "images").glob("*.fits"))
    return [Exposure(image, folder / "weights" / f"{image.stem}.weight.fits") for image in images]


def extract(image: Path, weight: Path, catalog: Path, columns: str, *options: object) -> None:
    """Find and measure the objects of one image."""
    run(
        "source-extractor", image, "-c", CONFIG / "detect.sex", "-PARAMETERS_NAME", CONFIG / f"{columns}.param",
        "-FILTER_NAME", CONFIG / "gauss.conv", "-WEIGHT_IMAGE", weight, "-CATALOG_NAME", catalog.name, *options,
        directory=catalog.parent,
    )  # fmt: skip


def measure(exposure: Exposure, catalogs: Path, photometry: Path) -> None:
    """Find the stars of an exposure, model their shape, and measure with the model."""
    catalog = catalogs / f"{exposure.name}.cat"
    extract(exposure.image, exposure.weight, catalog, "stars")
    run("psfex", catalog.name, "-c", CONFIG / "psfex.conf", directory=catalogs)
    model, measured = catalogs / f"{exposure.name}.psf", photometry / f"{exposure.name}.fits"
    extract(exposure.image, exposure.weight, measured, "psf", "-PSF_NAME", model, "-MAG_ZEROPOINT", ZERO_POINT)


def calibrate(exposures: list[Exposure], reference: Path, catalogs: Path) -> None:
    """Find places and brightness of all exposures at once: one ``.head`` an exposure, beside its catalogue."""
    names = [f"{exposure.name}.cat" for exposure in exposures]
    run(
        "scamp", *names, "-c", CONFIG / "scamp.conf", "-ASTREFCAT_NAME", reference, "-MAGZERO_OUT", ZERO_POINT,
        directory=catalogs,
    )  # fmt: skip


def coadd(tile: Tile, exposures: list[Exposure], heads: Path, folder: Path) -> None:
    """Add the exposures that touch a tile, weight map and ``.head`` beside each, and measure the sum."""
    inputs = folder / f"{tile.name}_inputs"
    inputs.mkdir(parents=True)
    used = [each for each in exposures if tile.touches(WCS(fits.getheader(each.image)), fits.getdata(each.image).shape)]
    for each in used:
        for path in (each.image, each.weight, heads / f"{each.name}.head"):
            (inputs / path.name).symlink_to(path)
    image, weight = folder / f"{tile.name}.fits", folder / f"{tile.name}.weight.fits"
    (folder / f"{tile.name}.list").write_text("".join(f"{inputs / each.image.name}\n" for each in used))
    run(
        "SWarp", f"@{tile.name}.list", "-c", CONFIG / "swarp.conf", "-HEADEROUT_NAME", tile.head,
        "-IMAGEOUT_NAME", image.name, "-WEIGHTOUT_NAME", weight.name, directory=folder,
    )  # fmt: skip
    extract(image, weight, folder / f"{tile.name}.cat.fits", "sky", "-MAG_ZEROPOINT", ZERO_POINT)


def make_tiles(exposures: list[Exposure], reference: Path, folder: Path) -> None:
    """Make every product of a set of exposures."""
    catalogs, photometry = folder / "catalogs", folder / "photometry"
    for each in (catalogs, photometry):
        each.mkdir(parents=True)
    for exposure in exposures:
        measure(exposure, catalogs, photometry)
    calibrate(exposures, reference, catalogs)
    for tile in TILES:
        coadd(tile, exposures, catalogs, folder / "tiles")


def main(arguments: list[str] | None = None) -> None:
    """Make tiles from the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.terapix.by_hand", description=__doc__)
    parser.add_argument("exposures", type=Path, help="folder that examples.terapix.simulate wrote")
    parser.add_argument("output", type=Path, help="folder to make")
    options = parser.parse_args(arguments)
    folder = options.exposures.resolve()
    make_tiles(exposures_of(folder), folder / "reference.fits", options.output.resolve())


if __name__ == "__main__":
    main()
