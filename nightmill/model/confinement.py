"""Confinement: what steps may reach beside what their orders give them, and how much they may take."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from nightmill.model.base import Frozen

Network = Literal["off", "on"] | tuple[Annotated[int, Field(ge=1, le=65535)], ...]
"""What of the network a step may use: nothing, all, or TCP connections to some ports."""


class Use(StrEnum):
    """Whether steps are confined."""

    TRY = "try"
    """As far as the host can; the record of each step says how."""
    DEMAND = "demand"
    """A host that cannot do it whole starts no step."""
    OFF = "off"
    """They reach whatever their user can."""


class Confinement(Frozen):
    """How the steps of a site are confined."""

    use: Use = Use.TRY
    """``try``, ``demand`` or ``off``."""
    reads: tuple[Path, ...] = ()
    """Files and folders of the hosts that every step may read, beside the software of the system and this Python."""
    processes: int = Field(default=4096, ge=1)
    """The most processes and threads of one step; on a host that cannot count those of a step, of its user."""
    open_files: int | None = Field(default=None, ge=16)
    """The most files that one process has open; by default what the worker may have."""
    cgroup: Path | None = None
    """The control group of each host that is the worker's to divide: what holds memory and processes of steps."""

    @field_validator("cgroup")
    @classmethod
    def _is_whole(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_absolute():
            raise ValueError(f"{str(path)!r} is not a path from the root, as /sys/fs/cgroup/nightmill.slice")
        return path


class NodeConfinement(Confinement):
    """The same, as a node needs to know it."""

    closed: tuple[Path, ...] = ()
    """What steps never reach, even where it lies in a folder that they may read: stores, database, secrets."""
