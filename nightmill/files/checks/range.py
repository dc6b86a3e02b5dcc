"""The check of what a file says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from pydantic import ConfigDict, Field, RootModel

from nightmill.errors import BadFile
from nightmill.files.checks.limits import Limits
from nightmill.model.content import Candidate, StepInput


class KeyLimits(RootModel[Annotated[Mapping[str, Limits], Field(min_length=1)]]):
    """Keys of its metadata to what their values may be; a key without a value is left alone."""

    model_config = ConfigDict(frozen=True)


class Range:
    """``range``: keys of a file's metadata, computed ones among them, lie within limits."""

    Options: Final = KeyLimits
    formats: Final = ()
    compares: Final = False

    def __init__(self, options: KeyLimits) -> None:
        self.limits = dict(options.root)

    @staticmethod
    def metadata_keys(options: KeyLimits) -> tuple[str, ...]:
        """Return the keys of metadata that are looked at; its file type must have them."""
        return tuple(options.root)

    def look(self, file: Candidate, inputs: Sequence[StepInput]) -> None:
        """Refuse a file with a value that lies beyond (``out_of_range``)."""
        metadata = file.metadata
        known = {**metadata.values, **metadata.data_id}
        wrong = [
            f"{name} is {value}, {why}"
            for name, limits in self.limits.items()
            if (value := known.get(name)) is not None and (why := limits.wrong_with(value))
        ]
        if wrong:
            raise BadFile(
                f"{file.name}: {', and '.join(wrong)}",
                reason="out_of_range",
                remedy="look at the file, or change check 'range' of its type",
            )
