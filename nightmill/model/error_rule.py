"""Errors that a site knows by name: the rules that recognise them, what they mean, and what is done."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Final, Literal, Self

import re2
from pydantic import Field, field_validator, model_validator

from nightmill.model.base import Frozen
from nightmill.model.fate import Fate
from nightmill.model.retries import Retry

NAME: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}"
MOST_PATTERN: Final = 1000
_MEMORY_BYTES: Final = 8 << 20
"""The most that a compiled pattern may take."""


class ErrorRule(Frozen):
    """One error, by everything that is said of the attempts that it ends: all of it must hold."""

    name: str = Field(pattern=f"^{NAME}$")
    """By which people know it."""
    step: str = ""
    """A pattern over the name of the step that failed, as ``detect*``."""
    stage: str = ""
    """A pattern over the name of the stage."""
    exit: tuple[Annotated[int, Field(ge=0, le=255)], ...] = ()
    """Exit codes of the step; none for any."""
    fate: tuple[Fate, ...] = ()
    """Fates of the attempt; none for any but ``cancelled``."""
    says: str = Field(default="", max_length=MOST_PATTERN)
    """A regular expression, in the syntax of RE2, over the evidence and over the lines of the step's log."""
    explanation: str = Field(min_length=1)
    """What it means, in words."""
    link: str = Field(default="", pattern=r"^(https?://\S+)?$")
    """Where the site says more of it."""
    action: Literal["fail", "retry", "hold", "accept"] | None = None
    """What becomes of the job: not tried again, tried again as ``retry`` says, held for review; or gone on with, as the
    step counts as good. Left out, the ``retries`` of its stage decide."""
    retry: Retry | None = None
    """How it is tried again."""
    priority: int = Field(default=100, ge=0, le=10000)
    """Of several rules that recognise a failure the one with the lowest number counts, then the first by name."""

    @field_validator("says")
    @classmethod
    def _is_pattern(cls, says: str) -> str:
        compiled(says)
        return says

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not (self.step or self.stage or self.exit or self.fate or self.says):
            raise ValueError("a rule that says what it names: one of step, stage, exit, fate and says at least")
        if (self.action == "retry") is not (self.retry is not None):
            raise ValueError("a rule with 'retry' where its action is retry, and there alone")
        if self.action == "accept":
            if not self.step or not self.exit or 0 in self.exit:
                raise ValueError(
                    "a rule that names the step and its exit codes, other than 0, where its action is accept:"
                    " everything else would be accepted"
                )
            if self.fate:
                raise ValueError("a rule without 'fate' where its action is accept: exit codes alone are accepted")
        return self

    @property
    def decides(self) -> bool:
        """Whether it says what becomes of the job of an attempt that failed, in the place of its stage."""
        return self.action not in (None, "accept")

    @property
    def fates(self) -> tuple[Fate, ...]:
        """The fates of its failures; none for any but ``cancelled``."""
        return (Fate.STEP_FAILED,) if self.action == "accept" else self.fate

    def may_be(self, *, stage: str, step: str, fate: Fate, exit_code: int | None) -> bool:
        """Say whether an attempt that ended so may be one of this error, whatever it says."""
        return (
            (fate in self.fates if self.fates else fate is not Fate.CANCELLED)
            and (not self.exit or exit_code in self.exit)
            and (not self.step or fnmatchcase(step, self.step))
            and (not self.stage or fnmatchcase(stage, self.stage))
        )


def compiled(says: str) -> re2._Regexp:
    """Compile a pattern: ``^`` and ``$`` stand for the ends of lines, and no text takes longer than its length says.

    Raises
    ------
    ValueError
        Where it is not a pattern of RE2.
    """
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY_BYTES
    try:
        return re2.compile(f"(?m){says}", options)
    except re2.error as error:
        why = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else error
        raise ValueError(f"a regular expression of RE2: {why}") from None
