"""Exclusions: files, or parts of files, that must not be inputs."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from nightmill.model.base import Frozen

EXCLUDED: Final = "excluded"
"""The key by which a step asks for the excluded parts of a file."""
PART: Final = r"^[A-Za-z0-9_.:+()\[\]/ -]{0,68}$"
"""What may name a part of a file: it stands in command lines and lists."""


class CampaignExclusion(Frozen):
    """Files that must not be inputs of a campaign, or parts of files that its steps are told to leave out."""

    where: str
    """An expression over files: those that are excluded."""
    types: tuple[str, ...] = ()
    """The only file types that it is about; none for every one."""
    part: str = Field(default="", pattern=PART)
    """The name or number of an HDU, or an amplifier, where only a part of each file is bad: the file stays."""
    up_to: str = ""
    """A stage: files are excluded from the stages after it alone."""
    why: str = Field(min_length=1)
    """In words."""
