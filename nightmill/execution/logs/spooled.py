"""Files of log lines in the spool: each is written by one process, read by anyone, and removed once it was sent."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError

from nightmill.execution.claims import sync_folder
from nightmill.execution.journal import SUFFIX
from nightmill.model.base import Frozen

LOGS: Final = "logs"
"""Folder of the spool."""
SENT: Final = "sent"
"""Folder below it: what each sink has, by its name."""
_ROOM_LOCK: Final = ".room"


class Sent(Frozen):
    """What a sink has for certain, and how it was the last time."""

    bytes: Mapping[str, int] = Field(default_factory=dict)
    """Of each file that is there and was begun, by name."""
    at: datetime | None = None
    """When it last took something."""
    trouble: str = ""
    """Why it takes nothing; empty where it does."""
    since: datetime | None = None
    """Since when that is so."""
    refused: int = Field(default=0, ge=0)
    """Lines that it will never take, which were set aside."""


def name_of(writer: str, number: int) -> str:
    """Return the name of a file of lines: those of one writer in the order of their numbers, writers by their begin."""
    return f"{writer}-{number:06d}{SUFFIX}"


def spooled(spool: Path) -> list[Path]:
    """Return the files of lines in a spool, the oldest first."""
    return sorted((spool / LOGS).glob(f"*{SUFFIX}"))


def over(files: Iterable[Path], spool: Path) -> set[Path]:
    """Return the files that nobody writes to any more.

    The journal of a writer stands in the spool as long as it may write.
    """
    found = set()
    last: dict[str, Path] = {}
    for path in files:
        writer = path.name.rpartition("-")[0]
        if writer in last:
            found.add(last[writer])
        last[writer] = path
    return found | {path for writer, path in last.items() if not (spool / f"{writer}{SUFFIX}").exists()}


def sent_to(spool: Path, sink: str) -> Sent:
    """Return what a sink has."""
    with suppress(FileNotFoundError, ValidationError):
        return Sent.model_validate_json((spool / LOGS / SENT / f"{sink}.json").read_bytes())
    return Sent()


def keep_sent(spool: Path, sink: str, sent: Sent) -> None:
    """Remember, durably, what a sink has.

    Raises
    ------
    OSError
        Where that cannot be written.
    """
    folder = spool / LOGS / SENT
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{sink}.part"
    with part.open("w") as file:
        file.write(sent.model_dump_json())
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / f"{sink}.json")
    sync_folder(folder)


def make_room(spool: Path, most_bytes: int) -> int:
    """Drop the oldest files that nobody writes to, until the others take no more than so much.

    Returns
    -------
    int
        How many of their lines some sink, or the only reader, did not have.
    """
    dropped = 0
    with (spool / LOGS / _ROOM_LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another is at it
            return 0
        files = spooled(spool)
        sizes: dict[Path, int] = {}
        for path in files:
            with suppress(FileNotFoundError):
                sizes[path] = path.stat().st_size
        too_much = sum(sizes.values()) - most_bytes
        if too_much <= 0:
            return 0
        had = [sent_to(spool, path.stem).bytes for path in (spool / LOGS / SENT).glob("*.json")]
        for path in sorted(over(sizes, spool)):
            if too_much <= 0:
                break
            sent = min((each.get(path.name, 0) for each in had), default=0)
            with suppress(FileNotFoundError):
                with path.open("rb") as file:
                    file.seek(sent)
                    dropped += sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
                path.unlink()
                too_much -= sizes[path]
    return dropped


def json_text(value: object) -> str:
    """Write a value as JSON without blanks, other letters than those of ASCII as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
