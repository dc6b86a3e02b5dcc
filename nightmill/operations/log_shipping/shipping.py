"""Lines from the spool to the sinks of a site: in order, with a durable position of each, one shipper at a time."""

from __future__ import annotations

import fcntl
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from nightmill.clock import utc_now
from nightmill.config.site import SiteConfig
from nightmill.errors import RequestRefused
from nightmill.execution.journal import SUFFIX
from nightmill.execution.logs.spooled import LOGS, SENT, Sent, keep_sent, over, sent_to, spooled
from nightmill.model.logs import LogSink
from nightmill.operations.log_shipping.senders import LinesRefused, Sender, SinkAway, sender_of

REFUSED: Final = "refused"
"""Folder beside the files of lines: what a sink would not take."""
REFUSED_BYTES: Final = 64 << 20
"""So much of that stays, the newest."""
POLL_SECONDS: Final = 1.0
PAUSES: Final = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Between tries of a sink that is away."""
_LOCK: Final = ".lock"

log = logging.getLogger("nightmill")


@dataclass
class Shipped:
    """What became of the lines that wait for one sink.

    Parameters
    ----------
    sink
        Its name.
    lines, size_bytes
        That it took.
    refused
        Lines that it would not take.
    trouble
        Why it did not take the others; empty where it has all.
    """

    sink: str
    lines: int = 0
    size_bytes: int = 0
    refused: int = 0
    trouble: str = ""


@dataclass(frozen=True)
class Backlog:
    """What waits for one sink.

    Parameters
    ----------
    sink
        Its name.
    size_bytes
        Of the lines that it does not have.
    oldest
        When the first of them was written; None where there is none.
    trouble, since
        Why it takes nothing, and since when; empty and None where it does.
    refused
        Lines that it would not take, ever.
    sent_at
        When it last took something.
    """

    sink: str
    size_bytes: int
    oldest: datetime | None
    trouble: str
    since: datetime | None
    refused: int
    sent_at: datetime | None


def ship_once(config: SiteConfig) -> list[Shipped]:
    """Send each sink of a site what it does not have by now, and remove what all of them have.

    Raises
    ------
    RequestRefused
        Where the site has no sink, or another process sends.
    """
    _require_sinks(config)
    with _alone(config):
        return [_ship_what_waits(config, name, sink) for name, sink in config.logs.sinks.items()]


def ship_for_ever(config: SiteConfig, stopping: threading.Event) -> None:
    """Do so again and again, with each sink for itself, until everything is to end.

    Where another process sends, it is waited for.

    Raises
    ------
    RequestRefused
        Where the site has no sink.
    """
    _require_sinks(config)
    while not stopping.is_set():
        try:
            with _alone(config):
                each = [
                    threading.Thread(target=_go_on, args=(config, name, sink, stopping), name=f"nightmill-logs-{name}")
                    for name, sink in config.logs.sinks.items()
                ]
                for thread in each:
                    thread.start()
                for thread in each:
                    thread.join()
        except (RequestRefused, OSError) as error:
            log.debug("log lines are not sent: %s", error)
            stopping.wait(PAUSES[-1])


def backlog(config: SiteConfig) -> list[Backlog]:
    """Return what waits for each sink of a site."""
    files = spooled(config.spool)
    found = []
    for name in config.logs.sinks:
        sent = sent_to(config.spool, name)
        size, oldest = 0, None
        for path in files:
            with suppress(FileNotFoundError):
                left = path.stat().st_size - sent.bytes.get(path.name, 0)
                if left > 0 and oldest is None:
                    oldest = _first_time(path, sent.bytes.get(path.name, 0))
                size += max(0, left)
        found.append(Backlog(name, size, oldest, sent.trouble, sent.since, sent.refused, sent.at))
    return found


def _first_time(path: Path, at: int) -> datetime | None:
    with path.open("rb") as file, suppress(ValueError, KeyError):
        file.seek(at)
        return datetime.fromisoformat(json.loads(file.readline())["@timestamp"])
    return None


def _require_sinks(config: SiteConfig) -> None:
    if not config.logs.sinks:
        raise RequestRefused(
            f"site {config.name!r} names no sink for log lines", remedy="write logs: sinks: into its nightmill.yaml"
        )


@contextmanager
def _alone(config: SiteConfig) -> Iterator[None]:
    folder = config.spool / LOGS / SENT
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RequestRefused(
                f"another process sends the log lines of {folder.parent}",
                remedy="'nightmill server status' tells what runs",
            ) from error
        for path in folder.glob("*.json"):
            if path.stem not in config.logs.sinks:  # nothing waits for it any more
                path.unlink()
        yield


def _ship_what_waits(config: SiteConfig, name: str, sink: LogSink) -> Shipped:
    with closing(sender_of(sink)) as sender:
        return _ship(config.spool, name, sender, config.logs.sinks)


def _go_on(config: SiteConfig, name: str, sink: LogSink, stopping: threading.Event) -> None:
    sender, failures = sender_of(sink), 0
    while not stopping.is_set():
        try:
            done = _ship(config.spool, name, sender, config.logs.sinks, stopping.is_set)
            failures = failures + 1 if done.trouble else 0
        except OSError as error:  # the spool may be away for a moment
            log.warning("log lines for sink %s: %s", name, error)
            failures += 1
        stopping.wait(PAUSES[min(failures, len(PAUSES)) - 1] if failures else POLL_SECONDS)
    sender.close()


def _ship(
    spool: Path, name: str, sender: Sender, sinks: Mapping[str, LogSink], stopping: Callable[[], bool] = lambda: False
) -> Shipped:
    """Send one sink what it lacks, and say how far that came."""
    done, before = Shipped(name), sent_to(spool, name)
    sent = before
    while not stopping():
        batch, reached = _batch(spool, sent, sender.most_bytes)
        if not batch and reached == sent.bytes:
            break
        lines = batch.count(b"\n")
        try:
            if batch:
                sender.send(batch)
            done.lines, done.size_bytes = done.lines + lines, done.size_bytes + len(batch)
            sent = Sent(bytes=reached, at=utc_now() if batch else sent.at, refused=sent.refused)
        except LinesRefused as refused:
            where, count = _set_aside(spool, name, refused.lines), refused.lines.count(b"\n")
            done.lines, done.refused = done.lines + lines - count, done.refused + count
            sent = Sent(bytes=reached, at=sent.at, refused=sent.refused + count)
            log.warning("log sink %s refused %d lines, which are in %s: %s", name, count, where, refused)
        except SinkAway as away:
            done.trouble = away.message
            if sent.trouble != away.message:
                log.warning("log sink %s is away: %s", name, away.message)
                sent = sent.model_copy(update={"trouble": away.message, "since": sent.since or utc_now()})
                keep_sent(spool, name, sent)
            return done
        keep_sent(spool, name, sent)
        _remove_sent(spool, sinks)
    if before.trouble and sent == before:  # it was away, and nothing waits any more
        keep_sent(spool, name, before.model_copy(update={"trouble": "", "since": None}))
    return done


def _batch(spool: Path, sent: Sent, most_bytes: int) -> tuple[bytes, dict[str, int]]:
    """Return the next whole lines that a sink does not have, and how far it is in each file once it has them."""
    files = spooled(spool)
    ended = over(files, spool)
    names = {path.name for path in files}
    reached = {name: at for name, at in sent.bytes.items() if name in names}
    batch: list[bytes] = []
    for path in files:
        at, room = reached.get(path.name, 0), most_bytes - sum(map(len, batch))
        if room <= 0:
            break
        try:
            with path.open("rb") as file:
                file.seek(at)
                data = file.read(room)
        except FileNotFoundError:  # it was dropped
            continue
        if whole := data.rfind(b"\n") + 1:
            batch.append(data[:whole])
            reached[path.name] = at + whole
        elif data and len(data) < room and path in ended:  # its writer died in the middle of a line
            reached[path.name] = at + len(data)
        if whole < len(data) and len(data) == room:
            break  # of this file first
    return b"".join(batch), reached


def _remove_sent(spool: Path, sinks: Mapping[str, LogSink]) -> None:
    """Remove the files that nobody writes to and of which every sink has everything."""
    had = [sent_to(spool, name).bytes for name in sinks]
    for path in over(spooled(spool), spool):
        with suppress(FileNotFoundError):
            size = path.stat().st_size
            if all(each.get(path.name, 0) >= size for each in had):
                path.unlink()


def _set_aside(spool: Path, name: str, batch: bytes) -> Path:
    folder = spool / LOGS / REFUSED
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{utc_now().astimezone(UTC):%Y%m%dT%H%M%S%f}{SUFFIX}"
    path.write_bytes(batch)
    size = 0
    for each in sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.stat().st_mtime_ns, reverse=True):
        size += each.stat().st_size
        if size > REFUSED_BYTES and each != path:
            each.unlink()
    return path
