"""The check that an output is as large as what it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from nightmill.errors import BadFile
from nightmill.files.formats import open_format
from nightmill.model.base import Frozen
from nightmill.model.content import Candidate, Section, StepInput


class Against(Frozen):
    """Options of the check."""

    role: str
    """Of the inputs."""


class SameShape:
    """``same_shape``: the first image of an output has the axes of the first image of each input with a role."""

    Options: Final = Against
    formats: Final = ("fits",)
    compares: Final = True

    def __init__(self, options: Against) -> None:
        self.role = options.role

    @staticmethod
    def input_roles(options: Against) -> tuple[str, ...]:
        """Return the role that it compares with."""
        return (options.role,)

    def look(self, file: Candidate, inputs: Sequence[StepInput]) -> None:
        """Refuse a file of an ``other_shape``; one is refused, too, where the step read nothing with the role."""
        own = _shape(file.content.sections)
        wanted = [each for each in inputs if each.role == self.role]
        if not wanted:
            roles = ", ".join(sorted({each.role for each in inputs})) or "none"
            why = f"{file.name} cannot be compared: its step reads nothing with the role {self.role!r}"
            raise BadFile(why, reason="other_shape", remedy=f"roles of what it reads: {roles}")
        for each in wanted:
            with Path(each.path).open("rb") as opened:
                shape = _shape(open_format("fits").read(each.name, descriptor=opened.fileno()).sections)
            if shape != own:
                raise BadFile(
                    f"{file.name} is {own}, and {each.name} ({self.role}), of which it was made, {shape}",
                    reason="other_shape",
                    remedy="does the step cut or bin? then its output is of another type",
                )


def _shape(sections: Sequence[Section]) -> str:
    """Write the length of each axis of the first image."""
    for section in sections:
        prefix = "Z" if section.get("ZNAXIS") else ""  # where it is tile-compressed
        if section.number == 0 or prefix or section.get("XTENSION") == "IMAGE":
            axes = range(1, int(section.get(f"{prefix}NAXIS") or 0) + 1)
            if axes:
                return f"{' × '.join([str(section.get(f'{prefix}NAXIS{axis}')) for axis in axes])} pixels"
    return "no image"
