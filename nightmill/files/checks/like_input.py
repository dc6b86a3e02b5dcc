"""The check that an output is about as large as what it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from pydantic import Field, model_validator

from nightmill.errors import BadFile
from nightmill.files.checks.limits import check_ends
from nightmill.model.base import Frozen
from nightmill.model.content import Candidate, StepInput


class Ratio(Frozen):
    """Options of the check; at least one limit is given."""

    role: str
    """Of the inputs."""
    min: float | None = Field(default=None, ge=0)
    """The least size, as a multiple of that of each of them."""
    max: float | None = Field(default=None, gt=0)
    """The greatest size, as a multiple of that of each of them."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("limited by min or max")
        check_ends(self.min, self.max)
        return self


class LikeInput:
    """``like_input``: the size of an output in bytes is within limits of that of each input with a role."""

    Options: Final = Ratio
    formats: Final = ()
    compares: Final = True

    def __init__(self, options: Ratio) -> None:
        self.options = options

    @staticmethod
    def input_roles(options: Ratio) -> tuple[str, ...]:
        """Return the role that it compares with."""
        return (options.role,)

    def look(self, file: Candidate, inputs: Sequence[StepInput]) -> None:
        """Refuse a file of ``other_size``; one is refused, too, where the step read nothing with the role."""
        wanted = self.options
        for each in with_role(file, inputs, wanted.role):
            ratio = file.content.size_bytes / max(Path(each.path).stat().st_size, 1)
            if wanted.min is not None and ratio < wanted.min:
                told = f"at least {wanted.min:g}"
            elif wanted.max is not None and ratio > wanted.max:
                told = f"at most {wanted.max:g}"
            else:
                continue
            raise BadFile(
                f"{file.name} has {ratio:.3g} times the bytes of {each.name} ({wanted.role}), of which it was made,"
                f" and {told} times are wanted",
                reason="other_size",
                remedy="look at the file, or change check 'like_input' of its type",
            )


def with_role(file: Candidate, inputs: Sequence[StepInput], role: str) -> list[StepInput]:
    """Return what a step read with a role.

    Raises
    ------
    BadFile
        Where it read nothing with it (``no_input``).
    """
    found = [each for each in inputs if each.role == role]
    if not found:
        roles = ", ".join(sorted({each.role for each in inputs})) or "none"
        raise BadFile(
            f"{file.name} cannot be compared: its step reads nothing with the role {role!r}",
            reason="no_input",
            remedy=f"roles of what it reads: {roles}",
        )
    return found
