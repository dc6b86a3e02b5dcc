"""A wrong ingest is put right: files are withdrawn, or retyped, on record and never by a change of what was known.

What nothing has used can be put right at once. What a job has read, or was planned to read, stays: a catalogue that
said now that it was something else would contradict the provenance of what was made of it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.catalogue import withdrawals as catalogue
from nightmill.backbone.catalogue.attachments import attach
from nightmill.backbone.catalogue.calibrations import Role, give
from nightmill.backbone.catalogue.calibrations import history as roles_of
from nightmill.backbone.catalogue.files import data_id, files_named
from nightmill.backbone.catalogue.registration import NewFile, register
from nightmill.backbone.schema import FileRow, ReplicaRow, StoreRow
from nightmill.backbone.sites import is_here, name_of, this_site
from nightmill.backbone.work.uses import uses_of
from nightmill.clock import utc_now
from nightmill.errors import BadFile, RequestRefused, UnknownName
from nightmill.execution.attachments import attach_rows
from nightmill.files.inspection import Inspection, open_file, verified
from nightmill.files.reading import held
from nightmill.model.attachment import Attachment
from nightmill.model.bundle import FILE_TYPE
from nightmill.model.file_type import FileType
from nightmill.model.origin import Origin
from nightmill.operations.acts import Act
from nightmill.operations.attachments import load_rows
from nightmill.operations.ingest.arrivals import require_time
from nightmill.operations.site import Site

SHOWN: Final = 10
"""Jobs that a refusal names."""


@dataclass(frozen=True, slots=True)
class Retyped:
    """A file that was retyped."""

    name: str
    before: str
    """Its type until then."""
    type: str
    roles: tuple[str, ...] = ()
    """Sets that it was a calibration of until then: the new type says of which it is now."""


def withdraw(site: Site, names: Sequence[str], *, why: str, who: str | None = None) -> list[str]:
    """Withdraw files that people brought: from now on no plan takes them, and no listing has them.

    Their bytes stay where they are, and their names stay taken.

    Returns
    -------
    list of str
        Their names, each once.

    Raises
    ------
    RequestRefused
        Where ``why`` is empty; where one of them was made by a job, taken in by another site, withdrawn already, or
        is planned to be read. All that stands in the way is listed, and nothing was done.
    UnknownName
        Where the catalogue has no such file.
    """
    act = Act.begin(site, "withdraw", who=who, why=why, needs_why=True)
    wanted = list(dict.fromkeys(names))

    def work(session: Session) -> list[str]:
        catalogue.lock(session, deciding=True)
        rows = _correctable(session, wanted, "withdrawn", again=False)
        catalogue.withdraw(session, ((row.id, None) for row in rows), who=act.who, why=why, now=utc_now())
        return [row.name for row in rows]

    return act.write(" ".join(wanted), work, lambda done: {"files": done})


def retype(site: Site, names: Sequence[str], *, type: str, why: str, who: str | None = None) -> list[Retyped]:
    """Take files that people brought for another type: each is read again as one of it, from its copy at this site.

    What the new type reads counts from now on, and what the old one read stays on record. One that was withdrawn is
    taken back. The ``recognise`` of the new type is not asked: a person knows better than a header that lies.

    Parameters
    ----------
    type
        The new type; the old one again where that reads something else by now.

    Raises
    ------
    RequestRefused
        As for :func:`withdraw`, and where a file is of the type already and nothing would change.
    UnknownName
        Where the catalogue has no such file, or the site no such type.
    FileRefused
        Where a file has not got what the type requires, or its copy is not what was registered. Nothing was done.
    StoreError
        Where its store cannot be used.
    """
    act = Act.begin(site, "retype", who=who, why=why, needs_why=True)
    if type not in site.config.file_types:
        raise UnknownName("file type", type, sorted(site.config.file_types))
    file_type = site.config.file_types[type]
    wanted = list(dict.fromkeys(names))
    with site.database.reading() as session:
        rows = _correctable(session, wanted, "retyped", again=True)
        places = _places(session, rows)
    read = {row.id: _read(site, row, file_type, places[row.id]) for row in rows}
    loads = load_rows(site, (each for _, attachments in read.values() for each in attachments))

    def work(session: Session) -> list[Retyped]:
        catalogue.lock(session, deciding=True)
        rows = _correctable(session, wanted, "retyped", again=True)
        for row in rows:
            if row.id not in read:
                raise RequestRefused(f"{row.name} was retyped meanwhile", remedy="look at it, and type it again")
        gone = catalogue.withdrawals(session, read)
        for row in rows:
            if row.id not in gone and _is_same(row, file_type, read[row.id][0]):
                raise RequestRefused(
                    f"{row.name} is of type {type!r} already, and reads as it did", remedy="leave it as it is"
                )
        now = utc_now()
        new = [_described(row, file_type, read[row.id][0]) for row in rows]
        ids = register(session, new, who=act.who, now=now)
        for row, id_ in zip(rows, ids, strict=True):
            session.execute(
                update(ReplicaRow).where(ReplicaRow.file_id == row.id).values(file_id=id_),
                execution_options={"synchronize_session": False},
            )
        sets = {row.id: tuple(dict.fromkeys(each.set_name for each in roles_of(session, row.id))) for row in rows}
        pairs = [(row.id, id_) for row, id_ in zip(rows, ids, strict=True)]
        catalogue.withdraw(session, pairs, who=act.who, why=why, now=now)
        attach(session, ids, [[loads[each.sha256] for each in read[row.id][1]] for row in rows])
        roles = {id_: Role.of_type(file_type, each.begins_at, each.ends_at) for id_, each in zip(ids, new, strict=True)}
        given = {id_: role for id_, role in roles.items() if role is not None}
        give(session, given, who=act.who, why=f"retyped to {type}", now=now)
        return [Retyped(row.name, row.type, type, sets[row.id]) for row in rows]

    return act.write(" ".join(wanted), work, lambda done: {"type": type, "files": [each.name for each in done]})


def _correctable(session: Session, names: Sequence[str], done: str, *, again: bool) -> list[FileRow]:
    """Return files that may be put right.

    Parameters
    ----------
    done
        What is to be done to them: ``withdrawn``.
    again
        Whether files that were withdrawn may be put right.
    """
    rows = list(files_named(session, names).values())
    gone = catalogue.withdrawals(session, [row.id for row in rows])
    homes = _homes(session, rows)
    here = this_site(session)
    problems = []
    for row in rows:
        if row.origin == Origin.BATCH:
            problems.append(f"{row.name} was made by a job: a rerun makes it anew, under another name")
        elif row.type == FILE_TYPE:
            problems.append(f"{row.name} is the bundle of a pipeline, which campaigns were submitted with")
        elif row.id in gone and not again:
            problems.append(f"{row.name} {gone[row.id][-1]}")
        elif homes.get(row.id, here) != here:
            problems.append(f"{row.name} was taken in by site {name_of(session, homes[row.id])!r}: do it there")
    names_of = {row.id: row.name for row in rows}
    uses = uses_of(session, names_of)
    for use in uses[:SHOWN]:
        read = ", ".join(names_of[id_] for id_ in use.files) or "one of them"
        problems.append(f"{read} is an input of {use}")
    if len(uses) > SHOWN:
        problems.append(f"and {len(uses) - SHOWN:,} more jobs read them, or are planned to")
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise RequestRefused(
            f"nothing was {done}:\n{listed}",
            remedy="what a job reads stays as it was when it was planned; leave it out of later campaigns by their"
            " 'where', and a calibration by 'nightmill calib withdraw'"
            if uses
            else "",
        )
    return rows


def _homes(session: Session, rows: Collection[FileRow]) -> dict[int, int]:
    """Return the sites that took files in: those of their first copies."""
    query = (
        select(ReplicaRow.file_id, StoreRow.site_id)
        .join(StoreRow, ReplicaRow.store_id == StoreRow.id)
        .where(among(ReplicaRow.file_id, [row.id for row in rows]))
        .order_by(ReplicaRow.id.desc())
    )
    return {file_id: site_id for file_id, site_id in session.execute(query)}


def _places(session: Session, rows: Collection[FileRow]) -> dict[int, tuple[str, str]]:
    """Return a store of this site, and the path there, that has a copy of each file."""
    query = (
        select(ReplicaRow.file_id, StoreRow.name, ReplicaRow.path)
        .join(StoreRow, ReplicaRow.store_id == StoreRow.id)
        .where(among(ReplicaRow.file_id, [row.id for row in rows]), ReplicaRow.state == "present", is_here(session))
    )
    places = {file_id: (store, path) for file_id, store, path in session.execute(query)}
    for row in rows:
        if row.id not in places:
            raise RequestRefused(
                f"{row.name} cannot be read again: no store of this site has a copy", remedy="bring one back first"
            )
    return places


def _read(
    site: Site, row: FileRow, file_type: FileType, place: tuple[str, str]
) -> tuple[Inspection, tuple[Attachment, ...]]:
    """Read a file as one of a type, from a copy of the one in the store."""
    store, path = place
    with TemporaryDirectory(prefix="nightmill-") as folder:
        copy = Path(folder, "copy")
        with site.moving(store) as stager:
            stager.fetch(path, copy)
        with held(copy, "") as descriptor:
            opened = open_file(row.name, file_type.format, descriptor, verify=verified(file_type))
            if opened.sha256 != row.sha256:
                raise BadFile(
                    f"{row.name} in store {store!r} is not what was registered: its SHA-256 is {opened.sha256[:16]}...,"
                    f" and was {row.sha256[:16]}...",
                    reason="changed",
                    remedy="bring back the copy as it was",
                )
            found = opened.inspect(file_type)
            require_time(row.name, file_type, found)
            has_rows = file_type.membership is not None
            rows = (attach_rows(row.name, file_type, descriptor, site.config.spool),) if has_rows else ()
    return found, rows


def _is_same(row: FileRow, file_type: FileType, found: Inspection) -> bool:
    """Whether a file would be described as it is, and nothing else would follow from it."""
    if row.type != file_type.name or file_type.membership is not None or file_type.calibration is not None:
        return False
    now, before = found.metadata, (data_id(row), row.begins_at, row.ends_at, row.attributes)
    return before == (now.data_id, now.begins_at, now.ends_at, now.values)


def _described(row: FileRow, file_type: FileType, found: Inspection) -> NewFile:
    metadata = found.metadata
    return NewFile(
        name=row.name,
        type=file_type.name,
        origin=Origin(row.origin),
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        data_id=metadata.data_id,
        begins_at=metadata.begins_at,
        ends_at=metadata.ends_at,
        metadata=metadata.values,
        original_name=row.original_name,
        provenance=row.provenance,
        version=row.version + 1,
        footprints=found.footprints,
        warnings=found.warnings,
    )
