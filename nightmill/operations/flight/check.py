"""The parts of a site, each tried in truth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from nightmill.execution.journal import journals, read_journal, read_whole_journal
from nightmill.execution.probing import (
    BYTES,
    FlightFailed,
    Part,
    content_of,
    try_folder,
    try_spool,
    try_store,
    uploads_of,
)
from nightmill.execution.proc import end_all_in
from nightmill.execution.removal import remove
from nightmill.execution.scratch import token
from nightmill.execution.worker import Worker
from nightmill.files.packing import pack_folder
from nightmill.model.file_type import FileType
from nightmill.model.node import NodeProfile
from nightmill.model.order import JobOrder, OrderBundle, OrderInput, OrderOutput, OrderStep
from nightmill.model.origin import Origin
from nightmill.model.pipeline import BundleRules
from nightmill.model.report import JobReport, fold
from nightmill.model.states import AttemptState
from nightmill.model.store import Store
from nightmill.operations.flight.note import FOLDER, Note, note_of
from nightmill.operations.site import Site, folder_of
from stagers.local import can_reflink

STEP_SECONDS: Final = 60.0
PROGRAM: Final = """\
import sys
with open(sys.argv[1], "rb") as source, open(sys.argv[2], "wb") as target:
    target.write(source.read()[::-1])
print("turned round")
"""
"""The step: the worker's own Python runs it, from a bundle."""


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
        attempt = self.note.attempt.model_copy(update={"number": 2})
        return try_spool(self.site.config.spool, self.spool, attempt)

    def _scratch(self) -> str:
        """Write a file in a folder of its own, and say how files get there from stores that are folders."""
        seen = try_folder(self.site.config.scratch, self.scratch, self._content())
        ways = []
        for name, store in self.site.config.stores.items():
            if (folder := folder_of(store)) is not None and folder.is_dir():
                ways.append(f"{name} by {'reflink' if can_reflink(folder, self.scratch) else 'copy'}")
        return "; ".join([seen, *ways])

    def _store(self, name: str) -> str:
        """Write a file, have a second refused, read it back, compare, and remove it."""
        store, stager = self.site.config.stores[name], self.site.stagers[name]
        return try_store(store, stager, self.note.files[0], self.scratch, self._content())

    def _job(self) -> str:
        """Stage a bundle and an input, run a step, pass the gate, publish, and read the journal back."""
        for folder in (self.spool, self.scratch, self.cache):
            folder.mkdir(parents=True, exist_ok=True)
        order = self.order(self.put(), 1, {BACKBONE: self.site.config.stores[BACKBONE]})
        profile = NodeProfile(
            scratch=self.scratch,
            spool=self.spool,
            cache=self.cache,
            access=self.site.config.access,
            network_paths=self.site.config.network_paths,
            confinement=self.site.config.confinement,
        )
        with Worker(profile, self.site.stagers) as worker:
            [report] = worker.run([order])
            told = fold(read_whole_journal(worker.journal.path).entries)
        if report.state is AttemptState.PUBLISHED and told.get(order.attempt) != report:
            raise FlightFailed("the journal of the job does not tell what it did", remedy="see the disk of the spool")
        return self.judge(report, 1)

    def judge(self, report: JobReport, place: int) -> str:
        """Say what the job of a place came to.

        Raises
        ------
        FlightFailed
            Where it failed, or what it published is not what its step made.
        """
        out, _log = self.note.made(place)
        if report.state is not AttemptState.PUBLISHED:
            raise FlightFailed(f"the job ended with {report.fate}: {report.evidence}")
        if self.site.stagers[BACKBONE].sha256(out) != sha256(self._content()[::-1]).hexdigest():
            raise FlightFailed(f"{out!r} in store {BACKBONE!r} is not what the step made", remedy="see its disk")
        [step] = report.steps
        wall = f"{step.cost.wall_seconds:.2f} s" if step.cost else "no time"
        return f"a bundle was staged, a step run ({wall}), its output checked and published, the journal read back"

    @property
    def _uploads(self) -> tuple[str, str]:
        return uploads_of(self.note.name)

    def _content(self) -> bytes:
        return content_of(self.note.name)

    def put(self) -> tuple[OrderInput, OrderBundle]:
        """Bring an input and a bundle into the store, and return them as an order names them."""
        stager, [first, *_] = self.site.stagers[BACKBONE], self._uploads
        packed = self.scratch / "packed"
        packed.mkdir(parents=True)
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

    def order(self, put: tuple[OrderInput, OrderBundle], place: int, stores: Mapping[str, Store]) -> JobOrder:
        """Make the order of a place, counted from 1, of what :meth:`put` brought; it names some stores."""
        given, bundle = put
        out, log = self.note.made(place)
        step = OrderStep(
            name="turn",
            argv=("{python}", "../bundle/turn.py", f"../inputs/{given.name}", out),
            inputs=(given.name,),
            outputs=(OrderOutput(role="turned", type=FOLDER, names=(out,), data_id={}, store=BACKBONE),),
            wall_seconds=STEP_SECONDS,
        )
        return JobOrder(
            attempt=self.note.attempts[place - 1],
            data_id={},
            pipeline=FOLDER,
            pipeline_version="1",
            bundle=bundle,
            stores=stores,
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
        here = [self.site.config.scratch / token(attempt) for attempt in self.note.attempts]  # an engine may use it
        for folder in (self.scratch, self.cache, *here):
            remove(folder)
        uploads = {path: [*self._uploads] for path in self.note.files}
        for journal in journals(self.spool):
            for attempt in fold(read_journal(journal).entries):
                for path in self.note.made(self.note.attempts.index(attempt) + 1):
                    uploads[path].append(token(attempt, journal.stem))
        for store in self.note.stores:
            if (stager := self.site.stagers.get(store)) is not None:
                for path, tokens in uploads.items():
                    for upload in tokens:
                        stager.discard(path, attempt=upload)
                    stager.remove(path)
        remove(self.spool)
        note_of(self.site.config.spool, self.note.name).unlink(missing_ok=True)
        return "nothing of the check is left"
