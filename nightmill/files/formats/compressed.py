"""Files inside of gzip or bzip2: read through, and never further than any file of use goes."""

from __future__ import annotations

import zlib
from bz2 import BZ2File
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from gzip import GzipFile
from io import RawIOBase
from typing import BinaryIO, Final, cast

from nightmill.errors import BadFile
from nightmill.files.reading import StrPath, opened
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
    """Return what to do about a file that begins so, and is not of its format."""
    packed = next((name for magic, name in {**MAGIC, **_OTHERS}.items() if begin.startswith(magic)), "")
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


class Unpacked:
    """The bytes of a file that may be compressed, as they are inside, read from front to back."""

    def __init__(self, path: StrPath, source: Inflated | _Hashed, size_bytes: int, compression: str) -> None:
        self.path = path
        self.source = source
        self.size_bytes = size_bytes
        self.compression = compression

    def read(self, count: int = _CHUNK_BYTES) -> bytes:
        """Return the next bytes, fewer at the end alone; what they are inside of is verified as they are read."""
        return self.source.read(count)

    def whole(self, most: int, what: str) -> bytes:
        """Return everything that follows.

        Parameters
        ----------
        most
            The most bytes that are read.
        what
            What has no more of them, for the message: ``a JSON file``.

        Raises
        ------
        BadFile
            Where there are more (``over_limit``).
        """
        data = b"".join(iter(partial(self.read, min(_CHUNK_BYTES, most + 1)), b""))
        if len(data) > most:
            raise self.over(f"has more than {most:,} bytes, the most that are read of {what}")
        return data

    def lines(self, most: int) -> Iterator[bytes]:
        """Yield the lines that follow, each with its end.

        Parameters
        ----------
        most
            The most bytes that one may have.

        Raises
        ------
        BadFile
            Where one has more (``over_limit``).
        """
        rest = b""
        while data := self.read():
            *lines, rest = (rest + data).split(b"\n")
            if any(len(line) > most for line in (*lines, rest)):
                raise self.over(f"a line has more than {most:,} bytes, the most that are read of one")
            yield from (line + b"\n" for line in lines)
        if rest:
            yield rest

    def over(self, what: str) -> BadFile:
        """Make the refusal of a file that has more of something than is read."""
        return BadFile(f"{self.path}: {what}", reason="over_limit")


@contextmanager
def unpacked(path: StrPath, descriptor: int | None, digest: Digest | None) -> Iterator[Unpacked]:
    """Open a file that may be compressed with gzip or bzip2; what is not read of it is passed over at the end.

    Raises
    ------
    BadFile
        As :func:`nightmill.files.reading.opened` and :meth:`Inflated.read`, or where the file is ``empty``.
    """
    with opened(path, descriptor) as (file, size_bytes):
        if size_bytes == 0:
            raise BadFile(f"{path} is empty", reason="empty")
        compression = compression_in(file.peek(8))
        inflated = Inflated(path, file, size_bytes, compression, digest) if compression else None
        raw = inflated.raw if inflated else _Hashed(file, digest)
        yield Unpacked(path, inflated or raw, size_bytes, compression)
        if inflated:
            while inflated.read(_CHUNK_BYTES):
                pass
        if digest is not None:
            while raw.read(_CHUNK_BYTES):
                pass
