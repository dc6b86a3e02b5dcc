"""What the spool remembers of the database, so that one that was brought back from an older backup is recognised.

The marks are raised before an order is handed out: an attempt that can have made anything is below them. Whoever finds
a database that knows less than they say must issue nothing, because the numbers and names were used already.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.database import safe_url
from nightmill.backbone.schema import AttemptRow, CampaignRow, FileRow, SiteRow
from nightmill.backbone.sites import name_of, this_site, why_outdated
from nightmill.errors import RequestRefused
from nightmill.execution.journal import SpoolAway
from nightmill.model.base import Frozen
from nightmill.operations.site import Site

MEMORY: Final = "memory"
"""Folder of the spool."""
_MARKS_BYTES: Final = 80
_REACHED: Final = select(
    select(func.max(AttemptRow.id)).scalar_subquery(), select(func.max(FileRow.id)).scalar_subquery()
)
Kept = TypeVar("Kept", bound=Frozen)


class Marks(Frozen):
    """How far a database is: the highest IDs that it gave."""

    attempt: int = 0
    file: int = 0


class KeptCampaign(Frozen):
    """A campaign as it stands in the database."""

    number: int
    name: str
    pipeline: str
    pipeline_version: str
    definition: Mapping[str, Any]
    sha256: str
    submitted_at: datetime
    submitted_by: str


class Numbers(Frozen):
    """The highest numbers of attempts that were given to jobs of a campaign which the database does not know."""

    stages: Mapping[str, Mapping[str, int]] = {}
    """By stage and unit."""


def marks_of(session: Session) -> Marks:
    """Return how far a database is."""
    attempt, file = session.execute(_REACHED).one()
    return Marks(attempt=attempt or 0, file=file or 0)


def marks(spool: Path) -> Marks:
    """Return how far the database is known to have been."""
    return _read(_marks(spool), Marks) or Marks()


def _write_marks(spool: Path, seen: Marks) -> None:
    """Write the marks over those before: so short a text is whole or the one before, and need not wait for the disk.

    A loss of power may take it back, with which the database of then still agrees.
    """
    descriptor = os.open(_marks(spool), os.O_WRONLY | os.O_CREAT, 0o666)
    try:
        os.pwrite(descriptor, f"{seen.model_dump_json():<{_MARKS_BYTES}}".encode(), 0)
    finally:
        os.close(descriptor)


def raise_marks(spool: Path, seen: Marks) -> None:
    """Remember how far a database is, where it is further than any before."""
    before = marks(spool)
    if seen.attempt <= before.attempt and seen.file <= before.file:
        return
    with alone(spool):
        before = marks(spool)
        highest = Marks(attempt=max(before.attempt, seen.attempt), file=max(before.file, seen.file))
        _write_marks(spool, highest)


def set_marks(spool: Path, seen: Marks) -> None:
    """Take a database for current that is not as far as another was, once that was told to somebody."""
    with alone(spool):
        _write_marks(spool, seen)


def behind(known: Marks, remembered: Marks) -> str:
    """Say in what a database is older than the spool remembers; empty where it is not."""
    what = [
        f"{name} up to {high} were {done}, and it knows them up to {low}"
        for name, done, low, high in (
            ("attempts", "issued", known.attempt, remembered.attempt),
            ("files", "registered", known.file, remembered.file),
        )
        if low < high
    ]
    return "; ".join(what)


def older(site: Site) -> str:
    """Say in what the database of a site is older than its spool; empty where it is not."""
    remembered = marks(site.config.spool)
    with site.database.reading() as session:
        return why_older(session, remembered)


def why_older(session: Session, remembered: Marks) -> str:
    """Say why a database is older than what is remembered: by its marks, or as another site has told; else empty."""
    return "; ".join(filter(None, [behind(marks_of(session), remembered), why_outdated(session)]))


def take_for_current(session: Session, remembered: Marks) -> None:
    """Take a database for current, and have the other sites recover that went on with a newer one, as this one had."""
    own = SiteRow.id == this_site(session)
    if behind(marks_of(session), remembered) and not why_outdated(session):
        name = name_of(session, this_site(session))
        told = f"site {name!r} found it brought back from a backup, and took it for current"
        session.execute(update(SiteRow).where(~own, SiteRow.key.is_not(None)).values(outdated=told))
    session.execute(update(SiteRow).where(own).values(outdated=""))


def require_current(site: Site) -> None:
    """Make sure that the database of a site was not brought back from an older backup.

    Raises
    ------
    RequestRefused
        Where it was: what would be issued could have numbers and names that were used already.
    """
    refuse_older(site, older(site))


def refuse_older(site: Site, why: str) -> None:
    """Refuse to issue anything where there is a reason, as :func:`behind` gives it."""
    if why:
        raise RequestRefused(
            f"the database {safe_url(site.config.database_url)} is older than its spool {site.config.spool}: {why}",
            remedy="was it brought back from a backup? 'nightmill recover' shows what can be had back, and lets the"
            " site go on; nothing is issued until then",
        )


def keep_campaign(spool: Path, row: CampaignRow) -> None:
    """Keep a campaign's definition, unless it is kept already."""
    path = spool / MEMORY / "campaigns" / f"{row.id:06d}.json"
    if path.exists():
        return
    kept = KeptCampaign(
        number=row.id,
        name=row.name,
        pipeline=row.pipeline,
        pipeline_version=row.pipeline_version,
        definition=row.definition,
        sha256=row.sha256,
        submitted_at=row.submitted_at,
        submitted_by=row.submitted_by,
    )
    with alone(spool):
        path.parent.mkdir(exist_ok=True)
        write(path, kept)


