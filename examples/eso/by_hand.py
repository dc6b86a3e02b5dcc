"""Reduce a simulated night as a person does: sort frames, write sets of frames, call each recipe.

``python -m examples.eso.by_hand NIGHT OUTPUT`` takes a night of :mod:`examples.eso.simulate` and needs Debian's esorex
and cpl-plugin-hawki. Its lines are those of the pipeline.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from astropy.io import fits

from examples.eso.simulate import BANDS
from examples.programs import run

CUT: Final = Path(__file__).parent / "steps" / "cut.py"
STATIC: Final = {
    "MASTER_LOCAL_CATALOGUE_ASTROM": "reference_stars.fits",
    "MASTER_LOCAL_CATALOGUE_PHOTOM": "reference_stars.fits",
    "PHOTCAL_TAB": "photometry.fits",
    "SCHLEGEL_MAP_NORTH": "extinction_north.fits",
    "SCHLEGEL_MAP_SOUTH": "extinction_south.fits",
}
"""What ESO ships beside the recipes, by the tag that ``hawki_science_process`` knows it under."""


class Night:
    """The raw frames of a night, sorted by what their headers say."""

    def __init__(self, folder: Path) -> None:
        self.static = folder / "static"
        self._headers = {path: fits.getheader(path) for path in sorted((folder / "raw").glob("*.fits"))}

    def frames(self, kind: str, **keys: object) -> list[Path]:
        """Give the frames of a kind (``ESO DPR TYPE``) with certain DIT, NDIT or BAND."""
        words = {"dit": "ESO DET DIT", "ndit": "ESO DET NDIT", "band": "ESO INS FILT1 NAME"}
        asked = {"ESO DPR TYPE": kind, **{words[key]: value for key, value in keys.items()}}
        return [path for path, header in self._headers.items() if all(header[k] == v for k, v in asked.items())]

    def setting(self, frame: Path) -> tuple[float, int]:
        """Give DIT and NDIT of a frame."""
        header = self._headers[frame]
        return header["ESO DET DIT"], header["ESO DET NDIT"]


def esorex(recipe: str, options: Iterable[str], frames: Iterable[tuple[Path, str]], folder: Path) -> dict[str, Path]:
    """Run a recipe in a folder of its own, on frames with their tags, and give its products by ``ESO PRO CATG``."""
    folder.mkdir(parents=True)
    (folder / "frames.sof").write_text("".join(f"{path} {tag}\n" for path, tag in frames))
    run("esorex", recipe, *options, "frames.sof", directory=folder)
    return {fits.getval(path, "ESO PRO CATG"): path for path in sorted(folder.glob("*.fits"), reverse=True)}


def reduce(night: Night, folder: Path) -> None:
    """Make every product of a night: darks by setting, read noise and gain, flats and jittered images by band."""
    darks = {}
    for setting in sorted({night.setting(frame) for frame in night.frames("DARK")}):
        dit, ndit = setting
        frames = [(path, "DARK") for path in night.frames("DARK", dit=dit, ndit=ndit)]
        darks[setting] = esorex("hawki_dark_combine", [], frames, folder / f"dark_{dit}s_x{ndit}")["MASTER_DARK"]
    noise = None
    for band in BANDS:
        flats = night.frames("FLAT,TWILIGHT", band=band)
        dit, ndit = night.setting(flats[0])
        tagged = [(path, "FLAT_TWILIGHT") for path in flats]
        if noise is None:
            pairs = [(path, "DARK") for path in night.frames("DARK", dit=dit, ndit=ndit)[:2]]
            noise = esorex("hawki_detector_noise", [], pairs + tagged[:2], folder / "noise")["MASTER_READGAIN"]
        masters = esorex(
            "hawki_twilight_flat_combine",
            [],
            [*tagged, (darks[dit, ndit], "MASTER_DARK")],
            folder / f"flat_{band}",
        )
        science = night.frames("OBJECT", band=band)
        (folder / f"cut_{band}").mkdir()
        cut = {}
        for tag in ("MASTER_TWILIGHT_FLAT", "MASTER_CONF"):
            cut[tag] = folder / f"cut_{band}" / masters[tag].name
            run(sys.executable, CUT, masters[tag], cut[tag], *science, directory=folder)
        esorex(
            "hawki_science_process",
            ["--stk_cat_rcore=5", "--stk_cat_nbsize=64", "--psm_nbsize=64"],
            [
                *((path, "OBJECT") for path in science),
                (darks[night.setting(science[0])], "MASTER_DARK"),
                *((path, tag) for tag, path in cut.items()),
                (noise, "MASTER_READGAIN"),
                *((night.static / name, tag) for tag, name in STATIC.items()),
            ],
            folder / f"science_{band}",
        )


def main(arguments: list[str] | None = None) -> None:
    """Reduce from the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.eso.by_hand", description=__doc__)
    parser.add_argument("night", type=Path, help="folder that examples.eso.simulate wrote")
    parser.add_argument("output", type=Path, help="folder to make")
    options = parser.parse_args(arguments)
    reduce(Night(options.night.resolve()), options.output.resolve())


if __name__ == "__main__":
    main()
