"""What verbs print of what checks say of files that they do not hold back."""

from __future__ import annotations

from dataclasses import dataclass

from nightmill.cli.documents import Document


@dataclass(frozen=True, kw_only=True)
class FileWarning(Document):
    """A check that a file failed, and that did not hold it back."""

    check: str
    """Its name, as the file type writes it."""
    reason: str
    """A code, for queries."""
    message: str
    """What is wrong, and what to do about it."""
