"""Bringing the bytes of files into a store, each under a name of its own, before any row speaks of them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from socket import gethostname
from time import monotonic, sleep
from typing import Final, TextIO

from nightmill.clock import utc_now
from nightmill.errors import BadFile, FileRefused, NameCollision, RequestRefused, StoredFileMissing, StoreError
from nightmill.execution.transfers import Transfers
from nightmill.files.checksum import fingerprint
from nightmill.model.ports import Stager
from nightmill.operations.ingest.arrivals import Arrival
from stagers.local import LocalStager

QUIET_SECONDS: Final = 1.0
"""A wait that is shorter is not told: two ingests into one store take turns, lot by lot."""
LOOK_SECONDS: Final = 0.01


class Mode(StrEnum):
    """What becomes of the file that is taken in.

    What is registered is what was read once: a copy is read again in the store before it gets its name there.
    """

    COPY = "copy"
    """It stays where it is; the store gets a copy."""
    LINK = "link"
    """It stays where it is, and the store gets a hard link, which is read again as a copy is. From then on, who may
    write the one changes the other."""
    MOVE = "move"
    """It is removed once its copy is registered."""
    IN_PLACE = "in-place"
    """It lies in the store already, and is registered there, unless it changed by then in anything that its file system
    tells. Who may write it can change it afterwards."""


class Placement:
    """Brings files into one store, in one mode.

    Parameters
    ----------
    stager
        That of the store.
    store
        Its name.
    locks
        A folder of the site, with a file for each store: whoever brings files there holds it, so that two processes
        never write one temporary file.
    folder
        Of the store, where the files go; empty for the one that their origin and their night or type say.
    is_read_only
        Whether nothing can be brought into the store: its files lie there already, under the names that they have here.
    transfers
        How many transfers run at a time with the store.
    who
        The user in whose name this happens, for those who wait.
    tell
        Is told once, in words, for whom this waits.

    Raises
    ------
    RequestRefused
        Where the store is not a folder, and the mode needs one; where the folder leads out of it, or the mode does not
        ask for one.
    """

    def __init__(
        self,
        stager: Stager,
        store: str,
        mode: Mode,
        locks: Path,
        *,
        folder: str = "",
        is_read_only: bool = False,
        transfers: Transfers,
        who: str,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.stager = stager
        self.folder = folder.rstrip("/")
        self.is_read_only = is_read_only
        self.transfers = transfers
        self.stopping = False
        """Set, by any thread, once nothing more is to be uploaded."""
        self.lock = locks / f"ingest-{store}.lock"
        self.store = store
        self.who = who
        self.tell = tell
        self.mode = mode
        self.root = stager.root.resolve() if isinstance(stager, LocalStager) else None
        self._owner = sha256(f"{gethostname()}:{self.lock}".encode()).hexdigest()[:8]
        self._real = lru_cache(maxsize=1024)(os.path.realpath)
        if self.root is None and mode is Mode.LINK:
            raise RequestRefused(
                f"store {store!r} is not a local folder, and no hard link leads there", remedy="use --mode copy"
            )
        if folder and mode is Mode.IN_PLACE:
            raise RequestRefused("a file that is registered in place goes to no folder", remedy="leave --folder away")
        if folder and (not folder.isprintable() or {"", ".", ".."} & set(self.folder.split("/"))):
            raise RequestRefused(f"--folder {folder!r} is not a path inside of store {store!r}")

    @property
    def is_local(self) -> bool:
        """Whether the store is a folder of this machine."""
        return self.root is not None

    def path_of(self, arrival: Arrival, folder: str, name: str) -> str:
        """Return the path in the store that a file will have, or has.

        Raises
        ------
        FileRefused
            Where the mode and the place of the file do not go together.
        """
        inside = self._inside(arrival)
        if self.mode is Mode.IN_PLACE:
            if inside is None:
                where, how = (f" ({self.root})", ", link or move") if self.root is not None else ("", "")
                raise FileRefused(
                    f"{arrival.shown} does not lie in store {self.store!r}{where}",
                    reason="not_in_store",
                    remedy=f"use --mode copy{how}, or name it as it lies there: {self.store}:PATH",
                )
            if not inside.isprintable():  # nor are bytes that are not text
                raise FileRefused(
                    f"{arrival.shown}: the path of a copy cannot hold control characters, nor bytes that are not text",
                    reason="bad_name",
                    remedy="rename it, or use --mode copy from outside of the store",
                )
            return inside
        if inside is not None:
            raise FileRefused(
                f"{arrival.shown} lies in store {self.store!r} already", reason="in_store", remedy="use --mode in-place"
            )
        if self.mode is Mode.LINK and self.root is not None and arrival.device != self.root.stat().st_dev:
            raise FileRefused(
                f"{arrival.shown} is on another file system than store {self.store!r}: a hard link cannot join them",
                reason="other_device",
                remedy="use --mode copy",
            )
        own = arrival.path.name if self.is_read_only else name
        if not own.isprintable():
            raise FileRefused(
                f"{arrival.shown}: the path of a copy cannot hold control characters, nor bytes that are not text",
                reason="bad_name",
            )
        return f"{self.folder or folder}/{own}"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep the other processes of this site from this store, until what this one uploads is revealed."""
        self.lock.parent.mkdir(mode=0o700, exist_ok=True)
        with self.lock.open("a+") as file:
            self._wait_for(file)
            file.truncate(0)
            file.write(f"{self.who} (process {os.getpid()} on {gethostname()}, since {utc_now():%H:%M:%S} UTC)")
            file.flush()
            yield

    def _wait_for(self, file: TextIO) -> None:
        quiet_until = monotonic() + QUIET_SECONDS
        while not _locked(file):
            if monotonic() < quiet_until:
                sleep(LOOK_SECONDS)
                continue
            if self.tell is not None:
                file.seek(0)
                holder = file.read() or "another ingest"
                self.tell(f"waiting for {holder}, who brings files into store {self.store!r}")
                self.tell = None
            fcntl.flock(file, fcntl.LOCK_EX)
            return

    def upload(self, arrival: Arrival, path: str) -> None:
        """Bring a file's bytes into the store, not yet visible; :meth:`sync` must follow.

        What arrives is read again: it is what was read of the file before. Where something stands there already,
        :meth:`reveal` says what that means.

        Raises
        ------
        BadFile
            Where the file cannot be read, or changed since it was.
        StoreError
            Where the store has no room, cannot be used, or has other bytes than it was sent.
        """
        token = self._token(arrival)
        found = arrival.inspection
        seen = (found.size_bytes, found.sha256)
        try:
            with self._place(), arrival.reopened() as descriptor:
                self._send(Path(f"/proc/self/fd/{descriptor}"), path, token)
                if self.stager.uploaded(path, attempt=token) == seen:
                    return
                if fingerprint(arrival.path, descriptor) != seen:
                    raise arrival.changed()
            raise StoreError(
                f"{arrival.shown} did not arrive in store {self.store!r} as it was sent", remedy="check the store"
            )
        except NameCollision:
            return
        except (BadFile, StoreError):
            with suppress(StoreError):
                self.stager.discard(path, attempt=token)
            raise

    def _place(self) -> ExitStack:
        """Wait until one more transfer may run."""
        place = self.transfers.take(self.store, stopping=lambda: self.stopping)
        if place is None:
            raise StoreError(f"a transfer with store {self.store!r} was not begun, as the ingest is to end")
        return place

    def _send(self, source: Path, path: str, token: str) -> None:
        if not isinstance(self.stager, LocalStager):
            self.stager.upload(source, path, attempt=token)
        elif self.mode is Mode.LINK:
            self.stager.link(source, path, attempt=token)
        else:
            self.stager.upload(source, path, attempt=token, durable=False)

    def sync(self, paths: Sequence[str]) -> None:
        """Make what was uploaded durable."""
        if isinstance(self.stager, LocalStager) and paths:
            self.stager.sync(paths)

    def reveal(self, arrival: Arrival, path: str) -> bool:
        """Give an upload its name; adopt bytes that an interrupted ingest brought before.

        Returns
        -------
        bool
            Whether nothing stood there before.

        Raises
        ------
        FileRefused
            Where other bytes stand there.
        StoreError
            Where the store cannot be used.
        """
        token = self._token(arrival)
        try:
            self.stager.reveal(path, attempt=token)
        except (NameCollision, StoredFileMissing):
            self.stager.discard(path, attempt=token)
            found = arrival.inspection
            if self.stager.size(path) == found.size_bytes and self.stager.sha256(path) == found.sha256:
                return False
            raise FileRefused(
                f"{arrival.shown}: store {self.store!r} holds other bytes as {path!r}, which no one registered",
                reason="name_taken",
                remedy="see what they are; nothing was overwritten",
            ) from None
        return True

    def remove_source(self, arrival: Arrival, path: str) -> bool:
        """Remove a file whose copy is registered and stands in the store; return whether it is gone."""
        with suppress(StoredFileMissing, OSError, BadFile):
            if self.stager.size(path) == arrival.inspection.size_bytes:
                arrival.refuse_change()
                arrival.path.unlink()
                return True
        return False

    def refuse_change(self, arrival: Arrival) -> None:
        """Make sure that a file is still the one that was read, by all that its file system, or its store, says of it.

        Raises
        ------
        BadFile
            Where it is not.
        StoreError
            Where the store cannot be used.
        """
        lies = arrival.offered.lies
        if lies is None:
            arrival.refuse_change()
        elif self.stager.size(lies.path) != arrival.inspection.size_bytes:
            raise arrival.changed()

    def _inside(self, arrival: Arrival) -> str | None:
        """Return the path in the store of a file that lies in it, whatever links lead there."""
        path, lies = arrival.path, arrival.offered.lies
        if lies is not None:
            return lies.path if lies.store == self.store else None
        if self.root is None:
            return None
        folder = self._real(str(path.parent))
        real = os.path.realpath(path) if path.is_symlink() else f"{folder}/{path.name}"
        prefix = f"{self.root}/"
        return real.removeprefix(prefix) if real.startswith(prefix) else None

    def _token(self, arrival: Arrival) -> str:
        """Name the temporary file of an upload: the same when this site tries again, so that no litter grows."""
        return f"ingest-{self._owner}-{arrival.inspection.sha256[:16]}"


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
