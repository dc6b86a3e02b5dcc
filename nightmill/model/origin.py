"""Where a file comes from."""

from __future__ import annotations

from enum import StrEnum


class Origin(StrEnum):
    """Where a file came from."""

    RAW = "raw"
    """Delivered by an instrument: no process before it is known or claimed."""
    MANUAL = "manual"
    """Brought by a person, with a provenance message; made by something outside nightmill."""
    BATCH = "batch"
    """Made by an execution that nightmill recorded."""
