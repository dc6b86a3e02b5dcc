"""ASDF files: the tree as plain YAML, and the blocks after it by the sizes that their headers give.

Nothing of ASDF's tags is obeyed, so that no extension runs; only whether the file is whole is looked at in its blocks.
"""

from __future__ import annotations

import re
import struct
from hashlib import md5
from typing import Final

from nightmill.errors import BadFile
from nightmill.files.formats.compressed import Unpacked, remedy_for, unpacked
from nightmill.files.formats.tree import KEYWORD, MAX_TREE_BYTES, Tree
from nightmill.files.formats.yaml_file import yaml_tree
from nightmill.files.reading import StrPath
from nightmill.model.content import Content, Digest

MAX_BLOCKS: Final = 10_000

_MAGIC: Final = b"\xd3BLK"
_INDEX: Final = b"#ASDF BLOCK INDEX"
_END: Final = re.compile(rb"\r?\n\.\.\.\r?\n")
_HEADER: Final = struct.Struct(">I4sQQQ16s")
_STREAMED: Final = 1
_CHUNK_BYTES: Final = 1 << 20


class Asdf:
    """The format ``asdf``: keywords are dotted paths into the tree."""

    keyword: Final = KEYWORD

    def read(
        self, path: StrPath, *, descriptor: int | None = None, digest: Digest | None = None, verify: bool = False
    ) -> Content:
        """Read the tree, and see that every block is whole, as :class:`nightmill.model.ports.Format` says.

        Raises
        ------
        BadFile
            With one of these reasons: ``missing``, ``unreadable``, ``empty``, ``not_of_format``, ``truncated``,
            ``trailing_bytes``, ``bad_checksum`` (the MD5 of a block), ``over_limit``, or ``bad_compression`` inside of
            gzip or bzip2.
        """
        with unpacked(path, descriptor, digest) as file:
            walk = _Walk(path, file, verify)
            tree = walk.tree()
            walk.blocks()
        return Content((tree,), file.size_bytes, file.compression, tuple(walk.unsigned))


class _Walk:
    """A way through a file from front to back."""

    def __init__(self, path: StrPath, file: Unpacked, verify: bool) -> None:
        self.path = path
        self.file = file
        self.verify = verify
        self.unsigned: list[str] = []
        self.ahead = b""

    def take(self, count: int) -> bytes:
        """Return the next bytes, fewer at the end alone."""
        while len(self.ahead) < count and (more := self.file.read(max(count - len(self.ahead), 1 << 16))):
            self.ahead += more
        taken, self.ahead = self.ahead[:count], self.ahead[count:]
        return taken

    def tree(self) -> Tree:
        """Read the tree; an empty one for a file without."""
        data = self.take(_CHUNK_BYTES)
        if not data.startswith(b"#ASDF "):
            raise BadFile(
                f"{self.path} is not ASDF: it begins with {data[:10]!r}",
                reason="not_of_format",
                remedy=remedy_for(data),
            )
        if not re.match(rb"(?:#[^\n]*\n)+(?:%|---)", data):
            self.ahead = data.partition(b"\n")[2] + self.ahead
            return Tree(None)
        while not (end := _END.search(data)):
            if len(data) > MAX_TREE_BYTES:
                raise self.file.over(f"its tree has more than {MAX_TREE_BYTES:,} bytes, the most that are read")
            more = self.take(_CHUNK_BYTES)
            if not more:
                raise self.cut_off("inside of its tree")
            data += more
        self.ahead = data[end.end() :] + self.ahead
        return yaml_tree(self.path, data[: end.end()], "ASDF")

    def blocks(self) -> None:
        """Pass over the blocks, which begin after any filling."""
        while (at := self.ahead.find(_MAGIC)) < 0:
            if not (more := self.file.read()):
                return
            self.ahead = self.ahead[1 - len(_MAGIC) :] + more
        self.ahead = self.ahead[at:]
        number = 0
        while (magic := self.take(4)) == _MAGIC:
            if number == MAX_BLOCKS:
                raise self.file.over(f"it has more than {MAX_BLOCKS:,} blocks, the most that are read")
            if not self.block(number):
                return
            number += 1
        if magic and not _INDEX.startswith(magic):
            raise BadFile(
                f"{self.path} has bytes after block {number - 1} that are not a block", reason="trailing_bytes"
            )

    def block(self, number: int) -> bool:
        """Pass over a block; say whether others may follow."""
        size = int.from_bytes(self.take(2), "big")
        header = self.take(size)
        if len(header) < max(size, _HEADER.size):
            raise self.cut_off(f"inside of the header of block {number}")
        flags, _compression, allocated, used, _inside, checksum = _HEADER.unpack_from(header)
        if flags & _STREAMED:
            self.unsigned.append(f"block {number} has no checksum")
            return False
        if used > allocated:
            raise BadFile(
                f"{self.path}: block {number} uses {used:,} of the {allocated:,} bytes that it has", reason="bad_header"
            )
        if not any(checksum):
            self.unsigned.append(f"block {number} has no checksum")
        found = md5(usedforsecurity=False)
        left = allocated
        while left:
            data = self.take(min(_CHUNK_BYTES, left))
            if not data:
                raise self.cut_off(f"{left:,} bytes before the end of block {number}")
            found.update(data[: max(used - (allocated - left), 0)])
            left -= len(data)
        if self.verify and any(checksum) and found.digest() != checksum:
            raise BadFile(f"{self.path}: block {number} does not agree with its checksum", reason="bad_checksum")
        return True

    def cut_off(self, where: str) -> BadFile:
        return BadFile(f"{self.path} is cut off: it ends {where}", reason="truncated", remedy="transfer it again")
