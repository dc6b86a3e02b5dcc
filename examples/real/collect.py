"""Copy real frames out of installed packages: an image of SAAO from ccdproc, a spectrum of GMOS-S from astroscrappy.

``python -m examples.real.collect --output DIR`` writes ``saao/a8280271.fits`` and ``gmos/gmos.fits``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Frame:
    """A frame, and where it comes from."""

    folder: str
    package: str
    path: str
    """Inside the package."""


FRAMES: Final = (
    Frame("saao", "ccdproc", "tests/data/a8280271.fits"),
    Frame("gmos", "astroscrappy", "tests/data/gmos.fits"),
)


def locate(frame: Frame) -> Path:
    """Find a frame in its installed package, which is not imported.

    Raises
    ------
    FileNotFoundError
        Where the package, or the file in it, is not there; the message says what to install.
    """
    spec = find_spec(frame.package)
    remedy = f"install it from PyPI: pip install --force-reinstall {frame.package}"
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"package {frame.package} is not installed; {remedy}")
    path = Path(spec.origin).parent / frame.path
    if not path.is_file():
        raise FileNotFoundError(f"package {frame.package} has no {frame.path} in {path.parent}; {remedy}")
    return path


def collect(output: Path) -> list[Path]:
    """Copy every frame to a folder of its instrument.

    Returns
    -------
    list of Path
        The copies.

    Raises
    ------
    FileNotFoundError
        As :func:`locate`; nothing is copied then.
    """
    copies = []
    for frame, source in [(frame, locate(frame)) for frame in FRAMES]:
        folder = output / frame.folder
        folder.mkdir(parents=True, exist_ok=True)
        copies.append(Path(shutil.copy2(source, folder / source.name)))
    return copies


def main(arguments: list[str] | None = None) -> None:
    """Collect from the command line."""
    parser = argparse.ArgumentParser(prog="python -m examples.real.collect", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to copy into")
    options = parser.parse_args(arguments)
    try:
        copies = collect(options.output)
    except FileNotFoundError as problem:
        sys.exit(f"collect: {problem}")
    print("\n".join(str(path) for path in copies))


if __name__ == "__main__":
    main()
