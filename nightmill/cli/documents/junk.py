"""What ``nightmill show`` prints of a tar of junk."""

from __future__ import annotations

from dataclasses import dataclass

from nightmill.cli.documents import Document


@dataclass(frozen=True, kw_only=True)
class JunkMember(Document):
    """What a step left, or the gate refused."""

    step: str
    """The step that left it."""
    path: str
    """Where it was, below the folder of the step; in the tar below the name of the step."""
    kind: str
    """``file``, ``folder`` that was not looked into, ``link to ...``, or ``pipe, socket or device``."""
    size_bytes: int
    """Its size, bytes."""
    sha256: str | None
    """Its digest; null of what is not in the tar."""
    why: str
    """``undeclared``, ``refused`` by the gate, or ``unfinished`` as its step failed."""
    kept: bool
    """Whether it is in the tar."""
