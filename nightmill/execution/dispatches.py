"""Dispatches in the spool: chunks of orders for workers on other hosts, each a folder.

Written by the process that sends it out, before its engine hears of it: ``dispatch.json``, ``orders.jsonl`` and
``profile.json``; afterwards ``handle``, by which its engine knows it, and ``stop``, where it is to end. Its worker
writes ``taken``, and ``ended`` when it has come to its end; in a flight check also ``seen``. Where its engine, or an
operator, says that the worker is gone, somebody else writes ``ended``. What stands in these files is written once: the
first has it. ``driver`` alone changes: it names who follows the dispatch, where that is not any more who sent it out.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Final, TypeVar

from pydantic import ValidationError

from nightmill import __version__
from nightmill.clock import utc_now
from nightmill.errors import NightmillError
from nightmill.execution.claims import NO_LINK, sync_folder
from nightmill.execution.evidence import last_lines
from nightmill.execution.owner import this_process
from nightmill.execution.removal import remove
from nightmill.model.base import Frozen
from nightmill.model.campaign import Hosts
from nightmill.model.dispatch import Dispatch, Ending, Seen, Taken
from nightmill.model.journal import Owner
from nightmill.model.node import NodeProfile
from nightmill.model.order import JobOrder
from nightmill.model.pipeline import Resources

DISPATCHED: Final = "dispatched"
"""Folder of the spool: a folder a dispatch."""
ORDERS: Final = "orders.jsonl"
PROFILE: Final = "profile.json"
OUTPUT: Final = "output"
"""What its worker writes to stdout and stderr, where its engine keeps that."""
HALF_SECONDS: Final = 3600.0
"""A dispatch that is so long made, or removed, is of a process that died: neither takes a second."""
_DISPATCH: Final = "dispatch.json"
_HANDLE: Final = "handle"
_TAKEN: Final = "taken"
_STOP: Final = "stop"
_ENDED: Final = "ended"
_SEEN: Final = "seen"
_DRIVER: Final = "driver"
_NUMBERS: Final = count(1)

Noun = TypeVar("Noun", bound=Frozen)


class DispatchBroken(NightmillError):
    """A file of a dispatch is damaged."""


@dataclass(frozen=True)
class Dispatched:
    """A dispatch by its folder. Any host may ask at any time: what others wrote meanwhile is seen.

    Raises
    ------
    OSError
        In each method, where the spool cannot be used.
    DispatchBroken
        Where a file of it is damaged.
    """

    folder: Path

    @property
    def name(self) -> str:
        """Its name."""
        return self.folder.name

    @property
    def spool(self) -> Path:
        """The spool that it stands in."""
        return self.folder.parent.parent

    @cached_property
    def dispatch(self) -> Dispatch:
        """What was sent out; raises FileNotFoundError where it was removed meanwhile."""
        found = self._read(_DISPATCH, Dispatch)
        if found is None:
            self.folder.stat()
            raise DispatchBroken(f"{self.folder} has no {_DISPATCH}", remedy="remove the folder")
        return found

    @property
    def driver(self) -> Owner:
        """The process that follows it, or did last."""
        return self._read(_DRIVER, Owner) or self.dispatch.driver

    def adopt(self, driver: Owner) -> None:
        """Note that another process follows it from now on."""
        unnamed = self.folder / f".{_DRIVER}.{driver.pid}"
        write_durably(unnamed, driver.model_dump_json())
        unnamed.replace(self.folder / _DRIVER)

    @property
    def handle(self) -> str | None:
        """By what its engine knows it; None where it may not have heard of it."""
        return self._text(_HANDLE)

    def keep_handle(self, handle: str) -> None:
        """Note by what its engine knows it."""
        self._write(_HANDLE, handle)

    @property
    def taken(self) -> Taken | None:
        """Who carries it out; None where nobody has begun."""
        return self._read(_TAKEN, Taken)

    def take(self, journal: str, owner: Owner, now: datetime) -> Taken:
        """Take it where nobody has, and return who has it now: nobody else ever will."""
        python = f"{platform.python_version()} at {sys.executable}"
        own = Taken(journal=journal, owner=owner, at=now, python=python, nightmill=__version__)
        self._write(_TAKEN, own.model_dump_json())
        return self.taken or own

    @property
    def sender(self) -> str:
        """The version of nightmill that sent it out, whatever else that wrote; empty where it does not say."""
        with suppress(ValueError):
            found = json.loads(self._text(_DISPATCH) or "{}")
            return str(found.get("nightmill", "")) if isinstance(found, dict) else ""
        return ""

    @property
    def clock_seconds(self) -> float | None:
        """By how much the clock of its worker's host is ahead of that of who sent it out; None before that took it.

        Each is compared with the time that the file system of the spool gave to the file that was written then.
        """
        with suppress(FileNotFoundError):
            if (taken := self.taken) is not None:
                wrote, sent = ((self.folder / name).stat().st_mtime for name in (_TAKEN, _DISPATCH))
                return (taken.at.timestamp() - wrote) - (self.dispatch.at.timestamp() - sent)
        return None

    @property
    def output(self) -> str:
        """The last lines that its worker wrote to stdout and stderr, the very last first; empty where none are kept."""
        with suppress(OSError), (self.folder / OUTPUT).open("rb") as output:
            return last_lines(output.fileno(), 0)
        return ""

    @property
    def seen(self) -> Seen | None:
        """What its worker saw of its host; None where it does not look, or has not yet."""
        return self._read(_SEEN, Seen)

    def tell(self, seen: Seen) -> None:
        """Write down what its worker saw of its host."""
        self._write(_SEEN, seen.model_dump_json())

    @property
    def told_to_stop(self) -> str:
        """Why it is to end before its time; empty where it is not."""
        return self._text(_STOP) or ""

    def stop(self, why: str) -> None:
        """Have it end before its time: its worker hears of it within seconds, and tells how far it came."""
        self._write(_STOP, why)

    @property
    def ending(self) -> Ending | None:
        """How it ended; None where it is not known to be over."""
        return self._read(_ENDED, Ending)

    def end(self, ending: Ending) -> Ending:
        """Say that it is over, where nobody has, and return what was said first."""
        self._write(_ENDED, ending.model_dump_json())
        return self.ending or ending

    @property
    def is_over(self) -> bool:
        """Whether its worker may publish nothing any more."""
        return self._text(_ENDED) is not None or not self.folder.is_dir()

    def remove(self) -> None:
        """Remove it: everything that it was to tell is on record."""
        gone = self.folder.with_name(f".{self.name}")  # at once: without its end it would look as if it went on
        with suppress(FileNotFoundError):
            self.folder.rename(gone)
            remove(gone)

    def _text(self, name: str) -> str | None:
        with suppress(FileNotFoundError):
            folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)  # anew: so a client of NFS asks its server
            try:
                descriptor = os.open(name, os.O_RDONLY, dir_fd=folder)
            finally:
                os.close(folder)
            with open(descriptor, encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
                return file.read()
        return None

    def _read(self, name: str, kind: type[Noun]) -> Noun | None:
        if (text := self._text(name)) is None:
            return None
        try:
            return kind.model_validate_json(text)
        except ValidationError as error:
            remedy = "mend the file; or remove the folder, once no worker of it runs"
            raise DispatchBroken(
                f"{self.folder / name}: it is not what it should be: {error.errors()[0]['msg']}", remedy=remedy
            ) from error

    def _write(self, name: str, text: str) -> None:
        """Write a file, whole and durable, where there is none."""
        unnamed = self.folder / f".{name}.{os.getpid()}.{threading.get_ident()}"
        try:
            write_durably(unnamed, text)
            _link(unnamed, self.folder / name, text)
        except (FileExistsError, FileNotFoundError):  # somebody was first, or it is gone, and so over
            return
        finally:
            unnamed.unlink(missing_ok=True)
        sync_folder(self.folder)


def send_out(
    spool: Path,
    orders: Sequence[JobOrder],
    profile: NodeProfile,
    *,
    engine: str,
    slice_number: int = 0,
    hosts: Hosts = Hosts(),  # noqa: B008 - it is frozen
    tries: bool = False,
) -> Dispatched:
    """Make a dispatch of some orders; when it returns, a loss of power does not take it back.

    Parameters
    ----------
    spool
        Of the site.
    profile
        What its worker may use on its host.
    engine, slice_number, hosts, tries
        As :class:`~nightmill.model.dispatch.Dispatch` has them.
    """
    now, driver = utc_now(), this_process()
    name = f"{now:%Y%m%dT%H%M%S%f}-{driver.pid}-{next(_NUMBERS)}"
    dispatch = Dispatch(
        name=name,
        folder=spool / DISPATCHED / name,
        engine=engine,
        slice_number=slice_number,
        driver=driver,
        at=now,
        attempts=tuple([order.attempt for order in orders]),
        resources=Resources.most([order.resources for order in orders]),
        wall_seconds=sum(step.wall_seconds for order in orders for step in order.wanted_steps),
        hosts=hosts,
        nightmill=__version__,
        tries=tries,
    )
    unnamed = dispatch.folder.with_name(f".{name}")
    unnamed.mkdir(parents=True)
    write_durably(unnamed / ORDERS, "".join([f"{order.model_dump_json()}\n" for order in orders]))
    write_durably(unnamed / PROFILE, profile.model_dump_json())
    write_durably(unnamed / _DISPATCH, dispatch.model_dump_json())
    sync_folder(unnamed)
    unnamed.rename(dispatch.folder)
    sync_folder(dispatch.folder.parent)
    return Dispatched(dispatch.folder)


def dispatches(spool: Path) -> Iterator[Dispatched]:
    """Yield the dispatches of a spool, oldest first."""
    with suppress(FileNotFoundError):
        for folder in sorted((spool / DISPATCHED).iterdir()):
            if not folder.name.startswith("."):
                found = Dispatched(folder)
                with suppress(FileNotFoundError):  # somebody has just removed it
                    _ = found.dispatch
                    yield found


def clear_halves(spool: Path) -> None:
    """Remove what processes left that died while they made a dispatch, or removed one."""
    with suppress(FileNotFoundError):
        for folder in (spool / DISPATCHED).glob(".*"):
            if time.time() - folder.stat().st_mtime > HALF_SECONDS:
                remove(folder)


def ending_in(spool: Path, name: str) -> Ending | None:
    """Return how the dispatch ended that a journal or a claim names; None where it is not known to be over."""
    return Dispatched(spool / DISPATCHED / name).ending if name else None


def write_durably(path: Path, text: str) -> None:
    """Write a new file, down to the disk."""
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _link(source: Path, target: Path, text: str) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in NO_LINK or error.errno == errno.EEXIST:
            raise
        write_durably(target, text)
