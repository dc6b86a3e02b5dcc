"""Breakpoints: where a campaign waits for somebody to look at what it has made."""

from __future__ import annotations

from typing import Final, Self

from pydantic import Field, model_validator

from nightmill.model.base import Frozen

COMPARED: Final = ("same", "differing", "missing")
"""What a rule may ask of a comparison: how many files are the same bytes, differ, and have no counterpart."""
COUNTS: Final = ("done", "failed", *COMPARED)
"""What a rule may ask: how many of the jobs before it are done and failed, and how their files compare."""


class Pilot(Frozen):
    """A sample of the units of a stage, which goes before the rest."""

    stage: str
    """Name of the stage."""
    units: int = Field(ge=1)
    """How many units of each group."""
    per: tuple[str, ...] = ()
    """Keys of the units, whose values make the groups; none for one group of all."""


class Breakpoint(Frozen):
    """A place at which a campaign waits for a sign-off: after a stage, or after a sample of one."""

    after: str = ""
    """Name of a stage: what needs it begins when that is signed off."""
    pilot: Pilot | None = None
    """A sample: the other units of its stage begin when that is signed off."""
    against: str = Field(default="", exclude_if=lambda against: not against)
    """Name of a campaign: what is to be signed off is compared with what that made of the same units."""
    rule: str = Field(default="", exclude_if=lambda rule: not rule)
    """An expression over :data:`COUNTS`: where it holds, nobody has to sign it off."""

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if bool(self.after) == (self.pilot is not None):
            raise ValueError("a breakpoint with either 'after' or 'pilot'")
        return self

    @property
    def name(self) -> str:
        """As it is signed off: ``after science``, or ``pilot of science``."""
        return f"pilot of {self.pilot.stage}" if self.pilot else f"after {self.after}"

    @property
    def stage(self) -> str:
        """The stage that it names."""
        return self.pilot.stage if self.pilot else self.after
