"""Compare catalogues with the known stars of the simulation.

``python -m examples.ccd.check truth.ecsv CATALOG...`` prints one line an exposure and exits with 1 where a frame is
worse than the limits.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import numpy as np
from astropy.io import fits
from astropy.table import Column, Table
from numpy.typing import NDArray
from scipy.spatial import KDTree

from examples.ccd.camera import SHAPE

MATCH_PIXELS: Final = 2.0
BRIGHT_ELECTRONS: Final = 10000.0
"""Fainter stars are not asked for: their noise would hide an error."""
EDGE_PIXELS: Final = 10
"""Stars nearer to an edge lose light over it."""


@dataclass(frozen=True)
class Comparison:
    """How one frame's catalogue compares with its bright known stars.

    Places and magnitudes are judged on objects without flags: a star that a cosmic ray hit says so.
    """

    exposure: int
    detector: int
    known: int
    found: int
    spurious: int
    """Unflagged objects where no star is."""
    position_pixels: float
    """Root mean square distance of found from known places."""
    offset_mag: float
    """Median of measured minus known magnitude."""
    scatter_mag: float
    """Root mean square difference from that median."""

    @property
    def completeness(self) -> float:
        """Part of the known stars that was found."""
        return self.found / self.known if self.known else 0.0

    def problems(
        self, *, completeness: float = 0.95, position: float = 0.3, offset: float = 0.02, scatter: float = 0.05
    ) -> list[str]:
        """Say what is worse than the limits (pixels, magnitudes); nothing where all is well."""
        checks = {
            f"{self.found} of {self.known} bright stars found": self.completeness >= completeness,
            f"places off by {self.position_pixels:.3f} pixels": self.position_pixels <= position,
            f"magnitudes off by {self.offset_mag:+.4f}": abs(self.offset_mag) <= offset,
            f"magnitudes scatter by {self.scatter_mag:.4f}": self.scatter_mag <= scatter,
        }
        return [problem for problem, well in checks.items() if not well]


def compare(catalog: Path, truth: Table) -> Iterator[Comparison]:
    """Compare a catalogue, of one detector or of a whole exposure, with the known stars; one result a frame.

    Parameters
    ----------
    catalog
        FITS file with EXPNUM in its primary header and a table OBJECTS.
    truth
        The table that the simulation wrote.
    """
    with fits.open(catalog) as hdus:
        exposure, objects = int(hdus[0].header["EXPNUM"]), Table(hdus["OBJECTS"].data)
    of_exposure = truth[truth["exposure"] == exposure]
    if len(of_exposure) == 0:
        raise ValueError(f"{catalog.name}: the simulation has no exposure {exposure}")
    for detector in np.unique(objects["DETECTOR"]):
        known = of_exposure[of_exposure["detector"] == detector]
        yield _compare(objects[objects["DETECTOR"] == detector], known, exposure, int(detector))


def _compare(objects: Table, known: Table, exposure: int, detector: int) -> Comparison:
    bright = known[_inside(known["x"], known["y"]) & (known["electrons"] >= BRIGHT_ELECTRONS)]
    places, true_places = _places(objects["X"], objects["Y"]), _places(known["x"], known["y"])
    distance, nearest = KDTree(places).query(_places(bright["x"], bright["y"]))
    found = distance < MATCH_PIXELS
    good = found & np.asarray(objects["FLAGS"][nearest] == 0)
    difference = np.asarray(objects["MAG"][nearest] - bright["mag"])[good]
    offset = float(np.median(difference)) if good.any() else float("nan")
    alone = KDTree(true_places).query(places)[0] > 2 * MATCH_PIXELS
    return Comparison(
        exposure=exposure,
        detector=detector,
        known=len(bright),
        found=int(found.sum()),
        spurious=int((alone & _inside(objects["X"], objects["Y"]) & (objects["FLAGS"] == 0)).sum()),
        position_pixels=float(np.sqrt(np.mean(distance[good] ** 2))) if good.any() else float("nan"),
        offset_mag=offset,
        scatter_mag=float(np.sqrt(np.mean((difference - offset) ** 2))) if good.any() else float("nan"),
    )


def _places(x: Column, y: Column) -> NDArray[np.float64]:
    return np.column_stack([np.asarray(x, dtype=float), np.asarray(y, dtype=float)])


def _inside(x: Column, y: Column) -> NDArray[np.bool_]:
    rows, columns = SHAPE
    across = (x > EDGE_PIXELS) & (x < columns - EDGE_PIXELS)
    return np.asarray(across & (y > EDGE_PIXELS) & (y < rows - EDGE_PIXELS))


def main(arguments: list[str] | None = None) -> int:
    """Compare from the command line; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.ccd.check", description=__doc__)
    parser.add_argument("truth", type=Path, help="truth.ecsv of the simulation")
    parser.add_argument(
        "catalogs", type=Path, nargs="+", help="catalogues of detectors or of exposures, or folders of them"
    )
    options = parser.parse_args(arguments)
    truth = Table.read(options.truth)
    catalogs = [
        each for path in options.catalogs for each in (sorted(path.glob("*.fits")) if path.is_dir() else [path])
    ]
    results = [result for catalog in catalogs for result in compare(catalog, truth)]
    print("                                              of the detector that is worst:")
    print("exposure  detectors  bright  found  spurious  place [pixel]  offset [mag]  scatter [mag]")
    for exposure, group in groupby(results, key=lambda one: one.exposure):
        frames = list(group)
        known, found = sum(f.known for f in frames), sum(f.found for f in frames)
        spurious = sum(f.spurious for f in frames)
        place, scatter = max(f.position_pixels for f in frames), max(f.scatter_mag for f in frames)
        offset = max((f.offset_mag for f in frames), key=abs)
        print(
            f"{exposure:8d} {len(frames):10d} {known:7d} {found:6d} {spurious:9d} "
            f"{place:14.3f} {offset:+13.4f} {scatter:14.4f}"
        )
    problems = [
        f"exposure {one.exposure}, detector {one.detector}: {text}" for one in results for text in one.problems()
    ]
    print("\n".join(problems) if problems else f"all of them agree with the known stars: {len(results)} frames")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
