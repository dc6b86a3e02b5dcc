"""The command that is carried out, as it can be typed again: whoever puts an act on record keeps it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

COMMAND: Final[ContextVar[tuple[str, ...]]] = ContextVar("nightmill_command", default=())
"""Its words, begun with ``nightmill``; none where a program acts, and no command line. It has no secrets, and its paths
are absolute."""
