"""What a step is told of its files: a data ID leads to a path there, without a network and without a database."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import Field

from nightmill.model.base import Frozen
from nightmill.model.dimensions import KeyValue
from nightmill.model.order import AttemptKey

INDEX_VERSION: Final = 1


class IndexInput(Frozen):
    """A file that a step may read: staged for it, or made by a step before."""

    name: str
    """Unique, as the catalogue has it."""
    path: str
    """From the step's working folder."""
    roles: tuple[str, ...]
    type: str
    """Empty for a scratch file."""
    data_id: Mapping[str, KeyValue] = Field(default_factory=dict)
    excluded: tuple[str, ...] = ()
    """Parts of it that must not be used."""


class IndexOutput(Frozen):
    """What a step is to make."""

    role: str
    type: str
    name: str = ""
    """To write it under, in the working folder; empty where the step chooses."""
    produces: str = ""
    """Otherwise: a glob, or a name with fields, of the names that it may choose."""
    tells: tuple[str, ...] = ()
    """Keys whose values each of its files tells."""
    data_id: Mapping[str, KeyValue] = Field(default_factory=dict)
    """What is known of its files before they are made."""
    required: bool = True


class StepIndex(Frozen):
    """What a step may read and is to make."""

    version: Literal[1] = INDEX_VERSION
    attempt: AttemptKey
    step: str
    data_id: Mapping[str, KeyValue] = Field(default_factory=dict)
    """Of the unit of its job."""
    inputs: tuple[IndexInput, ...] = ()
    outputs: tuple[IndexOutput, ...] = ()

    def matching(self, role: str, data_id: Mapping[str, object]) -> tuple[IndexInput, ...]:
        """Return the inputs of a role that have all of some keys and values."""
        return tuple([each for each in self.inputs if role in each.roles and data_id.items() <= each.data_id.items()])
