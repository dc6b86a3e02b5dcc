"""The kinds of documents that people write."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """A kind of YAML document."""

    SITE = "site"
    FILE_TYPES = "file_types"
    PIPELINE = "pipeline"
    CAMPAIGN = "campaign"
    OVERRIDE = "override"

    @property
    def file(self) -> str:
        """The name of the file that has its JSON Schema."""
        return f"{self}.json"
