"""Checks of how much there is of a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import ConfigDict, Field, RootModel

from nightmill.errors import BadFile
from nightmill.model.content import Candidate, StepInput


class Least(RootModel[Annotated[int, Field(ge=0)]]):
    """The least number of something."""

    model_config = ConfigDict(frozen=True)


class MinBytes:
    """``min_bytes``: the least size."""

    Options: Final = Least
    formats: Final = ()
    compares: Final = False

    def __init__(self, options: Least) -> None:
        self.least = options.root

    def look(self, file: Candidate, inputs: Sequence[StepInput]) -> None:
        """Refuse a file that is ``empty`` or ``too_small``."""
        size_bytes = file.content.size_bytes
        if size_bytes < self.least:
            if size_bytes == 0:
                raise BadFile(f"{file.name} is empty", reason="empty")
            raise BadFile(f"{file.name} has {size_bytes} of at least {self.least} bytes", reason="too_small")


class MinHdus:
    """``min_hdus``: the least number of HDUs, the primary one included."""

    Options: Final = Least
    formats: Final = ("fits",)
    compares: Final = False

    def __init__(self, options: Least) -> None:
        self.least = options.root

    def look(self, file: Candidate, inputs: Sequence[StepInput]) -> None:
        """Refuse a file with ``too_few_hdus``."""
        if (count := len(file.content.sections)) < self.least:
            raise BadFile(
                f"{file.name} has {count} of at least {self.least} HDUs",
                reason="too_few_hdus",
                remedy="it may be cut off between two of them, or be of another type",
            )
