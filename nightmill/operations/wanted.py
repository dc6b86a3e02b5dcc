"""What an operator wants of a rerun."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from nightmill.model.secrets import masked


class Which(StrEnum):
    """Which jobs of a campaign run again, of those that :attr:`Wanted.where` and :attr:`Wanted.stage` leave."""

    FAILED = "failed"
    """Those that failed, and those that exclusions hold."""
    STALE = "stale"
    """Those whose inputs would be others now; they get these."""
    WHOLE = "whole"
    """Every one that is at its end."""


@dataclass(frozen=True)
class Wanted:
    """What an operator wants to run again.

    Parameters
    ----------
    which, where, stage
        Which jobs: ``where`` is an expression over the keys of their units.
    settings, overrides
        What is to be otherwise: ``KEY=VALUE`` as a command line has it, and operator's files below these.
    exclude
        What must not be an input of these attempts, beside what is excluded anyway: expressions, or ``FILE NAME``.
    from_step
        The step to begin with.
    from_failure
        Whether each begins with the step that its last attempt failed in.
    downstream
        Whether done jobs of the campaign that read what these made run again after them.
    engine
        Which engine of the site carries out jobs of the campaign from now on, or of :attr:`stage` alone; by default
        those that did.
    """

    which: Which = Which.FAILED
    where: str = ""
    stage: str = ""
    settings: tuple[str, ...] = ()
    overrides: tuple[Path, ...] = ()
    exclude: tuple[str, ...] = ()
    from_step: str = ""
    from_failure: bool = False
    downstream: bool = False
    engine: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether it is nothing but what failed, as it was."""
        return self == Wanted()

    def record(self) -> dict[str, Any]:
        """Return what the act keeps of it, enough to do the same again."""
        record = {name: value for name, value in vars(self).items() if value}
        paths = [str(path.absolute()) for path in self.overrides]
        return {**record, "which": self.which.value, "settings": [*map(masked, self.settings)], "overrides": paths}
