"""How fast small FITS files are taken in; beside reading their headers alone."""

from __future__ import annotations

import shutil
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

from astropy.io import fits

from benchmarks.figures import Result, alternately, figure, machine, now
from benchmarks.sites import EPOCH, WHO, new_site, working_folder
from nightmill.model.origin import Origin
from nightmill.operations.ingest.take_in import ingest

FILES: Final = 2_000
REPEATS: Final = 5
SIDE_PIXELS: Final = 96
"""Of 16 bits: with its header, a file has 24 kB."""

_TYPE: Final = {
    "format": "fits",
    "metadata": {
        "instrument": {"keywords": ["INSTRUME"], "required": True},
        "exposure": {"keywords": ["EXPNUM"], "type": "int", "required": True},
        "detector": {"keywords": ["CCDNUM"], "type": "int", "required": True},
        "band": {"keywords": ["FILTER"]},
        "begins_at": {"keywords": ["DATE-OBS"], "type": "time", "required": True},
        "exposure_seconds": {"keywords": ["EXPTIME"], "type": "float", "unit": "s"},
        "ends_at": {"compute": "end_of(begins_at, exposure_seconds)"},
        "night": {"compute": "night_of(begins_at, -70.8)"},
        "airmass": {"keywords": ["AIRMASS"], "type": "float"},
    },
}


def measure(*, size: int = FILES, repeats: int = REPEATS) -> Result:
    """Measure on SQLite, each time other files into the same site."""
    with working_folder() as folder, new_site(folder / "site", types={"frame": _TYPE}) as site:
        batches = iter([_write_frames(folder / f"batch{number}", number, size) for number in range(repeats + 1)])

        def take_in(batch: Path) -> float:
            start = time.perf_counter()
            result = ingest(site, [batch], type="frame", origin=Origin.RAW, who=WHO)
            seconds = time.perf_counter() - start
            if len(result.registered) != size:
                raise AssertionError(f"only {len(result.registered)} of {size} files were registered")
            return size / seconds

        warm = next(batches)
        take_in(warm)
        paths = sorted(warm.iterdir())
        values, floors, peers = alternately(
            repeats,
            lambda: take_in(next(batches)),
            lambda: _rate(paths, _read_bare),
            lambda: _rate(paths, fits.getheader),
        )
        shutil.rmtree(warm)
    headline, beside_astropy = figure(values, floors, rate=True), figure(values, peers, rate=True)
    return Result(
        **headline.model_dump(),
        name="ingest",
        unit="files per second",
        compared=(
            "files found, read, checked, hashed, copied, made durable and registered, SQLite; floor: each header's"
            " blocks read up to the END card"
        ),
        aim="at least 2,000",
        size=f"{repeats} × {size:,} FITS files of 24 kB",
        also={"beside astropy.io.fits.getheader": beside_astropy},
        machine=machine(),
        measured_at=now(),
        command="python -m benchmarks ingest --json",
    )


def _write_frames(folder: Path, batch: int, count: int) -> Path:
    """Write frames that differ in their headers alone."""
    import numpy as np

    folder.mkdir()
    pixels = np.arange(SIDE_PIXELS**2, dtype=np.int16).reshape(SIDE_PIXELS, SIDE_PIXELS)
    header = fits.Header({"INSTRUME": "bench", "FILTER": "r", "EXPTIME": 30.0, "AIRMASS": 1.2})
    header.update({f"KEY{number}": float(number) for number in range(50)})
    for number in range(count):
        exposure = batch * count + number
        header["EXPNUM"], header["CCDNUM"] = exposure, number % 60
        header["DATE-OBS"] = (EPOCH + timedelta(minutes=exposure)).replace(tzinfo=None).isoformat()
        fits.PrimaryHDU(pixels, header).writeto(folder / f"frame{exposure:08d}.fits")
    return folder


def _rate(paths: list[Path], read: object) -> float:
    assert callable(read)
    start = time.perf_counter()
    for path in paths:
        read(path)
    return len(paths) / (time.perf_counter() - start)


def _read_bare(path: Path) -> bytes:
    with path.open("rb") as file:
        header = b""
        while b"END     " not in header:
            header += file.read(2880)
    return header
