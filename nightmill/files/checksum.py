"""Checksums of whole files."""

from __future__ import annotations

from hashlib import file_digest

from nightmill.files.reading import StrPath, opened


def sha256_file(path: StrPath) -> str:
    """Read a file and return its SHA-256 as hexadecimal digits.

    Raises
    ------
    BadFile
        Where it cannot be read.
    """
    return fingerprint(path)[1]


def fingerprint(path: StrPath, descriptor: int | None = None) -> tuple[int, str]:
    """Read a file once and return its size in bytes and its SHA-256 as hexadecimal digits.

    The size is that of the bytes that were hashed, whatever happens to the file meanwhile. Its descriptor may be given
    where it is open already.

    Raises
    ------
    BadFile
        Where it cannot be read.
    """
    with opened(path, descriptor) as (file, _):
        digest = file_digest(file, "sha256")
        return file.tell(), digest.hexdigest()
