"""Logs of jobs, printed and followed."""

from __future__ import annotations

import os
import sys
import time
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Callable
from typing import Final

from nightmill.cli.render.output import echo, say
from nightmill.errors import BadFile, DatabaseAway, UnknownName
from nightmill.execution.live import Request, Shown
from nightmill.execution.logs.cut import next_data, next_hole, place_in_compact
from nightmill.model.order import AttemptKey
from nightmill.model.states import AttemptState
from nightmill.operations.drain import drain
from nightmill.operations.logs import (
    ANSWER_SECONDS,
    Tried,
    is_elsewhere,
    live_path,
    open_live,
    open_stored,
    request_of,
    why_unseen,
)
from nightmill.operations.site import Site

FOLLOW_SECONDS: Final = 0.5
DRAIN_SECONDS: Final = 30.0
"""How often the attempts of dead processes are ended, while somebody follows: else they would be followed for ever."""
PATIENCE_SECONDS: Final = 2.0
BLOCK_BYTES: Final = 1 << 16
"""A longer line counts as several."""

Look = Callable[[int | None], Tried | None]


def show_log(site: Site, tried: Tried, *, step: str, tail: int | None) -> bool:
    """Print the log of an attempt as far as it goes, and say on stderr where it is; return whether there is one.

    Raises
    ------
    UnknownName
        Where its stage has no such step.
    BadFile, StoreError
        Where the log cannot be read.
    """
    printer = Printer(tried, step=step, tail=tail)
    if not tried.state.ended:
        if _show_live(site, tried, printer):
            return True
        if is_elsewhere(site, tried):
            return _show_elsewhere(site, tried, printer)
    return _show_ended(site, tried, printer, 0)


def follow_log(site: Site, look: Look, *, number: int | None, step: str, tail: int | None) -> bool:
    """Print the log of a job while it is written, from one attempt to the next, until the last has ended.

    Where the database is away, what is written on goes on to be printed.

    Parameters
    ----------
    look
        Tells of an attempt of this number, or of the last.
    number
        The only attempt to follow; by default the last, and those after it.

    Returns
    -------
    bool
        Whether the attempt that was followed last is published.
    """
    watch = _Watch(site, look)
    begin = number
    while (tried := watch.attempt(begin)) is None:
        if not watch.away:
            watch.say("no attempt was issued yet")
        time.sleep(FOLLOW_SECONDS)
    while True:
        tried = _follow(site, watch, tried, Printer(tried, step=step, tail=tail))
        tail = None
        fate = tried.fate if tried.fate != tried.state else ""
        came = ": ".join(filter(None, (f"{tried.key} {tried.state}", fate, tried.evidence)))
        if tried.state is AttemptState.PUBLISHED or number is not None:
            say(came)
            return tried.state is AttemptState.PUBLISHED
        ended = tried.key.number
        while tried.last == ended and tried.goes_on:
            watch.say(f"{came}; the job is to be tried again")
            time.sleep(FOLLOW_SECONDS)
            tried = watch.attempt(ended) or tried
        if tried.last == ended:
            say(came)
            return False
        say(f"{came}; attempt a{ended + 1:02d} goes on")
        while (following := watch.attempt(ended + 1)) is None:
            time.sleep(FOLLOW_SECONDS)
        tried = following


def _follow(site: Site, watch: _Watch, tried: Tried, printer: Printer) -> Tried:
    """Print the log of one attempt until it has ended; return how it did."""
    log, at = None, 0
    request = request_of(site, tried.key)
    elsewhere = _Elsewhere(site, request, printer)
    try:
        while True:
            if log is None and not tried.state.ended and (log := watch.log(tried.key)) is not None:
                say(_running(site, tried))
            if log is not None:
                at = max(at, elsewhere.at)
                at = _print(log, at, printer)
                printer.caught_up()
            if tried.state.ended:
                if log is None:
                    _show_ended(site, tried, printer, elsewhere.at)
                printer.end()
                return tried
            if log is None and (amiss := elsewhere.look(tried)):
                watch.say(amiss)
            time.sleep(FOLLOW_SECONDS)
            tried = watch.attempt(tried.key.number) or tried
    finally:
        request.withdraw()
        if log is not None:
            os.close(log)


class _Elsewhere:
    """Prints the log of an attempt of which the scratch is not seen from here, as its worker shows it in the spool."""

    def __init__(self, site: Site, request: Request, printer: Printer) -> None:
        self._site, self._request, self._printer = site, request, printer
        self._answered_at = time.monotonic()
        self.at = 0
        """So many bytes of the log are printed, or were left out."""
        self.is_shown = False
        """Whether anything of it was ever there."""

    def look(self, tried: Tried) -> str:
        """Print what is new, and return what is amiss, if anything: the worker may need a moment to answer."""
        if not is_elsewhere(self._site, tried):
            return why_unseen(self._site, tried)
        try:
            self._request.ask()
            shown = self._request.read(self.at)
        except BadFile as error:
            return error.message
        if shown is not None:
            self._print(tried, shown)
            if shown.trouble:
                return f"its worker shows nothing more of the log of {tried.key} for now: {shown.trouble}"
            if self._request.silent_seconds < ANSWER_SECONDS:
                self._answered_at = time.monotonic()
        if time.monotonic() - self._answered_at < ANSWER_SECONDS:
            return ""
        return why_unseen(self._site, tried, self._request)

    def _print(self, tried: Tried, shown: Shown) -> None:
        if not self.is_shown:
            on = f" on host {tried.host!r}" if tried.host else ""
            say(f"{tried.key} ({tried.state}): its worker{on} shows its log in {self._site.config.spool}")
            self.is_shown = True
        if shown.begins > self.at:
            say(f"{shown.begins - self.at} bytes are left out here; the whole log comes to the store")
        self.at = shown.begins + len(shown.data)
        self._printer.add(shown.data)
        self._printer.caught_up()


