"""Junk: what steps left and no output declares, and what the gate refused, kept in one tar with an inventory.

Nothing of it is believed: no link is followed, no more is kept than there is room for, and names are those of an
archive, never of the catalogue. An attempt does not fail for its junk.
"""

from __future__ import annotations

import os
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path
from typing import IO, Final

from nightmill.errors import JobFailed
from nightmill.execution.attachments import write_attachment
from nightmill.execution.descriptors import open_up, opened_folder
from nightmill.execution.evidence import on_one_line
from nightmill.execution.own_files import own_file
from nightmill.execution.scratch import Scratch
from nightmill.model.attachment import JUNK, RowValue
from nightmill.model.fate import Fate
from nightmill.model.journal import MadeFile
from nightmill.model.layout import LEFT, SIDECAR, WORK
from nightmill.model.order import JobOrder, OrderStep

COLUMNS: Final = ("step", "path", "kind", "size_bytes", "sha256", "why", "kept")
"""Of the inventory."""
MOST_BYTES: Final = 1 << 30
"""So much of an attempt is kept; larger files, and those for which nothing is left, are listed alone."""
MOST_FILES: Final = 100_000
DEEPEST: Final = 64
"""Folders in folders below this are listed, and not looked into."""
_REFUSED: Final = (Fate.BAD_OUTPUT, Fate.MISSING_OUTPUT)
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY


def bundle_junk(order: JobOrder, scratch: Scratch, spool: Path, failure: JobFailed | None) -> MadeFile | None:
    """Put what no output declares, and what was refused, into a tar; return it, or None where there is nothing.

    Parameters
    ----------
    spool
        Where its inventory goes, durably.
    failure
        How the attempt failed, where it did.

    Raises
    ------
    OSError
        Where the scratch or the spool has no room for it, or fails.
    """
    inventory: list[tuple[RowValue, ...]] = []
    with tempfile.TemporaryFile(dir=scratch.path) as file:
        with tarfile.open(fileobj=file, mode="w") as tar:
            for found in _found(order, scratch, failure):
                inventory.append(_add(found, tar))
                if len(inventory) == MOST_FILES:
                    break
        if not inventory:
            return None
        file.flush()
        descriptor = os.dup(file.fileno())
    source = scratch.adopt(descriptor)
    listed = write_attachment(spool, JUNK, COLUMNS, inventory)
    return own_file(order, JUNK, order.junk_name, order.junk_path, source, (listed,))


@dataclass(frozen=True)
class _Found:
    """A file in an open folder, or something else."""

    step: str
    path: str
    """Below the folder of its step."""
    name: str
    within: int
    facts: os.stat_result
    why: str


def _found(order: JobOrder, scratch: Scratch, failure: JobFailed | None) -> Iterator[_Found]:
    for step in scratch.done:
        with suppress(OSError), scratch.opened(LEFT) as left, opened_folder(step, left) as folder:
            # what it told is on record; the lines themselves are for who looks why an attempt failed
            yield from (each for each in _below(folder, step, {}, "") if failure or each.path != SIDECAR)
    unfinished = [step for step in order.wanted_steps if failure and step.name not in scratch.done]
    if unfinished:
        why = "refused" if failure and Fate(failure.fate) in _REFUSED else "unfinished"
        with suppress(OSError), scratch.opened(WORK) as work:
            names = _declared(unfinished[0], os.listdir(work))  # noqa: PTH208 - of a descriptor
            yield from _below(work, unfinished[0].name, dict.fromkeys(names, why), "")


def _declared(step: OrderStep, names: list[str]) -> list[str]:
    """Return those of some names that an output of a step declares."""
    patterns = [output.produces for output in step.outputs if output.produces]
    known = {name for output in step.outputs for name in output.names}
    return [name for name in names if name in known or any(fnmatchcase(name, each) for each in patterns)]


def _below(folder: int, step: str, declared: dict[str, str], path: str, depth: int = 0) -> Iterator[_Found]:
    """Yield what is in an open folder, folder by folder, in the order of the names; no link is followed."""
    for name in sorted(os.listdir(folder)):
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
        why = declared.get(name, "undeclared") if depth == 0 else "undeclared"
        found = _Found(step, f"{path}{name}", name, folder, facts, why)
        if not stat.S_ISDIR(facts.st_mode) or depth == DEEPEST:
            yield found
            continue
        with ExitStack() as opened:
            try:
                if facts.st_mode & 0o700 != 0o700:
                    open_up(name, folder)
                inner = opened.enter_context(opened_folder(name, folder))
            except OSError:
                yield found
                continue
            yield from _below(inner, step, declared, f"{path}{name}/", depth + 1)


def _add(found: _Found, tar: tarfile.TarFile) -> tuple[RowValue, ...]:
    """Add a file to a tar, where that is one and there is room; return its row of the inventory."""
    kind, digest, size_bytes = _kind(found), None, found.facts.st_size
    assert tar.fileobj is not None
    if kind == "file" and tar.fileobj.tell() + size_bytes <= MOST_BYTES:
        with suppress(PermissionError), os.fdopen(os.open(found.name, _FILE, dir_fd=found.within), "rb") as file:
            facts = os.fstat(file.fileno())
            info = tarfile.TarInfo(f"{found.step}/{found.path}")
            info.size = size_bytes = facts.st_size
            info.mode, info.mtime = facts.st_mode & 0o777, int(facts.st_mtime)
            reader = _Digesting(file)
            tar.addfile(info, reader)
            digest = reader.digest.hexdigest()
    return (found.step, on_one_line(found.path), kind, size_bytes, digest, found.why, digest is not None)


class _Digesting:
    """Reads a file, and knows the digest of what was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        return data


def _kind(found: _Found) -> str:
    mode = found.facts.st_mode
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISLNK(mode):
        return on_one_line(f"link to {os.readlink(found.name, dir_fd=found.within)}")
    return "folder" if stat.S_ISDIR(mode) else "pipe, socket or device"
