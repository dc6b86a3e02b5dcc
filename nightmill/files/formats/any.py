"""The format of files that are taken as they are: their size and their bytes, and nothing that they say."""

from __future__ import annotations

from typing import Final

from nightmill.files.reading import StrPath, opened
from nightmill.model.content import Content, Digest

_CHUNK_BYTES: Final = 1 << 18


class AnyFile:
    """The format ``any``."""

    keyword: Final = None

    def read(
        self, path: StrPath, *, descriptor: int | None = None, digest: Digest | None = None, verify: bool = False
    ) -> Content:
        """Read a file, as :class:`nightmill.model.ports.Format` says.

        Its size is that of the bytes that were read, whatever happens to the file meanwhile.

        Raises
        ------
        BadFile
            Where it is not there (``missing``), or not a regular file that can be read (``unreadable``).
        """
        with opened(path, descriptor) as (file, size_bytes):
            if digest is None:
                return Content((), size_bytes)
            while data := file.read(_CHUNK_BYTES):
                digest.update(data)
            return Content((), file.tell())
