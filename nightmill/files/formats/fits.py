"""The structure of FITS files: HDU after HDU by the sizes that the headers give, read once from front to back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from io import BufferedReader
from math import prod
from typing import Final, NoReturn, Protocol

from nightmill.errors import BadFile
from nightmill.files.formats.cards import CARD_BYTES, Header
from nightmill.files.formats.compressed import Inflated, compression_in, remedy_for
from nightmill.files.formats.tables import table_rows
from nightmill.files.reading import StrPath, opened
from nightmill.model.attachment import RowValue
from nightmill.model.content import Content, Digest

BLOCK_BYTES: Final = 2880
MAX_HEADER_BLOCKS: Final = 1024
"""A header of more cards than these hold (36,864) is none: its END is missing and data is taken for cards."""
MAX_HDUS: Final = 10_000
MAX_HEADERS_BYTES: Final = 64 << 20
"""Of all headers of a file together: they are held in memory."""
MAX_FILLING_BYTES: Final = 1 << 20
"""After the last HDU; the records of a tape had ten blocks."""

_CHUNK_BYTES: Final = 1 << 20
_ONES: Final = 0xFFFFFFFF
_MAX_DATA_BYTES: Final = 1 << 62
_BITPIX: Final = frozenset({8, 16, 32, 64, -32, -64})


class Fits:
    """The format ``fits``: headers are read, data is passed over unless a checksum or a digest wants it."""

    keyword: Final = re.compile(r"[A-Za-z0-9_-]{1,8}|[!-~]+( [!-~]+)*")

    def read(
        self, path: StrPath, *, descriptor: int | None = None, digest: Digest | None = None, verify: bool = False
    ) -> Content:
        """Read the headers of a FITS file and check its structure, as :class:`nightmill.model.ports.Format` says.

        Its sections are its headers, as they are without tile compression where fpack had to move the primary one.

        Raises
        ------
        BadFile
            With one of these reasons: ``missing``, ``unreadable``, ``empty``, ``not_fits``, ``truncated``,
            ``bad_header`` (sizes that cannot be), ``trailing_bytes``, ``bad_checksum``, ``over_limit``,
            ``bad_compression``.
        """
        with opened(path, descriptor) as (file, size_bytes):
            if size_bytes == 0:
                raise BadFile(f"{path} is empty", reason="empty")
            compression = compression_in(file.peek(8))
            if compression:
                inflated = Inflated(path, file, size_bytes, compression, digest)
                walk = _Walk(path, inflated, None, None, verify)
                headers = tuple(walk.headers())
                inflated.finish()
            else:
                walk = _Walk(path, file, size_bytes, digest, verify)
                headers = tuple(walk.headers())
        return Content(_unpacked(headers), size_bytes, compression, tuple(walk.unsigned))

    def rows(
        self, name: StrPath, path: str, table: int | str, columns: Sequence[str]
    ) -> Iterator[tuple[RowValue, ...]]:
        """Yield rows of a table, as :meth:`nightmill.model.ports.TableFormat.rows` says."""
        return table_rows(name, path, table, columns)


def _unpacked(headers: tuple[Header, ...]) -> tuple[Header, ...]:
    """Give a file's primary header its place, where fpack put it behind an empty one to compress its image."""
    try:
        if len(headers) < 2 or headers[1].get("ZSIMPLE") is not True:
            return headers
    except ValueError:
        return headers
    return tuple(Header(header.number - 1, header.raw) for header in headers[1:])


class _Bytes(Protocol):
    def read(self, count: int, /) -> bytes: ...


