"""What ``nightmill verify`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nightmill.cli.documents import Document


@dataclass(frozen=True, kw_only=True)
class Wrong(Document):
    """Something that is not as it was signed."""

    what: str
    """The file, attempt or journal."""
    why: str
    """What is wrong with it, in words."""


@dataclass(frozen=True, kw_only=True)
class Verified(Document):
    """What was compared with what workers signed."""

    attempts: int
    """Attempts that ended, published or not."""
    signed: int
    """Those whose statement a key of the site signed."""
    before: int
    """Those that were carried out before the site had a key."""
    files: int
    """Files that they made."""
    copies: int
    """Copies of these that were read, and have the bytes that are on record."""
    unread: Sequence[str]
    """Copies that could not be read, with why."""
    wrong: Sequence[Wrong]
    """All that is not as it was signed, or as it is on record."""
