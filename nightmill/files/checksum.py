"""Checksums of whole files."""

from __future__ import annotations

from hashlib import file_digest, sha256
from typing import Final

from nightmill.files.reading import StrPath, opened

SMALL_BYTES: Final = 1 << 18
"""Less is hashed at one go: the buffer that file_digest() makes takes longer than the bytes of a small file."""


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
    with opened(path, descriptor) as (file, size_bytes):
        if size_bytes < SMALL_BYTES:
            data = file.read()
            return len(data), sha256(data).hexdigest()
        digest = file_digest(file, "sha256")
        return file.tell(), digest.hexdigest()
