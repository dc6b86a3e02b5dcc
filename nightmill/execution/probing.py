"""What a host offers to jobs, each part tried in truth: on the host of a site, and by a worker on that of an engine."""

from __future__ import annotations

import fcntl
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

from nightmill import __version__
from nightmill.errors import NameCollision, NightmillError
from nightmill.execution.confine import confiner
from nightmill.execution.journal import JournalWriter, journals, read_whole_journal
from nightmill.execution.launch.containers.opened import OpenedContainers
from nightmill.execution.removal import remove
from nightmill.execution.scratch import token
from nightmill.files.checksum import fingerprint
from nightmill.model.confinement import NodeConfinement, Use
from nightmill.model.container import HERE, Containers
from nightmill.model.dispatch import Seen, Tried
from nightmill.model.node import NodeProfile
from nightmill.model.order import AttemptKey, JobOrder
from nightmill.model.ports import Stager
from nightmill.model.secrets import missing
from nightmill.model.store import Store

BYTES: Final = 64 * 1024
"""Of the file that is written to each store: more than a file system may keep beside the name of a file."""

Part = Callable[[], str]
"""Tries a part, and returns what was seen. Raises NightmillError or OSError where it does not do its work."""


class FlightFailed(NightmillError):
    """A part answered, and not as it should."""


