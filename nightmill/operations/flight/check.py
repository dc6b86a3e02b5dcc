"""The parts of a site, each tried in truth."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Final

from sqlalchemy import column, table, update

from nightmill.backbone.catalogue.files import known_files
from nightmill.backbone.catalogue.registration import NewFile, register
from nightmill.backbone.database import safe_url
from nightmill.clock import utc_now
from nightmill.config.stores import BACKBONE
from nightmill.errors import NameCollision, NightmillError
from nightmill.execution.journal import JournalWriter, journals, read_whole_journal
from nightmill.execution.proc import end_all_in
from nightmill.execution.removal import remove
from nightmill.execution.scratch import token
from nightmill.execution.worker import Worker
from nightmill.files.checksum import fingerprint
from nightmill.files.packing import pack_folder
from nightmill.model.file_type import FileType
from nightmill.model.node import NodeProfile
from nightmill.model.order import JobOrder, OrderBundle, OrderInput, OrderOutput, OrderStep
from nightmill.model.origin import Origin
from nightmill.model.pipeline import BundleRules
from nightmill.model.report import fold
from nightmill.model.states import AttemptState
from nightmill.operations.flight.note import FOLDER, Note, note_of
from nightmill.operations.site import Site, folder_of
from stagers.local import can_reflink

STEP_SECONDS: Final = 60.0
BYTES: Final = 64 * 1024
"""Of the file that is written to each store: more than a file system may keep beside the name of a file."""
PROGRAM: Final = """\
import sys
with open(sys.argv[1], "rb") as source, open(sys.argv[2], "wb") as target:
    target.write(source.read()[::-1])
print("turned round")
"""
"""The step: the worker's own Python runs it, from a bundle."""

Part = Callable[[], str]
"""Tries a part of a site, and returns what was seen. Raises NightmillError or OSError where it does not do its work."""


class FlightFailed(NightmillError):
    """A part of a site answered, and not as it should."""


