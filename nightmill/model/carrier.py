"""The ports of engines: what brings dispatches to workers somewhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel

from nightmill.model.dispatch import Dispatch, Standing


class Carrier(Protocol):
    """Brings dispatches to workers somewhere else: the part of an engine that is its own.

    A dispatch runs once, whatever an engine does: a worker that finds that another has it does nothing. Nothing is
    tried again by the engine itself. One thread uses a carrier at a time, but for :attr:`places`. Each method may
    raise EngineAway: what was sent out goes on, and is asked for again later. ``nightmill/testing/engines.py`` has a
    test for each promise made here.
    """

    @property
    def places(self) -> int:
        """How many dispatches it takes at a time; asked before each. Where none, they wait."""
        ...

    @property
    def look_seconds(self) -> float:
        """The shortest time between two looks that the engine bears."""
        ...

    @property
    def dispatch_seconds(self) -> float:
        """What a dispatch costs beside its jobs, once it has a place: short jobs go together until that is little."""
        ...

    def submit(self, dispatches: Sequence[Dispatch]) -> Sequence[str]:
        """Have each carried out by a Python that has :attr:`~nightmill.model.dispatch.Dispatch.argv`.

        They outlive this process. None is placed where its ``hosts`` do not let it be.

        Returns
        -------
        Sequence of str
            Of each, in their order, by what the engine knows it: another process that opens the same engine knows it
            by that as well.

        Raises
        ------
        RequestRefused
            Where the engine does not take them; none was taken.
        """
        ...

    def look(self, handles: Sequence[str]) -> Mapping[str, Standing]:
        """Return how each of some dispatches stands; one that it cannot tell of is ``unknown``, or left out."""
        ...

    def end(self, handles: Sequence[str]) -> None:
        """Take dispatches that wait out of the queue, and have those that run end, as far as the engine can.

        They were told to stop before, which workers heed by themselves.
        """
        ...

    def find(self, names: Sequence[str]) -> Mapping[str, str]:
        """Return by what it knows some dispatches, by their names; those that it does not know are left out."""
        ...

    def close(self) -> None:
        """Let go of the engine; what was sent out goes on, unless the engine itself was of this process."""
        ...


class CarrierClass(Protocol):
    """What a plug-in offers: the class of a carrier, made with the options that a site gives to its engine."""

    @property
    def Options(self) -> type[BaseModel]:  # noqa: N802 - it is a class
        """A frozen model that forbids what it does not know, of what ``nightmill.yaml`` says under the engine."""
        ...

    def __call__(self, name: str, options: Any, /) -> Carrier:
        """Open an engine, by the name that the site gives to it; it is reached for when it is asked."""
        ...


@runtime_checkable
class Spread(Protocol):
    """What a carrier may offer beside: whose hosts differ, and are to be tried one by one by a flight check."""

    def hosts_to_try(self) -> Sequence[str]:
        """Return the names of the hosts to try, each of which a dispatch can be bound to; none for whichever it takes.

        Raises
        ------
        RequestRefused
            Where it is to try some that it does not have.
        EngineAway
            Where it cannot be asked.
        """
        ...