def content_of(name: str) -> bytes:
    """Return the bytes that a flight check of a name writes."""
    return sha256(name.encode()).digest() * (BYTES // 32)


def path_tried(attempt: AttemptKey) -> str:
    """Return the path, in each store, of the file that a worker tries that with."""
    return f"{attempt.campaign}.{token(attempt)}"


def uploads_of(name: str) -> tuple[str, str]:
    """Return what the uploads of a flight check are called."""
    return f"{name}-1", f"{name}-2"


def tried(part: str, work: Part) -> Tried:
    """Try a part, and say what became of that and how long it took."""
    begun = time.monotonic()
    try:
        well, seen, remedy = True, work(), ""
    except NightmillError as error:
        well, seen, remedy = False, str(error), error.remedy
    except OSError as error:
        remedy = "see that it is there, has room, and can be written by this user"
        well, seen = False, f"{error.filename or part}: {error.strerror or error}; {remedy}"
    return Tried(part=part, well=well, seen=seen, remedy=remedy, wall_seconds=round(time.monotonic() - begun, 3))


def see(host: str, profile: NodeProfile, order: JobOrder, stagers: Mapping[str, Stager]) -> Seen:
    """Try all that a worker on this host needs for jobs of a site, but to carry out the order itself."""
    folder = profile.scratch / token(order.attempt)  # its job has it afterwards
    try:
        return Seen(host=host, parts=tuple([tried(*part) for part in _parts(host, profile, order, stagers, folder)]))
    finally:
        remove(folder)


def _parts(
    host: str, profile: NodeProfile, order: JobOrder, stagers: Mapping[str, Stager], folder: Path
) -> Iterator[tuple[str, Part]]:
    content = content_of(order.attempt.campaign)
    yield "python", lambda: f"{platform.python_version()} at {sys.executable}, nightmill {__version__}, host {host}"
    yield "spool", partial(try_spool, profile.spool, profile.spool / folder.name, order.attempt)
    yield "scratch", partial(try_folder, profile.scratch, folder, content)
    yield "confinement", partial(try_confinement, profile.confinement)
    yield "credentials", partial(_credentials, order)
    for name, stager in stagers.items():
        store = order.stores[name]
        yield f"store {name}", partial(try_store, store, stager, path_tried(order.attempt), folder, content)
    yield from container_parts(profile.containers, profile.cache or profile.spool)


def try_folder(of: Path, folder: Path, content: bytes) -> str:
    """Write a file in a folder, down to the disk, and say how much room is left."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "file").open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    free = os.statvfs(folder)
    return f"{of}: a file was written down, {free.f_bavail * free.f_frsize / 2**30:.2f} GiB free"


def try_confinement(confinement: NodeConfinement) -> str:
    """Confine as a step would be, and say what holds it and what is lacking."""
    confined = confiner.tried(confinement)
    if confinement.use is Use.OFF:
        return "steps are not confined: the site says so"
    held = f"steps are held by {', '.join(confined.by)}" if confined.by else "nothing holds steps"
    return "; ".join([held, *confined.lacking])


def try_spool(of: Path, folder: Path, attempt: AttemptKey) -> str:
    """Write a journal, claim an attempt, and have another refused."""
    folder.mkdir(exist_ok=True)
    with JournalWriter(folder) as one, JournalWriter(folder) as other:
        taken, refused = one.claim([attempt]), other.claim([attempt])
        with _locked(folder / "lock") as locked, _locked(folder / "lock") as again:
            pass
        one.release_claims()
        other.release_claims()
    if taken or attempt not in refused:
        raise FlightFailed(
            f"spool {of}: two processes can claim the same attempt",
            remedy="put it on a file system on which a file can be made exclusively",
        )
    if not locked or again:
        raise FlightFailed(
            f"spool {of}: a lock does not keep others out, and only them",
            remedy="mount it with file locks: two drains would meet",
        )
    for path in journals(folder):
        read_whole_journal(path)
        path.unlink()
    return f"{of}: a journal was written and read, a claim held, a lock kept another out"


def try_store(store: Store, stager: Stager, path: str, folder: Path, content: bytes) -> str:
    """Write a file, have a second refused, read it back, compare, and remove it."""
    if store.read_only:
        stager.size(path)
        return "it answers; it can be read and not written"
    folder.mkdir(parents=True, exist_ok=True)
    source, back = folder / f"to-{store.name}", folder / f"from-{store.name}"
    source.write_bytes(content)
    size_bytes, digest = fingerprint(source)
    first, second = uploads_of(path.partition(".")[0])
    where = f"store {store.name!r}"
    try:
        for attempt in (first, second):
            stager.upload(source, path, attempt=attempt)
        if stager.uploaded(path, attempt=first) != (size_bytes, digest):
            raise FlightFailed(f"{where}: what arrived is not what was sent", remedy="see its disk, or its network")
        stager.reveal(path, attempt=first)
        with suppress(NameCollision):
            stager.reveal(path, attempt=second)
            raise FlightFailed(
                f"{where}: a second file took the name of the first",
                remedy="it does not write exclusively, and files can be lost there: use another",
            )
        stager.settle([path])
        if stager.size(path) != size_bytes or stager.sha256(path) != digest:
            raise FlightFailed(f"{where}: it has another size or checksum than was sent", remedy="see its disk")
        stager.fetch(path, back)
        if fingerprint(back) != (size_bytes, digest):
            raise FlightFailed(f"{where}: what is fetched is not what was sent", remedy="see its network")
    finally:
        for attempt in (first, second):
            stager.discard(path, attempt=attempt)
        stager.remove(path)
    if stager.size(path) is not None:
        raise FlightFailed(f"{where}: {path!r} is still there after it was removed", remedy="remove it by hand")
    return f"{size_bytes} bytes were written, a second write was refused, and they were read back and removed"


def container_parts(containers: Containers, cache: Path) -> Iterator[tuple[str, Part]]:
    """Yield the runtime that a site names, and its images, each with what tries it; none where images are run here."""
    if containers.runtime in (None, HERE):
        return
    opened = OpenedContainers(containers, cache)
    yield f"container runtime {containers.runtime}", opened.version
    for image in containers.images:
        yield f"image {image}", partial(lambda image: opened.find(image).called, image)


def _credentials(order: JobOrder) -> str:
    names = dict.fromkeys(name for store in order.stores.values() for name in missing(store.url, {}))
    return f"{', '.join(names)}: there" if names else "the stores need none"


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Lock a file where nobody else has, and say whether that was so."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        is_free = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_free = False
        yield is_free
    finally:
        os.close(descriptor)
