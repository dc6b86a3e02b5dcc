"""Inspection: a file that is taken in, or that a step made, must be whole and say what its type requires."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from nightmill.files.checks.size import check_size
from nightmill.files.checksum import fingerprint
from nightmill.files.formats.fits import read_headers
from nightmill.files.headers import Metadata, metadata_of
from nightmill.files.reading import StrPath, opened
from nightmill.model.file_type import FileType


@dataclass(frozen=True, slots=True)
class Inspection:
    """A file that passed its inspection.

    Parameters
    ----------
    sha256
        Hexadecimal digits.
    compression
        What the bytes of a FITS file are inside of: ``gz``, ``bz2``, or nothing; None where nobody looked into it.
    """

    metadata: Metadata
    size_bytes: int
    sha256: str
    compression: str | None = None


def check_file(path: StrPath, file_type: FileType) -> Metadata:
    """Check a file against its type: size, structure, checksums, required metadata.

    Returns
    -------
    Metadata
        What the type wants of the file.

    Raises
    ------
    BadFile, BadMetadata
        With the reasons of :func:`nightmill.files.formats.fits.check_fits` and
        :func:`nightmill.files.headers.read_metadata`.
    """
    if file_type.format == "fits":
        return metadata_of(read_headers(path, file_type.checks).headers, file_type, path)
    with opened(path) as (_, size_bytes):
        check_size(path, size_bytes, file_type.checks)
    return metadata_of((), file_type, path)


def inspect_file(path: StrPath, file_type: FileType, descriptor: int | None = None) -> Inspection:
    """Check a file as :func:`check_file` does, and take its size and SHA-256, reading it once.

    A descriptor may be given of a file that is open already.

    Raises
    ------
    BadFile, BadMetadata
        As :func:`check_file`.
    """
    if file_type.format == "fits":
        digest = sha256()
        headers, size_bytes, compression = read_headers(path, file_type.checks, digest, descriptor=descriptor)
        return Inspection(metadata_of(headers, file_type, path), size_bytes, digest.hexdigest(), compression)
    size_bytes, hexdigest = fingerprint(path, descriptor)
    check_size(path, size_bytes, file_type.checks)
    return Inspection(metadata_of((), file_type, path), size_bytes, hexdigest)
