"""How fast small FITS files are taken in; beside the same copies, hashes, syncs and rows with nothing checked."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final

from astropy.io import fits

from benchmarks.figures import Result, alternately, figure, machine, now
from benchmarks.sites import EPOCH, WHO, new_site, working_folder
from nightmill.backbone.schema import Base
from nightmill.model.origin import Origin
from nightmill.model.store import Store
from nightmill.operations.ingest.take_in import LOT, ingest
from stagers.local import LocalStager

FILES: Final = 2_000
REPEATS: Final = 5
SIDE_PIXELS: Final = 96
"""Of 16 bits: with its header, a file has 24 kB."""

_COLUMNS: Final = {
    table: [column.name for column in Base.metadata.tables[table].columns] for table in ("file", "replica")
}
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

        bare = _Bare(folder / "bare")
        warm = next(batches)
        take_in(warm)
        paths = sorted(warm.iterdir())
        values, floors, peers = alternately(
            repeats,
            lambda: take_in(next(batches)),
            lambda: size / bare.take_in(paths),
            lambda: _rate(paths, fits.getheader),
        )
    headline, beside_astropy = figure(values, floors, rate=True), figure(values, peers, rate=True)
    return Result(
        **headline.model_dump(),
        name="ingest",
        unit="files per second",
        compared=(
            "files found, read, checked, hashed, copied, made durable and registered, SQLite; floor: the same files"
            " read, hashed, copied, the copies hashed and made durable, and as many rows inserted into tables without"
            " constraints, in as many transactions"
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


class _Bare:
    """Takes files in without a look at them: what their bytes and rows cost by themselves."""

    def __init__(self, folder: Path) -> None:
        self.stager = LocalStager(Store(name="bare", url=str(folder / "store")))
        self.store = folder / "store"
        self.store.mkdir(parents=True)
        self.round = 0
        self.database = sqlite3.connect(folder / "bare.db", isolation_level=None)
        self.database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
        for table, columns in _COLUMNS.items():
            self.database.execute(f"CREATE TABLE {table} ({', '.join(columns)})")

    def take_in(self, paths: Sequence[Path]) -> float:
        """Take files in, and return the seconds that it took."""
        start = time.perf_counter()
        self.round += 1
        folder = self.store / str(self.round)
        folder.mkdir()
        for first in range(0, len(paths), LOT):
            self._lot(folder, paths[first : first + LOT])
        return time.perf_counter() - start

    def _lot(self, folder: Path, paths: Sequence[Path]) -> None:
        files, copies = [], []
        for path in paths:
            content = path.read_bytes()
            digest = sha256(content).hexdigest()
            part = folder / f".{path.name}"
            part.write_bytes(content)
            if sha256(part.read_bytes()).hexdigest() != digest:
                raise AssertionError(f"{part} is not what was written")
            files.append([*[path.name] * (len(_COLUMNS["file"]) - 1), digest])
            copies.append([path.name] * len(_COLUMNS["replica"]))
        self.stager.sync(f"{folder.name}/{path.name}" for path in paths)
        for path in paths:
            (folder / f".{path.name}").rename(folder / path.name)
        self.stager.settle([f"{folder.name}/{paths[0].name}"])
        self.database.execute("BEGIN IMMEDIATE")
        for table, rows in (("file", files), ("replica", copies)):
            places = ", ".join("?" * len(rows[0]))
            self.database.executemany(f"INSERT INTO {table} VALUES ({places})", rows)  # noqa: S608 - of this module
        self.database.execute("COMMIT")
