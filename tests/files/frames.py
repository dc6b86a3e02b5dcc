"""FITS files for tests: real ones that packages bring, and small ones that are made to order."""

from __future__ import annotations

import io
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from nightmill.model.file_type import Checks, FileType, MetadataKey

BLOCK = 2880


def packaged(package: str, path: str) -> Path:
    """Return the path of a file that an installed package brings."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / path


def astropy_file(name: str) -> Path:
    return packaged("astropy", f"io/fits/tests/data/{name}")


GMOS = packaged("astroscrappy", "tests/data/gmos.fits")
SAAO = packaged("ccdproc", "tests/data/a8280271.fits")
SCIENCE_MEF = packaged("ccdproc", "tests/data/science-mef.fits")
WFPC2 = astropy_file("test0.fits")
STIS = astropy_file("o4sp040b0_raw.fits")


def fits_bytes(
    cards: Mapping[str, Any], *extensions: Mapping[str, Any], pixels: int = 100, checksum: bool = False
) -> bytes:
    """Make a FITS file: a primary header without data, and images."""
    hdus: list[Any] = [fits.PrimaryHDU()]
    hdus += [fits.ImageHDU(np.arange(pixels, dtype="i2")) for _ in extensions]
    for hdu, own in zip(hdus, (cards, *extensions), strict=True):
        for keyword, value in own.items():
            hdu.header[keyword] = value
    file = io.BytesIO()
    fits.HDUList(hdus).writeto(file, checksum=checksum)
    return file.getvalue()


def raw_header(*cards: str) -> bytes:
    """Make a file of one header, with cards that no careful writer would write."""
    first = (f"SIMPLE  = {'T':>20}", f"BITPIX  = {8:>20}", f"NAXIS   = {0:>20}")
    text = "".join([card.ljust(80) for card in (*first, *cards, "END")])
    return text.ljust(-(-len(text) // BLOCK) * BLOCK).encode("latin-1")


def file_type(**metadata: MetadataKey | dict[str, Any]) -> FileType:
    """Make a file type that wants some metadata and no checks."""
    keys = {name: MetadataKey.model_validate(key) for name, key in metadata.items()}
    return FileType(name="frame", format="fits", metadata=keys, checks=Checks())
