"""Plain texts, whose lines say something where a pattern finds it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from nightmill.errors import BadFile
from nightmill.files.formats.compressed import remedy_for, unpacked
from nightmill.files.reading import StrPath, decoded
from nightmill.model.content import Content, Digest, SectionValue

MAX_HEAD_BYTES: Final = 1 << 20
"""Of the beginning of a file, in which patterns are looked for."""
MAX_LINE: Final = 1000
"""Characters of a line in which they are looked for."""

_REPEATED: Final = re.compile(r"(?<!\\)\)(?:[*+]|\{\d*,\d*\})")


class Text:
    """The format ``text``: keywords are regular expressions with one group, which is the value."""

    keyword: Final = re.compile(r"[^\x00-\x1f\x7f]{1,500}")

    def wrong_with(self, keyword: str) -> str:
        """Say what is wrong with a pattern, as :class:`nightmill.model.ports.KeywordFormat` does."""
        try:
            groups = re.compile(keyword).groups
        except (re.error, OverflowError, RecursionError) as error:
            return f"is not a regular expression: {error}"
        if groups != 1:
            return f"has {groups} groups (...), and the one group of a pattern is the value; write others as (?:...)"
        if _REPEATED.search(keyword):
            return "repeats a group, which can take longer than a night on a line that does not fit"
        return ""

    def read(
        self, path: StrPath, *, descriptor: int | None = None, digest: Digest | None = None, verify: bool = False
    ) -> Content:
        """Read the beginning of a text, as :class:`nightmill.model.ports.Format` says.

        Raises
        ------
        BadFile
            With one of these reasons: ``missing``, ``unreadable``, ``empty``, ``not_of_format`` (it holds a NUL),
            ``truncated``, ``over_limit`` or ``bad_compression`` inside of gzip or bzip2.
        """
        head, count = b"", 0
        with unpacked(path, descriptor, digest) as file:
            while count < MAX_HEAD_BYTES and (data := file.read(MAX_HEAD_BYTES - count)):
                head += data
                count += len(data)
        if b"\0" in head:
            raise BadFile(
                f"{path} is not a text: it holds a NUL (byte {head.index(0):,})",
                reason="not_of_format",
                remedy=remedy_for(head) or "save it as UTF-8, or say another format in its file type",
            )
        return Content((Lines(head),), file.size_bytes, file.compression)


class Lines:
    """The one section of a text."""

    number: Final = 0
    name: Final = ""

    def __init__(self, head: bytes) -> None:
        lines = head.removeprefix(b"\xef\xbb\xbf").splitlines()
        self.lines = [decoded(line)[:MAX_LINE] for line in lines if line]

    def get(self, keyword: str) -> SectionValue | None:
        """Return what the group of a pattern found, in the first line where it found more than blanks."""
        pattern = _compiled(keyword)
        if pattern.groups != 1:  # keywords of FITS, which are asked for beside a time
            return None
        for line in self.lines:
            found = pattern.search(line)
            if found and found[1] and (value := found[1].strip()):
                return value
        return None

    def items(self) -> Iterator[tuple[str, SectionValue]]:
        """Yield nothing: a text has what it is asked for, and no list of it."""
        return iter(())


@lru_cache(maxsize=1024)
def _compiled(keyword: str) -> re.Pattern[str]:
    return re.compile(keyword)
