"""The check of the checksums that a file holds of its own parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from pydantic import ConfigDict, RootModel

from nightmill.errors import BadFile
from nightmill.model.content import Candidate, StepInput


class Policy(RootModel[Literal["if_present", "required", "ignored"]]):
    """What to do about checksums."""

    model_config = ConfigDict(frozen=True)


class Checksum:
    """``checksum``: those that are there were verified while the file was read, unless they are to be ignored."""

    Options: Final = Policy
    formats: Final = ()
    compares: Final = False

    def __init__(self, options: Policy) -> None:
        self.required = options.root == "required"

    def look(self, file: Candidate, inputs: Sequence[StepInput]) -> None:
        """Refuse a file without those that its type requires (``bad_checksum``)."""
        if self.required and file.content.unsigned:
            raise BadFile(f"{file.name}: {file.content.unsigned[0]}, which its type requires", reason="bad_checksum")
