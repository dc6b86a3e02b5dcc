"""FITS files inside of gzip or bzip2: read through, and never further than any file of use goes."""

from __future__ import annotations

import zlib
from bz2 import BZ2File
from gzip import GzipFile
from io import RawIOBase
from typing import BinaryIO, Final, cast

from nightmill.errors import BadFile
from nightmill.files.reading import StrPath
from nightmill.model.content import Digest

MAX_BYTES: Final = 4 << 30
"""What comes out of a compressed file, where that is more than MAX_RATIO times what went in."""
MAX_RATIO: Final = 100

MAGIC: Final = {b"\x1f\x8b": "gz", b"BZh": "bz2"}
_OTHERS: Final = {
    b"\xfd7zXZ": "xz",
    b"\x1f\x9d": "compress (.Z)",
    b"PK\x03\x04": "zip",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_CHUNK_BYTES: Final = 1 << 20


def compression_in(begin: bytes) -> str:
    """Return how a file is compressed that begins so; an empty string where it is not, or by nothing that is read."""
    return next((name for magic, name in MAGIC.items() if begin.startswith(magic)), "")


def remedy_for(begin: bytes) -> str:
    """Return what to do about a file that begins so, and is not a FITS file."""
    packed = next((name for magic, name in _OTHERS.items() if begin.startswith(magic)), "")
    return f"it is compressed with {packed}; decompress it first" if packed else ""


class Inflated:
    """The bytes that a compressed file stands for, read from front to back.

    Parameters
    ----------
    digest
        Is given every byte of the file as it is, in order, once :meth:`finish` was called.
    """

    def __init__(self, path: StrPath, file: BinaryIO, size_bytes: int, compression: str, digest: Digest | None) -> None:
        self.path = path
        self.most = max(MAX_BYTES, MAX_RATIO * size_bytes)
        self.given = 0
        self.raw = _Hashed(file, digest)
        source = cast(BinaryIO, self.raw)
        self.stream: BinaryIO = cast(BinaryIO, GzipFile(fileobj=source) if compression == "gz" else BZ2File(source))

    def read(self, count: int) -> bytes:
        """Return the next bytes, fewer at the end.

        Raises
        ------
        BadFile
            Where the compressed bytes are cut off (``truncated``) or damaged (``bad_compression``), or stand for more
            than is read (``over_limit``).
        """
        try:
            data = self.stream.read(count)
        except EOFError as error:
            raise BadFile(
                f"{self.path} is cut off: its compressed bytes end early",
                reason="truncated",
                remedy="transfer it again",
            ) from error
        except (OSError, zlib.error) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise BadFile(
                f"{self.path}: its compressed bytes are damaged: {error}",
                reason="bad_compression",
                remedy="transfer it again",
            ) from error
        self.given += len(data)
        if self.given > self.most:
            raise BadFile(
                f"{self.path} becomes more than {self.most:,} bytes when it is decompressed, the most that are read",
                reason="over_limit",
                remedy="if it is what it should be, decompress it first",
            )
        return data

    def finish(self) -> None:
        """Read the file to its end, whatever stands behind its compressed bytes."""
        while self.raw.read(_CHUNK_BYTES):
            pass


class _Hashed(RawIOBase):
    """A file whose bytes are given to a digest as they are read."""

    def __init__(self, file: BinaryIO, digest: Digest | None) -> None:
        self.file = file
        self.digest = digest

    def read(self, count: int = -1, /) -> bytes:
        data = self.file.read(count)
        if self.digest is not None:
            self.digest.update(data)
        return data

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False
