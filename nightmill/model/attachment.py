"""What a file holds that is too large for a journal: rows, which stand beside it in the spool under their digest."""

from __future__ import annotations

from typing import Final

from nightmill.model.base import Frozen

MEMBERSHIP: Final = "membership"
"""The kind of an attachment that says which files belong to which units."""

JUNK: Final = "junk"
"""The kind of one that lists what a tar of junk holds; and the type of that file."""

RowValue = str | int | float | bool | None


class Attachment(Frozen):
    """Rows that were read of a file while it was there.

    They are JSON lines: an :class:`AttachmentHeader`, then a list a row.
    """

    kind: str
    sha256: str
    """Of the lines; its name in the spool."""
    size_bytes: int
    rows: int


class AttachmentHeader(Frozen):
    """The first line of an attachment."""

    kind: str
    columns: tuple[str, ...]
