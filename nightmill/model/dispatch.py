"""Dispatches: chunks of orders on their way to a worker somewhere else, and what is known of each."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from nightmill.model.base import Frozen
from nightmill.model.campaign import Hosts
from nightmill.model.fate import Fate
from nightmill.model.journal import Owner
from nightmill.model.order import AttemptKey
from nightmill.model.pipeline import Resources

DISPATCH_VERSION: Final = 1


class Dispatch(Frozen):
    """A chunk of orders for one worker: what an engine needs to know of it. Its orders stand in its folder."""

    version: Literal[1] = DISPATCH_VERSION
    name: str
    """Unique for ever, and fit to be the name of a file or of a batch job."""
    folder: Path
    """Where it stands, absolute: in the spool, which the worker's host sees under the same path."""
    engine: str
    """Name of the engine, as the site calls it."""
    slice_number: int
    """Of the slice whose jobs these are; campaign and stage stand in the attempts."""
    driver: Owner
    """The process that sent it out."""
    at: datetime
    attempts: tuple[AttemptKey, ...]
    """What its orders carry out, in their order, one after another."""
    resources: Resources = Resources()
    """The most that any of its jobs asks for."""
    wall_seconds: float
    """The longest that its steps may take, all of them."""
    hosts: Hosts = Hosts()
    """Where it may be carried out: an engine places it accordingly, and a worker elsewhere does not begin it."""
    nightmill: str = ""
    """The version of nightmill that sent it out: a worker of another begins nothing. Empty in dispatches of before."""
    tries: bool = Field(default=False, exclude_if=lambda tries: not tries)
    """Whether its worker first tries what its host offers, and tells of that in ``seen``: a flight check."""

    @property
    def argv(self) -> tuple[str, ...]:
        """The arguments of a Python interpreter that is its worker."""
        return ("-m", "nightmill.execution.worker", "--dispatch", str(self.folder))


class Standing(Frozen):
    """How a dispatch stands, by what its engine says now."""

    state: Literal["waiting", "running", "ended", "unknown"]
    """``unknown`` where the engine cannot say: nothing follows from that."""
    host: str = ""
    """Where it runs, or ran, as far as the engine tells."""
    fate: Fate | None = None
    """Once it has ended, what became of those of its attempts that did not tell their own end; None where the engine
    saw nothing wrong with it."""
    evidence: str = ""
    """What the engine says, in its own words."""
    unfit: bool = False
    """Whether its worker ended by itself and with an error. Where it had not begun by then, its host lacks what every
    dispatch needs."""


class Taken(Frozen):
    """Who carries out a dispatch: the first that began it, and nobody else ever."""

    journal: str
    """Name of its journal, without its suffix; empty where it carries out nothing."""
    owner: Owner
    at: datetime
    """By the clock of its host."""
    python: str = ""
    """Its interpreter: version and path."""
    nightmill: str = ""
    """Its version of nightmill."""


class Ending(Frozen):
    """That a dispatch is over: its worker publishes nothing from then on."""

    at: datetime
    fate: Fate | None = None
    """What became of those of its attempts that did not tell their own end; None where its worker came to its end."""
    evidence: str = ""
    unfit: bool = Field(default=False, exclude_if=lambda unfit: not unfit)
    """Whether its worker could not begin its attempts, or those that were left, because its host lacks what every
    dispatch needs, or has software that the site does not let in."""


class Tried(Frozen):
    """What a worker tried of its host, and saw."""

    part: str
    """``python``, ``scratch``, ``store backbone``..."""
    well: bool
    seen: str
    remedy: str = ""
    wall_seconds: float = 0.0


class Seen(Frozen):
    """What a worker saw of its host, in a flight check."""

    host: str
    parts: tuple[Tried, ...]