@dataclass(frozen=True)
class Flight:
    """One check of a site, of which nothing stays once it is cleared."""

    site: Site
    note: Note

    @property
    def spool(self) -> Path:
        """The spool of its job: in that of the site."""
        return self.site.config.spool / FOLDER / self.note.name

    @property
    def scratch(self) -> Path:
        """The scratch of its job: in that of the site."""
        return self.site.config.scratch / self.note.name

    @property
    def cache(self) -> Path:
        """The cache of its worker: in that of the site."""
        return self.site.config.cache / self.note.name

    def parts(self) -> Iterator[tuple[str, Part]]:
        """Yield the parts of the site, each with what tries it, in the order in which a job meets them."""
        yield "database", self._database
        yield "spool", self._spool
        yield "scratch", self._scratch
        for name in self.site.config.stores:
            yield f"store {name}", partial(self._store, name)
        yield "job", self._job

    def _database(self) -> str:
        """Register a file and undo it, then commit a change that changes nothing."""
        database, [name, *_] = self.site.database, self.note.files
        with database.writing() as session:
            new = NewFile(name, FOLDER, Origin.MANUAL, 1, "0" * 64, original_name=name, provenance="flight check")
            register(session, [new], who=FOLDER, now=utc_now())
            seen = known_files(session, [name])
            session.rollback()
        with database.reading() as session:
            kept = known_files(session, [name])
        if name not in seen or name in kept:
            why = "a row that was undone is still there" if kept else "a row that was written cannot be read"
            raise FlightFailed(
                f"database {safe_url(database.url)}: {why}", remedy="see what stands between (a pooler?)"
            )
        version = table("alembic_version", column("version_num"))
        database.write(lambda session: session.execute(update(version).values(version_num=version.c.version_num)))
        return f"{safe_url(database.url)}: a file was registered and undone, and a transaction was committed"

    def _spool(self) -> str:
        """Write a journal, claim an attempt, and have another refused."""
        self.spool.mkdir(exist_ok=True)
        attempt = self.note.attempt.model_copy(update={"number": 2})
        with JournalWriter(self.spool) as one, JournalWriter(self.spool) as other:
            taken, refused = one.claim([attempt]), other.claim([attempt])
            with _locked(self.spool / "lock") as locked, _locked(self.spool / "lock") as again:
                pass
            one.release_claims()
            other.release_claims()
        if taken or attempt not in refused:
            raise FlightFailed(
                f"spool {self.site.config.spool}: two processes can claim the same attempt",
                remedy="put it on a file system on which a file can be made exclusively",
            )
        if not locked or again:
            raise FlightFailed(
                f"spool {self.site.config.spool}: a lock does not keep others out, and only them",
                remedy="mount it with file locks: two drains would meet",
            )
        for path in journals(self.spool):
            read_whole_journal(path)
            path.unlink()
        return f"{self.site.config.spool}: a journal was written and read, a claim held, a lock kept another out"

    def _scratch(self) -> str:
        """Write a file in a folder of its own, and say how files get there from stores that are folders."""
        self.scratch.mkdir(exist_ok=True)
        with (self.scratch / "file").open("xb") as file:
            file.write(self._content())
            file.flush()
            os.fsync(file.fileno())
        free = os.statvfs(self.scratch)
        ways = []
        for name, store in self.site.config.stores.items():
            if (folder := folder_of(store)) is not None and folder.is_dir():
                ways.append(f"{name} by {'reflink' if can_reflink(folder, self.scratch) else 'copy'}")
        room = f"{free.f_bavail * free.f_frsize / 2**30:.2f} GiB free"
        return "; ".join([f"{self.site.config.scratch}: a file was written down, {room}", *ways])

    def _store(self, name: str) -> str:
        """Write a file, have a second refused, read it back, compare, and remove it."""
        stager, path = self.site.stagers[name], self.note.files[0]
        if self.site.config.stores[name].read_only:
            stager.size(path)
            return "it answers; it can be read and not written"
        self.scratch.mkdir(exist_ok=True)
        source, back = self.scratch / f"to-{name}", self.scratch / f"from-{name}"
        source.write_bytes(self._content())
        size_bytes, digest = fingerprint(source)
        first, second = self._uploads
        where = f"store {name!r}"
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

    def _job(self) -> str:
        """Stage a bundle and an input, run a step, pass the gate, publish, and read the journal back."""
        out = self.note.files[2]
        for folder in (self.spool, self.scratch, self.cache):
            folder.mkdir(parents=True, exist_ok=True)
        order = self._order(self._put())
        profile = NodeProfile(
            scratch=self.scratch,
            spool=self.spool,
            cache=self.cache,
            access=self.site.config.access,
            network_paths=self.site.config.network_paths,
        )
        with Worker(profile, self.site.stagers) as worker:
            [report] = worker.run([order])
            told = fold(read_whole_journal(worker.journal.path).entries)
        if report.state is not AttemptState.PUBLISHED:
            raise FlightFailed(f"the job ended with {report.fate}: {report.evidence}")
        if told.get(order.attempt) != report:
            raise FlightFailed("the journal of the job does not tell what it did", remedy="see the disk of the spool")
        if self.site.stagers[BACKBONE].sha256(out) != sha256(self._content()[::-1]).hexdigest():
            raise FlightFailed(f"{out!r} in store {BACKBONE!r} is not what the step made", remedy="see its disk")
        [step] = report.steps
        wall = f"{step.cost.wall_seconds:.2f} s" if step.cost else "no time"
        return f"a bundle was staged, a step run ({wall}), its output checked and published, the journal read back"

    @property
    def _uploads(self) -> tuple[str, str]:
        return f"{self.note.name}-1", f"{self.note.name}-2"

    def _content(self) -> bytes:
        return sha256(self.note.name.encode()).digest() * (BYTES // 32)

    def _put(self) -> tuple[OrderInput, OrderBundle]:
        """Bring an input and a bundle into the store, and return them as an order names them."""
        stager, [first, *_] = self.site.stagers[BACKBONE], self._uploads
        packed = self.scratch / "packed"
        packed.mkdir()
        (packed / "turn.py").write_text(PROGRAM)
        sources = [self.scratch / "input", self.scratch / "bundle"]
        sources[0].write_bytes(self._content())
        with sources[1].open("xb") as archive:
            digest, size_bytes, _files = pack_folder(packed, BundleRules(), target=archive)
        for source, path in zip(sources, self.note.files[:2], strict=True):
            stager.upload(source, path, attempt=first)
            stager.reveal(path, attempt=first)
        name, tar, *_ = self.note.files
        given = OrderInput(
            role="given", name=name, type=FOLDER, size_bytes=BYTES, sha256=sha256(self._content()).hexdigest(),
            store=BACKBONE, path=name, rule="flight check",
        )  # fmt: skip
        return given, OrderBundle(digest=digest, size_bytes=size_bytes, store=BACKBONE, path=tar)

    def _order(self, put: tuple[OrderInput, OrderBundle]) -> JobOrder:
        given, bundle = put
        _bin, _tar, out, log = self.note.files
        step = OrderStep(
            name="turn",
            argv=("{python}", "../bundle/turn.py", f"../inputs/{given.name}", out),
            inputs=(given.name,),
            outputs=(OrderOutput(role="turned", type=FOLDER, names=(out,), data_id={}, store=BACKBONE),),
            wall_seconds=STEP_SECONDS,
        )
        return JobOrder(
            attempt=self.note.attempt,
            data_id={},
            pipeline=FOLDER,
            pipeline_version="1",
            bundle=bundle,
            stores={BACKBONE: self.site.config.stores[BACKBONE]},
            file_types={FOLDER: FileType(name=FOLDER)},
            inputs=(given,),
            steps=(step,),
            log_name=log,
            log_store=BACKBONE,
        )

    def clear(self) -> str:
        """Remove all that it made, its note last; what it did not make is not there.

        Raises
        ------
        StoreError
            Where a store cannot be used: the note stays, and the next check tries again.
        """
        end_all_in(self.scratch / token(self.note.attempt))
        for folder in (self.scratch, self.cache):
            remove(folder)
        writers = [path.stem for path in journals(self.spool)]
        uploads = [*self._uploads, *(token(self.note.attempt, writer) for writer in writers)]
        for store in self.note.stores:
            if (stager := self.site.stagers.get(store)) is not None:
                for path in self.note.files:
                    for attempt in uploads:
                        stager.discard(path, attempt=attempt)
                    stager.remove(path)
        remove(self.spool)
        note_of(self.site.config.spool, self.note.name).unlink(missing_ok=True)
        return "nothing of the check is left"


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