class _Watch:
    """Asks how attempts are, and goes on where the database is away."""

    def __init__(self, site: Site, look: Look) -> None:
        self._site, self._look, self._said = site, look, ""
        self._drain_at = 0.0
        self.away = False
        """Whether the database could not be asked the last time."""

    def attempt(self, number: int | None) -> Tried | None:
        """Return an attempt as it is now; None where there is none yet, or nobody can tell."""
        try:
            if time.monotonic() >= self._drain_at:
                self._drain_at = time.monotonic() + DRAIN_SECONDS
                drain(self._site, patience_seconds=PATIENCE_SECONDS, say=lambda _: None)
            found, self.away = self._look(number), False
        except DatabaseAway as error:
            self.away = True
            self.say(f"how the attempt is cannot be asked ({error.message}); its log goes on")
            return None
        return found

    def log(self, attempt: AttemptKey) -> int | None:
        """Open the log of an attempt that runs, where it can be seen from here."""
        try:
            return open_live(self._site, attempt)
        except BadFile as error:  # a step put something in its place, perhaps for a moment
            self.say(error.message)
            return None

    def say(self, text: str) -> None:
        """Say something, once in a row."""
        if text != self._said:
            self._said = text
            say(text)


class Printer:
    """Prints a log: its bytes as they are into a pipe, and so that a terminal obeys none of them.

    Parameters
    ----------
    step
        The only step to print; by default all.
    tail
        How many lines of what is there to begin with; by default all.

    Raises
    ------
    UnknownName
        Where the stage has no such step.
    """

    def __init__(self, tried: Tried, *, step: str, tail: int | None) -> None:
        if step and step not in tried.steps:
            raise UnknownName(f"step of stage {tried.key.stage!r}", step, tried.steps)
        self.step, self.tail = step, tail
        self._headings = {f"== {name}: ".encode(): name == step for name in tried.steps}
        self._wanted = not step
        self._kept = None if tail is None else deque[bytes](maxlen=tail)
        self._partial = b""
        self._decoder = getincrementaldecoder("utf-8")(errors="replace") if sys.stdout.isatty() else None

    def add(self, block: bytes) -> None:
        """Take what follows."""
        if not self.step and self._kept is None:
            self._write(block)
            return
        *lines, self._partial = (self._partial + block).split(b"\n")
        for line in lines:
            self._add_line(line + b"\n")
        if len(self._partial) > BLOCK_BYTES:
            self._add_line(self._partial)
            self._partial = b""

    def caught_up(self) -> None:
        """Print the last lines of what was there: what comes now is printed as it comes."""
        kept, self._kept = self._kept, None
        for line in kept or ():
            self._write(line)
        if not self.step and kept is not None:
            self._write(self._partial)
            self._partial = b""
        sys.stdout.flush()

    def end(self) -> None:
        """Print what is left."""
        if self._partial:
            self._add_line(self._partial)
            self._partial = b""
        self.caught_up()

    def _add_line(self, line: bytes) -> None:
        for heading, is_wanted in self._headings.items() if self.step else ():
            if line.startswith(heading):
                self._wanted = is_wanted
        if not self._wanted:
            return
        if self._kept is None:
            self._write(line)
        else:
            self._kept.append(line)

    def _write(self, block: bytes) -> None:
        if self._decoder is None:
            sys.stdout.flush()
            sys.stdout.buffer.write(block)
        else:
            text = self._decoder.decode(block).replace("\r\n", "\n").replace("\r", "\n")  # a bar that is drawn over
            echo(text, nl=False)


def _show_live(site: Site, tried: Tried, printer: Printer) -> bool:
    if (log := open_live(site, tried.key)) is None:
        return False
    try:
        say(_running(site, tried))
        _print(log, 0, printer)
        printer.end()
    finally:
        os.close(log)
    return True


def _show_elsewhere(site: Site, tried: Tried, printer: Printer) -> bool:
    with request_of(site, tried.key) as request:
        elsewhere = _Elsewhere(site, request, printer)
        while not (amiss := elsewhere.look(tried)) and not (request.seen and elsewhere.is_shown):
            time.sleep(FOLLOW_SECONDS / 2)
        printer.end()
        if amiss:
            say(amiss)
        return elsewhere.is_shown


def _show_ended(site: Site, tried: Tried, printer: Printer, at: int) -> bool:
    """Print what the log of an attempt has from a place on, or say why not; return whether there is one."""
    if (copy := tried.stored(site)) is not None:
        say(f"{tried.key} ({tried.state}): log in store {copy.store}: {copy.path}")
        with open_stored(site, copy) as log:
            _print(log, place_in_compact(log, at) if at else 0, printer)
        printer.end()
        return True
    if not at and _show_live(site, tried, printer):  # a scratch that was kept
        return True
    say(why_unseen(site, tried))
    return False


def _running(site: Site, tried: Tried) -> str:
    return f"{tried.key} ({tried.state}): log at {live_path(site, tried.key)}"


def _print(log: int, at: int, printer: Printer) -> int:
    """Print what a log has from a place on, a block at a time; return where it ends."""
    while True:
        data = next_data(log, at)
        if data > at:
            printer.add(f"\n== {data - at} bytes are left out here\n".encode())
        block = os.pread(log, min(BLOCK_BYTES, next_hole(log, data) - data), data)
        at = data + len(block)
        if not block:
            return at
        printer.add(block)
