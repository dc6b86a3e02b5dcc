"""Claims: an attempt has one writer.

Who carries out an attempt claims it first: a file of the attempt's own in ``claims/`` of the spool, which can be made
once. It names the writer's process and journal. Claims are hard links to one file of their writer, so that a batch of
them costs one durable write of the folder. A claim ends when its writer's journal is recorded to its end.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError

from nightmill.execution.scratch import token
from nightmill.model.base import Frozen
from nightmill.model.journal import Owner
from nightmill.model.order import AttemptKey

CLAIMS: Final = "claims"
"""Folder of the spool: a file an attempt, and a hidden one a writer."""
NO_LINK: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class Claim(Frozen):
    """Who alone may carry out an attempt."""

    journal: str
    """Name of the writer's journal, without its suffix."""
    owner: Owner
    begun_at: datetime
    dispatch: str = Field(default="", exclude_if=lambda dispatch: not dispatch)
    """The dispatch that the writer carries out; empty where it does none."""

    def __str__(self) -> str:
        return f"process {self.owner.pid} on {self.owner.host}, in the journal {self.journal}.jsonl"


class Claims:
    """The claims of one writer.

    Parameters
    ----------
    spool
        Where every writer of a site claims.
    own
        What they say.

    Raises
    ------
    OSError
        In each method, where the spool cannot be written.
    """

    def __init__(self, spool: Path, own: Claim) -> None:
        self._folder = spool / CLAIMS
        self._own = own
        self._writer = self._folder / f".{own.journal}"
        self._held: set[AttemptKey] = set()
        self._begun = False
        self._lock = threading.Lock()

    def take(self, attempts: Iterable[AttemptKey]) -> dict[AttemptKey, Claim | None]:
        """Claim attempts; when it returns, a loss of power does not take the claims back.

        Returns
        -------
        dict
            The attempts that others have, with their claims (None for one that cannot be read).
        """
        refused: dict[AttemptKey, Claim | None] = {}
        with self._lock:
            new = [attempt for attempt in dict.fromkeys(attempts) if attempt not in self._held]
            if new and not self._begun:
                self._folder.mkdir(exist_ok=True)
                _write(self._writer, self._own)
                self._begun = True
            for attempt in new:
                try:
                    _link(self._writer, self._folder / token(attempt), self._own)
                    self._held.add(attempt)
                except FileExistsError:
                    refused[attempt] = claim_of(self._folder.parent, attempt)
            if len(new) > len(refused):
                sync_folder(self._folder)
        return refused

    def release(self) -> None:
        """End all of them: nothing of these attempts is still to be told."""
        for attempt in self._held:
            (self._folder / token(attempt)).unlink(missing_ok=True)
        if self._begun:
            self._writer.unlink(missing_ok=True)


def claim_of(spool: Path, attempt: AttemptKey) -> Claim | None:
    """Return who claimed an attempt, or None where nobody did."""
    return _read(spool / CLAIMS / token(attempt))


def is_claimed(spool: Path, name: str) -> bool:
    """Whether somebody claims the attempt of this name, as :func:`nightmill.execution.scratch.token` gives it."""
    return (spool / CLAIMS / name).exists()


def claimants(spool: Path) -> dict[Path, Claim | None]:
    """Return the writers whose claims stand, by the file of each; None for one that cannot be read."""
    return {path: _read(path) for path in (spool / CLAIMS).glob(".*")}


def end_claims(spool: Path, *, ended: Callable[[Claim], bool]) -> None:
    """Remove the claims of writers of which a function says that nothing of theirs is still to be told."""
    writers = claimants(spool)
    over = {path: claim for path, claim in writers.items() if claim is not None and ended(claim)}
    if not over:
        return
    names = {claim.journal for claim in over.values()}
    for path in (spool / CLAIMS).iterdir():
        if path not in writers and (claim := _read(path)) is not None and claim.journal in names:
            path.unlink(missing_ok=True)
    for path in over:
        path.unlink(missing_ok=True)


def release_claims(spool: Path, journal: str, attempts: Iterable[AttemptKey]) -> None:
    """End the claims of a writer that is dead, whose every entry is recorded, by the attempts that it may have."""
    for attempt in attempts:
        if (claim := claim_of(spool, attempt)) is not None and claim.journal == journal:
            (spool / CLAIMS / token(attempt)).unlink(missing_ok=True)
    (spool / CLAIMS / f".{journal}").unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link(writer: Path, target: Path, own: Claim) -> None:
    try:
        os.link(writer, target)
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        _write(target, own)


def _write(path: Path, claim: Claim) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        os.write(descriptor, claim.model_dump_json().encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> Claim | None:
    with suppress(FileNotFoundError, ValidationError):
        return Claim.model_validate_json(path.read_bytes())
    return None
