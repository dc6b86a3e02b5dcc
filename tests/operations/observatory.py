"""A site with a small camera, and the files that it delivers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from tests.files.frames import fits_bytes

FILE_TYPES: Final = """\
file_types:
  raw_science:
    format: fits
    metadata:
      instrument: {keywords: [INSTRUME], required: true}
      exposure: {keywords: [EXPNUM], type: int, required: true}
      detector: {keywords: [CCDNUM], type: int, required: true}
      begins_at: {keywords: [DATE-OBS], type: time}
      exposure_seconds: {keywords: [EXPTIME], type: float, unit: s}
      ends_at: {compute: "end_of(begins_at, exposure_seconds)"}
      night: {compute: "night_of(begins_at, -70.8)"}
  raw_bias:
    format: fits
  mask:
    format: fits
    metadata: {detector: {keywords: [CCDNUM], type: int, required: true}}
  note: {}
"""


def frame(exposure: int = 1, **cards: object) -> bytes:
    """Make a raw exposure; cards that are None are left out."""
    return _frame(exposure, tuple(cards.items()))


@cache
def _frame(exposure: int, cards: tuple[tuple[str, object], ...]) -> bytes:
    header: Mapping[str, object] = {
        "INSTRUME": "cam",
        "EXPNUM": exposure,
        "CCDNUM": 1,
        "DATE-OBS": "2026-01-11T03:12:45",
        "EXPTIME": 30.0,
        "OBJECT": "M 67",
        **{name.replace("_", "-"): value for name, value in cards},
    }
    return fits_bytes({name: value for name, value in header.items() if value is not None}, {})


def deliver(folder: Path, count: int, **cards: object) -> list[Path]:
    """Write some raw exposures, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"cam_{number:04d}.fits" for number in range(1, count + 1)]
    for number, path in enumerate(paths, start=1):
        path.write_bytes(_frame(number, tuple(cards.items())))
    return paths


def stored(site: Path) -> dict[str, bytes]:
    """Return the files of a site's store, those that are no more than an upload included."""
    root = site / "stores" / "backbone"
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
