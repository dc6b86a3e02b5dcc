"""What is known of a step beside what it did: how it was confined, what a witness saw, and what it told.

What a plan gave a step, what the step opened, and what contributed to its outputs are three facts. The first stands in
its order. The second is the word of a witness, never of the step. The third is the step's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, Literal

from nightmill.model.base import Frozen


class Level(StrEnum):
    """How far a step was held to what it was given."""

    NONE = "none"
    """It was not confined: it could reach whatever its user can."""
    STANDARD = "standard"
    """What it was not given was denied to it."""
    AUDIT = "audit"
    """Denied, and every path that it tried is known by name."""


WantedLevel = Literal["standard", "audit"]
"""The level that a campaign asks for; what a step had in truth stands in its record."""


class Confined(Frozen):
    """How a step was confined."""

    level: Level = Level.NONE
    by: tuple[str, ...] = ()
    """What held it: ``landlock 7``, ``seccomp``, ``mounts``, ``bubblewrap``, ``memory cgroup``."""
    lacking: tuple[str, ...] = ()
    """What was not held, a sentence each."""


UNCONFINED: Final = Confined()


class Eliminated(Frozen):
    """An input that a step read and did not use."""

    name: str
    reason: str
    """In the words of the step."""


class DependsOn(Frozen):
    """Which inputs an output was made of, where a step tells it."""

    output: str
    inputs: tuple[str, ...]


class DifferenceKind(StrEnum):
    """How what was planned, what was seen and what was told may differ."""

    NEVER_READ = "never_read"
    """An input was staged for the step, and the witness did not see it opened."""
    NOT_PLANNED = "not_planned"
    """The step opened, or tried to open, what was not planned for it."""
    MISSING = "missing"
    """A planned output was not made."""
    EXTRA = "extra"
    """A file was made that no output declares."""
    ELIMINATED = "eliminated"
    """The step tells that it left an input out."""
    SILENT = "silent"
    """The step may eliminate inputs, and did not tell what it used."""
    LIED = "lied"
    """The step tells that it used what the witness did not see opened."""
    MISRESOLVED = "misresolved"
    """A data ID led to another file while the step ran than when it was planned."""


class Consequence(StrEnum):
    """What follows from a difference."""

    NOTED = "noted"
    """It is on record."""
    WARNED = "warned"
    """It is shown to who looks at the job or its campaign."""
    FAILED = "failed"
    """The attempt fails, and publishes nothing but its log."""


class Policy(StrEnum):
    """What is to follow from differences of a kind, as a pipeline says it."""

    NOTE = "note"
    WARN = "warn"
    FAIL = "fail"

    @property
    def consequence(self) -> Consequence:
        """What follows."""
        return {Policy.NOTE: Consequence.NOTED, Policy.WARN: Consequence.WARNED, Policy.FAIL: Consequence.FAILED}[self]


Differences = Literal["strict"] | Mapping[DifferenceKind, Policy]
"""Kinds of differences to what is to follow; ``strict``: every one fails."""
DEFAULT_POLICIES: Final[Mapping[DifferenceKind, Policy]] = {
    **dict.fromkeys(DifferenceKind, Policy.NOTE),
    DifferenceKind.SILENT: Policy.WARN,
    DifferenceKind.LIED: Policy.FAIL,
    DifferenceKind.MISRESOLVED: Policy.FAIL,
}


def policies(said: Iterable[Differences]) -> dict[DifferenceKind, Policy]:
    """Put together what is said of differences: each goes over those before it, a kind at a time."""
    found: dict[DifferenceKind, Policy] = {}
    for each in said:
        found |= dict.fromkeys(DifferenceKind, Policy.FAIL) if isinstance(each, str) else dict(each)
    return found


class Difference(Frozen):
    """One difference between what was planned, seen and told."""

    kind: DifferenceKind
    name: str
    """Of the file, or the path, or the role where no file can be named."""
    detail: str = ""
    consequence: Consequence = Consequence.NOTED


class Observation(Frozen):
    """What is known of one run of a step."""

    confined: Confined = Confined()
    witness: Literal["", "inotify", "strace"] = ""
    """Who saw what it opened; empty where nobody did."""
    opened: tuple[str, ...] = ()
    """Names of the files among its inputs that the witness saw opened."""
    reached: tuple[str, ...] = ()
    """Paths outside of what it was given that it tried to reach, as far as they are known."""
    told: bool = False
    """Whether it told anything of what it used."""
    used: tuple[str, ...] = ()
    eliminated: tuple[Eliminated, ...] = ()
    depends: tuple[DependsOn, ...] = ()
    differences: tuple[Difference, ...] = ()
    software: str = ""
    """Digest of its stack with the libraries that it loaded, where these are known."""

    @property
    def names(self) -> frozenset[str]:
        """The files that it opened, used or left out, by either word."""
        return frozenset({*self.opened, *self.used, *(each.name for each in self.eliminated)})

    def renamed(self, names: Mapping[str, str]) -> Observation:
        """Return it with other names of files, where they have others."""

        def of(name: str) -> str:
            return names.get(name, name)

        return self.model_copy(
            update={
                "opened": tuple(map(of, self.opened)),
                "used": tuple(map(of, self.used)),
                "eliminated": tuple([each.model_copy(update={"name": of(each.name)}) for each in self.eliminated]),
                "depends": tuple(
                    [each.model_copy(update={"inputs": tuple(map(of, each.inputs))}) for each in self.depends]
                ),
                "differences": tuple([each.model_copy(update={"name": of(each.name)}) for each in self.differences]),
            }
        )
