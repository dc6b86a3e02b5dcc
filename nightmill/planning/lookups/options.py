"""The options that nightmill's own lookups take."""

from __future__ import annotations

from pydantic import Field, field_validator

from nightmill.model.base import Frozen


class OwnOptions(Frozen):
    """The same keys for each, so that a layer may set another strategy and leave the rest; and plans hold them all."""

    max_days: float | None = Field(default=None, gt=0)
    """For ``nearest``, ``before``, ``after`` and ``bracket``: how far away in time the file may lie."""
    files: tuple[str, ...] = ()
    """For ``list``: names of files; the one whose data ID fits the unit is taken."""


class NoFiles(OwnOptions):
    """Options of a lookup that takes no list of files."""

    @field_validator("files")
    @classmethod
    def _none(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        if files:
            raise ValueError("left out: files are for lookup strategy list")
        return files
