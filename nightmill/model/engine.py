"""Engines: where the jobs of a site are carried out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel

from nightmill.model.base import Frozen

THREADS: Final = "threads"
"""The engine of who names none: threads of the slice's own process."""


class EngineKind(Frozen):
    """What every engine of a site says of itself; what else it says is its kind's."""

    kind: str
    """``threads``, ``processes``, ``dask``, or what a plug-in brings."""
    accelerators: tuple[str, ...] = ()
    """Kinds of accelerators that its hosts have, by the names that it knows them by: ``gpu``, ``gpu:a100``."""


@dataclass(frozen=True)
class EngineSetting:
    """An engine as a site sets it up.

    Parameters
    ----------
    name
        What campaigns call it.
    kind
        Name of its plug-in, or :data:`THREADS`.
    options
        What the plug-in is opened with.
    accelerators
        Kinds of accelerators that its hosts have.
    """

    name: str
    kind: str
    options: BaseModel
    accelerators: tuple[str, ...] = ()
