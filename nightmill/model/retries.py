"""Retries: how often a job is tried again by itself, by how its last attempt ended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field

from nightmill.model.base import Frozen
from nightmill.model.fate import Fate

MOST_TRIES: Final = 100
Tries = Annotated[int, Field(ge=0, le=MOST_TRIES)]


class Retry(Frozen):
    """What is done where trying again may help."""

    tries: Tries
    """How often, at most, a job is tried again after this."""
    memory_factor: float = Field(default=1.0, ge=1.0, le=100.0)
    """What the memory of the attempt is multiplied by for the next one: that which its order asked for, else the most
    that it was seen with."""
    wait_seconds: float = Field(default=0.0, ge=0.0, le=86400.0)
    """How long before the next attempt may begin, seconds."""


class FateRetry(Retry):
    """The same for a fate, with what is otherwise for some exit codes."""

    tries: Tries = 0
    """How often, at most, a job is tried again after this."""
    exit: Mapping[Annotated[int, Field(ge=1, le=255)], Retry] = Field(
        default_factory=dict, exclude_if=lambda codes: not codes
    )
    """Exit codes of steps to what is done after these."""


Retries = Tries | Mapping[Fate, FateRetry]
"""How often, where the fate says that this may help; or what is done by fate, and after any other fate nothing."""


def retry_after(retries: Retries, fate: Fate, exit_code: int | None = None) -> tuple[str, Retry] | None:
    """Return what is done after an attempt that ended so, and by what its tries are counted; None for nothing.

    Parameters
    ----------
    exit_code
        Of the step that failed, where one exited.
    """
    if isinstance(retries, int):
        return ("", Retry(tries=retries)) if retries and fate.retry_may_help else None
    said = retries.get(fate)
    own = said.exit.get(exit_code) if said is not None and exit_code is not None else None
    found = own or said
    if found is None or not found.tries:
        return None
    return f"{fate} {exit_code}" if own else fate.value, found