class _Walk:
    """A way through a file, or through what a compressed one stands for, whose size nobody knows beforehand."""

    def __init__(
        self, path: StrPath, file: _Bytes, size_bytes: int | None, digest: Digest | None, verify: bool
    ) -> None:
        self.path = path
        self.file = file
        self.size_bytes = size_bytes
        self.digest = digest
        self.verify = verify
        self.unsigned: list[str] = []
        self.position = 0

    def headers(self) -> Iterator[Header]:
        number = size = 0
        while (header := self.header(number)) is not None:
            number += 1
            size += len(header.raw)
            if number > MAX_HDUS:
                self.refuse(f"has more than {MAX_HDUS:,} HDUs, the most that are read", "over_limit")
            if size > MAX_HEADERS_BYTES:
                most = f"{MAX_HEADERS_BYTES >> 20} MiB, the most that are read"
                self.refuse(f"the headers of its first {number:,} HDUs take more than {most}", "over_limit")
            self.data(header)
            yield header

    def header(self, number: int) -> Header | None:
        """Read the next header; None at the end of the file."""
        block = self.take(BLOCK_BYTES)
        if number and not block.startswith(b"XTENSION"):
            self.end(number, block)
            return None
        if not number and not block.startswith(b"SIMPLE  ="):
            self.not_fits(block)
        blocks = [block]
        while not _ends(block):
            if len(block) < BLOCK_BYTES:
                self.truncated(f"ends inside the header of HDU {number}")
            if len(blocks) == MAX_HEADER_BLOCKS:
                most = MAX_HEADER_BLOCKS * BLOCK_BYTES // CARD_BYTES
                self.refuse(
                    f"the header of HDU {number} has no END card in {most:,} cards, the most that are read",
                    "bad_header",
                )
            block = self.take(BLOCK_BYTES)
            blocks.append(block)
        if len(block) < BLOCK_BYTES:
            self.truncated(f"ends inside the header of HDU {number}")
        return Header(number, b"".join(blocks))

    def end(self, number: int, block: bytes) -> None:
        """Accept what follows the last HDU: nothing, or the blank or zero filling of old tapes."""
        if block and len(block) < 8 and b"XTENSION".startswith(block):
            self.truncated(f"ends inside the header of HDU {number}")
        begins = self.position - len(block)
        while block:
            if block.strip(b"\0 "):
                self.refuse(f"has bytes after HDU {number - 1} that are not an HDU", "trailing_bytes")
            if self.position - begins > MAX_FILLING_BYTES:
                most = f"{MAX_FILLING_BYTES:,} bytes, the most that are read"
                self.refuse(f"has filling after HDU {number - 1} of more than {most}", "trailing_bytes")
            block = self.take(_CHUNK_BYTES)

    def data(self, header: Header) -> None:
        """Pass over the data of an HDU, and verify its checksums where that is wanted."""
        try:
            size = data_bytes(header)
            datasum, checksum = header.get("DATASUM"), header.get("CHECKSUM")
        except ValueError as error:
            self.refuse(f"the header of HDU {header.number} is wrong: {error}", "bad_header")
        padded = -(-size // BLOCK_BYTES) * BLOCK_BYTES
        if self.size_bytes is not None and self.position + padded > self.size_bytes:
            self.lacks(header, padded, self.size_bytes - self.position)
        no_datasum, no_checksum = _blank(datasum), _blank(checksum)
        verify = self.verify and not (no_datasum and no_checksum)
        if no_datasum or no_checksum:
            self.unsigned.append(f"HDU {header.number} has no CHECKSUM and DATASUM")
        total = self.skip(header, padded, verify)
        if not verify:
            return
        if not no_datasum and str(datasum).strip() != str(total):
            self.refuse(f"the data of HDU {header.number} does not agree with its DATASUM", "bad_checksum")
        if not no_checksum and _sum32(header.raw, total) != _ONES:
            self.refuse(f"HDU {header.number} does not agree with its CHECKSUM", "bad_checksum")

    def take(self, count: int) -> bytes:
        data = self.file.read(count)
        self.position += len(data)
        if self.digest is not None:
            self.digest.update(data)
        return data

    def skip(self, header: Header, count: int, verify: bool) -> int:
        """Pass over the data of an HDU; return its checksum where that is wanted."""
        if not verify and self.digest is None and isinstance(self.file, BufferedReader):
            self.file.seek(count, 1)
            self.position += count
            return 0
        total = 0
        end = self.position + count
        while self.position < end:
            data = self.take(min(_CHUNK_BYTES, end - self.position))
            if not data:
                self.lacks(header, count, count - (end - self.position))
            if verify:
                total = _sum32(data, total)
        return total

    def not_fits(self, block: bytes) -> NoReturn:
        if b"SIMPLE  =".startswith(block):
            self.truncated("ends inside the first card")
        raise BadFile(
            f"{self.path} is not a FITS file: it begins with {block[:10]!r}",
            reason="not_fits",
            remedy=remedy_for(block),
        )

    def lacks(self, header: Header, count: int, there: int) -> NoReturn:
        self.truncated(f"has {there:,} of the {count:,} bytes that the data of HDU {header.number} takes")

    def truncated(self, how: str) -> NoReturn:
        raise BadFile(f"{self.path} is cut off: it {how}", reason="truncated", remedy="transfer it again")

    def refuse(self, what: str, reason: str) -> NoReturn:
        raise BadFile(f"{self.path}: {what}", reason=reason)


def data_bytes(header: Header) -> int:
    """Return how many bytes of data follow a header, without the filling of the last block.

    Raises
    ------
    ValueError
        Where a keyword that gives the size is missing, or has a value that cannot be.
    """
    if header.number == 0 and header.get("SIMPLE") is not True:
        raise ValueError("SIMPLE is not T")
    bitpix = _integer(header, "BITPIX")
    if bitpix not in _BITPIX:
        raise ValueError(f"BITPIX is {bitpix}")
    shape = [_integer(header, f"NAXIS{axis}") for axis in range(1, _integer(header, "NAXIS", most=999) + 1)]
    if not shape:
        return 0
    groups = header.number == 0 and shape[0] == 0 and header.get("GROUPS") is True
    elements = prod(shape[1:] if groups else shape)
    if groups or header.number:
        elements = _integer(header, "GCOUNT", 1) * (_integer(header, "PCOUNT", 0) + elements)
    size = abs(bitpix) // 8 * elements
    if size > _MAX_DATA_BYTES:
        raise ValueError(f"its {len(shape)} axes make more bytes than any file can have")
    return size


def _integer(header: Header, keyword: str, default: int | None = None, *, most: int = _MAX_DATA_BYTES) -> int:
    value = header.get(keyword)
    if value is None:
        value = default
    if type(value) is not int:
        raise ValueError(f"{keyword} is {'missing' if value is None else repr(value)}")
    if keyword != "BITPIX" and not 0 <= value <= most:
        raise ValueError(f"{keyword} is {value}")
    return value


def _ends(block: bytes) -> bool:
    """Say whether a header's block holds the END card: the word can stand at the start of a card alone."""
    at = block.find(b"END     ")
    while at > 0 and at % CARD_BYTES:
        at = block.find(b"END     ", at + 1)
    return at >= 0


def _blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _sum32(data: bytes, total: int) -> int:
    """Add bytes to a FITS checksum: the ones' complement sum of big-endian 32-bit words."""
    from numpy import frombuffer, uint64  # the rest of the module does without it

    total += int(frombuffer(data, ">u4").sum(dtype=uint64))
    while total > _ONES:
        total = (total & _ONES) + (total >> 32)
    return total