def kept_campaigns(spool: Path) -> Iterator[KeptCampaign]:
    """Yield the campaigns that were carried out, in the order of their numbers."""
    for path in sorted((spool / MEMORY / "campaigns").glob("*.json")):
        if (kept := _read(path, KeptCampaign)) is not None:
            yield kept


def numbers(spool: Path, campaign: str) -> Numbers:
    """Return the numbers that were given to jobs of a campaign in a database that is lost."""
    return _read(spool / MEMORY / "numbers" / f"{campaign}.json", Numbers) or Numbers()


def keep_numbers(spool: Path, campaign: str, given: Mapping[str, Mapping[str, int]]) -> None:
    """Remember the numbers that were given to jobs of a campaign, beside those that are remembered."""
    with alone(spool):
        before = numbers(spool, campaign).stages
        merged = {
            stage: {
                unit: max(before.get(stage, {}).get(unit, 0), given.get(stage, {}).get(unit, 0))
                for unit in {**before.get(stage, {}), **given.get(stage, {})}
            }
            for stage in {**before, **given}
        }
        folder = spool / MEMORY / "numbers"
        folder.mkdir(exist_ok=True)
        write(folder / f"{campaign}.json", Numbers(stages=merged))


def _marks(spool: Path) -> Path:
    return spool / MEMORY / "marks.json"


def _read(path: Path, kind: type[Kept]) -> Kept | None:
    try:
        content = path.read_bytes()
        return kind.model_validate_json(content) if content else None
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise SpoolAway(
            f"{path} is damaged: {error.errors()[0]['msg']}",
            remedy="bring it back, or remove it once 'nightmill doctor --deep' finds nothing",
        ) from error
    except OSError as error:
        raise _away(path, error) from error


def write(path: Path, value: Frozen) -> None:
    """Write a file of the memory, whole or not at all; call it :func:`alone`."""
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        file.write(value.model_dump_json().encode())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


@contextmanager
def alone(spool: Path) -> Iterator[None]:
    """Keep everybody else from changing what a spool remembers.

    Raises
    ------
    SpoolAway
        Where it cannot be written.
    """
    folder = spool / MEMORY
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise _away(folder, error) from error


def _away(path: Path, error: OSError) -> SpoolAway:
    return SpoolAway(
        f"the spool cannot be used: {error.filename or path}: {error.strerror}",
        remedy="make room in it, mend its disk, or see who may write there; nothing that it holds is lost",
    )
