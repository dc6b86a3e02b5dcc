"""Bringing files from the stores of partners into one of this site: each once, whole or not at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.copies_elsewhere import FarCopy
from nightmill.backbone.catalogue.transfers import Transfer, arrived, holder_of, is_had, place_of_copy, put_on_record
from nightmill.backbone.catalogue.withdrawals import withdrawals
from nightmill.clock import utc_now
from nightmill.errors import StoreError, StoreFull
from nightmill.execution.journal import SpoolAway
from nightmill.execution.owner import host_name
from nightmill.files.checksum import fingerprint
from nightmill.model.states import Purpose, TransferState
from nightmill.operations.alone import SpoolBusy, alone
from nightmill.operations.site import Site, read

LOCKS: Final = "transport"
"""Folder of the spool for locks: while one process brings a file, others that want it wait for it."""
LOCK_COUNT: Final = 512
AT_ONCE: Final = 4
"""Files that one process brings at a time, at most; the stores may limit it further."""
PAUSES_SECONDS: Final = (0.0, 1.0, 5.0)
"""How long to wait before each try at a file that may succeed with the next."""
MISFORTUNES: Final = 8
"""After so many failures one after another, each further file is tried once."""
LOOK_SECONDS: Final = 0.5
"""How often it is asked whether to give up, while another process brings a file."""
STOOD: Final = "its bytes stood there: a transfer before this was ended before it was on record"


class Damaged(StoreError):
    """A copy is not what the catalogue says."""

    retry_may_help = False


@dataclass(frozen=True)
class Wanted:
    """A file that is to come.

    Parameters
    ----------
    sources
        Its copies at partners, in the order in which they are tried.
    into
        The store of this site.
    campaign_id
        The campaign that needs it, or made it.
    """

    id: int
    name: str
    size_bytes: int
    sha256: str
    sources: tuple[FarCopy, ...]
    into: str
    campaign_id: int


@dataclass
class Brought:
    """What came, and what did not."""

    files: int = 0
    size_bytes: int = 0
    failed: dict[int, str] = field(default_factory=dict)
    """Why others did not, by their IDs."""
    stopped: bool = False
    """Whether it was given up before all were tried."""


def lock_folder(spool: Path, file_id: int) -> Path:
    """Return the folder whose lock is held while a file is brought."""
    return spool / LOCKS / f"{file_id % LOCK_COUNT:03d}"


def token_of(file_id: int) -> str:
    """Return what the upload of a file that is brought is called: the next who brings it takes its place."""
    return f"{LOCKS}-{file_id}"


def file_of(token: str) -> int | None:
    """Return the ID of the file that an upload is of, by what it is called; None for one that nobody brings."""
    kind, _, number = token.rpartition("-")
    return int(number) if kind == LOCKS and number.isdecimal() else None


def goes_on(spool: Path, token: str) -> bool:
    """Say whether somebody brings the file now that an upload is of; False for one that nobody brings."""
    file_id = file_of(token)
    if file_id is None:
        return False
    try:
        with alone(lock_folder(spool, file_id), patience_seconds=0.0, say=lambda _: None):
            return False
    except SpoolBusy:
        return True
    except SpoolAway:  # who only looks may not lock
        return False


def bring(
    site: Site, wanted: Sequence[Wanted], purpose: Purpose, *, stopping: Callable[[], bool] = lambda: False
) -> Brought:
    """Bring files, several at a time; one that came meanwhile, by whomever, is not brought again.

    Each is read from the first partner that has a good copy, compared with size and checksum of the catalogue, put into
    its store under a temporary name, read again there, and given its name. Its copy and its transfer are registered in
    one transaction. Whatever is killed at any moment leaves nothing half visible, and the next call goes on.

    Parameters
    ----------
    stopping
        Asked now and then whether to give up what has not begun.

    Returns
    -------
    Brought
        What did not come is a value: one file never keeps others from coming.
    """
    errand = _Errand(site, purpose, stopping)
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix=LOCKS) as pool:
        try:
            for file, why in zip(wanted, pool.map(errand.bring, wanted), strict=True):
                if why is None:
                    errand.brought.stopped = True
                elif why:
                    errand.brought.failed[file.id] = why
        except BaseException:
            errand.ended.set()
            raise
    return errand.brought


@dataclass
class _Errand:
    site: Site
    purpose: Purpose
    stopping: Callable[[], bool]
    ended: threading.Event = field(default_factory=threading.Event)
    brought: Brought = field(default_factory=Brought)
    _counting: threading.Lock = field(default_factory=threading.Lock)
    _misfortunes: int = 0

    def bring(self, file: Wanted) -> str | None:
        """Bring a file: return why it did not come, nothing where it is there, None where this was given up."""
        with self._alone(file) as mine:
            if not mine:
                return None
            if self.site.patiently(lambda: read(self.site, partial(is_had, file_id=file.id))):
                return ""
            if gone := self.site.patiently(lambda: read(self.site, lambda session: withdrawals(session, [file.id]))):
                return f"{file.name} {gone[file.id][-1]}"
            return self._try(file)

    @contextmanager
    def _alone(self, file: Wanted) -> Iterator[bool]:
        """Keep whoever else wants the file waiting; give False where this is given up instead."""
        folder = lock_folder(self.site.config.spool, file.id)
        with ExitStack() as stack:
            while not self._gives_up():
                with suppress(SpoolBusy):
                    stack.enter_context(alone(folder, patience_seconds=LOOK_SECONDS, say=lambda _: None))
                    break
            else:
                yield False
                return
            yield True

    def _gives_up(self) -> bool:
        return self.ended.is_set() or self.stopping()

    def _try(self, file: Wanted) -> str | None:
        """Try the copies of a file one after another, and again where that may help."""
        began_at, began, tries = utc_now(), time.monotonic(), 0
        failures: dict[str, str] = {}

        def record(source: FarCopy, state: TransferState, evidence: str, path: str = "") -> None:
            done = state is TransferState.DONE
            transfer = Transfer(
                file_id=file.id,
                from_id=source.store_id,
                into=file.into,
                campaign_id=file.campaign_id,
                purpose=self.purpose,
                state=state,
                size_bytes=file.size_bytes if done else 0,
                began_at=began_at,
                wall_seconds=time.monotonic() - began,
                tries=tries,
                host=host_name(),
                evidence=evidence,
            )
            self.site.patiently(lambda: self.site.database.write(partial(_write, transfer=transfer, path=path)))

        for pause in PAUSES_SECONDS[: 1 if self._misfortunes >= MISFORTUNES else None]:
            if self.ended.wait(pause) or self._gives_up():
                return None
            again = False
            for source in file.sources:
                tries += 1
                try:
                    path = self._path(file, source)
                    stood = self._fetch(file, source, path)
                except (StoreError, OSError) as error:
                    failures[source.store] = str(error)
                    again |= isinstance(error, StoreError) and error.retry_may_help and not isinstance(error, StoreFull)
                    continue
                record(source, TransferState.DONE, STOOD if stood else "; ".join(failures.values()), path)
                with self._counting:
                    self._misfortunes = 0
                    self.brought.files += 1
                    self.brought.size_bytes += file.size_bytes
                return ""
            if not again:
                break
        with self._counting:
            self._misfortunes += 1
        why = "; ".join(failures.values())
        record(file.sources[-1], TransferState.FAILED, why)
        return f"{file.name} could not be fetched: {why}"

    def _path(self, file: Wanted, source: FarCopy) -> str:
        """Return where a file is to lie: where it lay before, else as at its source."""

        def find(session: Session) -> tuple[str, int | None]:
            path = place_of_copy(session, file.id, file.into) or source.path
            return path, holder_of(session, file.into, path)

        path, holder = self.site.patiently(lambda: read(self.site, find))
        if holder not in (None, file.id):
            raise Damaged(f"another file is registered at {path!r} in store {file.into!r}", remedy="see which it is")
        return path

    def _fetch(self, file: Wanted, source: FarCopy, path: str) -> bool:
        """Put a file into its store, and say whether its very bytes stood there already.

        Raises
        ------
        StoreError
            Where it cannot be had from there, is not what the catalogue says, or cannot be put here.
        OSError
            Where the scratch cannot be written.
        """
        stager, token = self.site.stagers[file.into], token_of(file.id)
        wanted = (file.size_bytes, file.sha256)
        before = stager.size(path)
        if before == file.size_bytes and stager.sha256(path) == file.sha256:
            stager.settle([path])
            return True
        local = self.site.config.scratch / f".{token}"
        local.unlink(missing_ok=True)  # of a process that was killed
        try:
            with self.site.transfers.take(source.store) or ExitStack():
                self.site.far_stagers[source.store].fetch(source.path, local)
            size, digest = seen = fingerprint(local)
            if seen != wanted:
                raise Damaged(
                    f"{source.path!r} in store {source.store!r} has {size} bytes and checksum {digest}, the catalogue"
                    f" says {file.size_bytes} and {file.sha256}",
                    remedy="bring back a good copy there",
                )
            with self.site.moving(file.into):
                self._put(file, local, path, stands=before is not None)
        finally:
            local.unlink(missing_ok=True)
        return False

    def _put(self, file: Wanted, local: Path, path: str, *, stands: bool) -> None:
        """Put a good copy under its name; one that is damaged there gives way to it, where it is the file's own."""
        stager, token = self.site.stagers[file.into], token_of(file.id)
        if stands and read(self.site, partial(holder_of, store=file.into, path=path)) == file.id:
            stager.remove(path)
        stager.upload(local, path, attempt=token)
        try:
            if stager.uploaded(path, attempt=token) != (file.size_bytes, file.sha256):
                what = f"{file.name} did not arrive in store {file.into!r} as it was sent"
                raise StoreError(what, remedy="check the store")
            stager.reveal(path, attempt=token)
        finally:
            stager.discard(path, attempt=token)
        stager.settle([path])


def _write(session: Session, *, transfer: Transfer, path: str) -> None:
    """Put a transfer on record, and with it the copy that came; what is there already was put there by a try before."""
    if transfer.state is TransferState.DONE:
        if is_had(session, transfer.file_id):
            return
        arrived(session, transfer.file_id, transfer.into, path, now=utc_now())
    put_on_record(session, transfer)
