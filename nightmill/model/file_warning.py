"""What a check says of a file that it does not hold back."""

from __future__ import annotations

from nightmill.model.base import Frozen


class FileWarning(Frozen):
    """A check that a file failed, and that its type asks to warn alone: it stays on record with the file."""

    check: str
    """Its name, as the type writes it."""
    reason: str
    """A word that stays, for queries."""
    message: str
    """What is wrong, and what to do about it."""

    def after(self, name: str) -> str:
        """Return the message as it follows the name of the file, with which most begin."""
        return self.message.removeprefix(f"{name}: ")
