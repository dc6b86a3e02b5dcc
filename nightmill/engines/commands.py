"""Commands of batch systems, called."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from re import Pattern
from typing import Final

from pydantic import Field

from nightmill.errors import EngineAway, RequestRefused
from nightmill.model.base import Frozen

COMMAND_SECONDS: Final = 60.0
INHERITED: Final = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
"""What workers are given of the environment of the slice, which has its secrets: what programs are found by."""


class BatchOptions(Frozen):
    """How dispatches are submitted to any batch system."""

    places: int = Field(default=200, ge=1)
    """Dispatches that wait or run at a time, at most."""
    python: str = ""
    """The interpreter on the nodes that has nightmill; the one of the slice where there is none."""
    export: tuple[str, ...] = ()
    """Names of variables of the slice's environment that workers are given, beside those that programs are found by."""
    wall_margin_seconds: float = Field(default=600.0, ge=0)
    """How much longer than the limits of its steps a dispatch may take, to stage and to publish."""
    memory_margin_bytes: int = Field(default=200_000_000, ge=0)
    """How much more memory than its jobs ask for a dispatch gets, for its worker."""


@dataclass(frozen=True)
class Commands:
    """The commands of a batch system, for one engine.

    Parameters
    ----------
    system
        What people call it.
    engine
        Name of the engine.
    away
        What a command says where the system does not answer.
    keys
        The keys of the engine that tell it what to do: for a remedy.
    environment
        Variables that the commands are given besides.
    """

    system: str
    engine: str
    away: Pattern[str]
    keys: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def call(self, command: str, *arguments: str, script: str | None = None) -> str:
        """Call a command, and return what it prints.

        Raises
        ------
        EngineAway
            Where the system does not answer.
        RequestRefused
            Where it refuses, or the command is not here.
        """
        try:
            done = subprocess.run(
                [command, *arguments],
                input=script,
                stdin=None if script is not None else subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=COMMAND_SECONDS,
                check=False,
                env={**os.environ, **self.environment},
            )
        except FileNotFoundError:
            needed = f"{self.system}'s commands must be on the PATH of the runner's host"
            remedy = f"{needed}, or engine {self.engine!r} be another"
            raise RequestRefused(f"{command!r} is not here", remedy=remedy) from None
        except subprocess.TimeoutExpired:
            raise EngineAway(f"{command} of {self.system} did not answer within {COMMAND_SECONDS:g} s") from None
        if done.returncode == 0:
            return done.stdout
        said = " ".join(done.stderr.split()) or f"it exited with code {done.returncode}"
        if self.away.search(said):
            raise EngineAway(f"{self.system} does not answer: {said}")
        raise RequestRefused(f"{self.system} refuses: {said}", remedy=f"see {self.keys} of engine {self.engine!r}")
