"""What grows for ever unless it is removed, and how long it stays: journals with attachments, files that are held.

A journal is compressed a day after its last entry. It is removed once it is older than the site's retention, everything
that it tells is on record, and a backup that was verified holds that. An attachment is removed once it is as old, and
older than every journal that is left: none can name it.
"""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from nightmill.backbone.catalogue.attachments import drop_unseen
from nightmill.backbone.catalogue.held import forget_held, held_copies, held_now
from nightmill.backbone.work.attempts import standings
from nightmill.errors import NightmillError
from nightmill.execution.attachments import older_attachments
from nightmill.execution.journal import COMPRESSED, RECORDED, journals, read_whole_journal, recorded_journals
from nightmill.execution.quarantine import quarantined
from nightmill.model.report import fold
from nightmill.operations import backup, memory
from nightmill.operations.acts import Act
from nightmill.operations.alone import alone
from nightmill.operations.site import Site

RETAIN: Final = "retain"
"""The act."""
COMPRESS_AFTER: Final = timedelta(days=1)


@dataclass
class Retained:
    """What was done, or would be."""

    compressed: int = 0
    removed: int = 0
    attachments: int = 0
    """Removed, too."""
    held: int = 0
    """Files that failed attempts had left for another: removed, their rows stay."""
    held_left: int = 0
    """Files that failed attempts left and that are still held."""
    held_bytes: int = 0
    """Of them, bytes."""
    held_until: datetime | None = None
    """When the first of them may be removed, unless somebody wants it; None where there is none, or never."""
    freed_bytes: int = 0
    kept: dict[str, str] = field(default_factory=dict)
    """Journals that are older than the retention and stay, with the reason."""


def retain(site: Site, *, now: datetime, who: str | None = None, dry_run: bool = False) -> Retained:
    """Compress and remove journals by the site's retention.

    Raises
    ------
    RequestRefused
        Where the database is older than its spool: it may need what would be removed.
    """
    act = Act.begin(site, RETAIN, who=who)
    memory.require_current(site)
    done = Retained()
    days = site.config.retention.journals_days
    with site.database.reading() as session:
        backed_up = backup.newest(session)
    with alone(site.config.spool / RECORDED):  # not of the spool: slices go on meanwhile
        for path in list(recorded_journals(site.config.spool)):
            facts = path.stat()
            age = now - datetime.fromtimestamp(facts.st_mtime, UTC)
            if days is not None and age > timedelta(days=days):
                if why := _needed(site, path, backed_up):
                    done.kept[path.name] = why
                else:
                    done.removed += 1
                    done.freed_bytes += facts.st_size
                    if not dry_run:
                        path.unlink()
                    continue
            if path.suffix != COMPRESSED and age > COMPRESS_AFTER:
                done.compressed += 1
                if not dry_run:
                    done.freed_bytes += facts.st_size - _compress(path)
        if days is not None and backed_up is not None:
            oldest = min([now - timedelta(days=days), backed_up, *map(_begun_at, _all_journals(site.config.spool))])
            _remove_attachments(site, oldest, done, dry_run=dry_run)
    _remove_held(site, now, done, act, dry_run=dry_run)
    if done.removed + done.attachments and not dry_run:
        detail = {"removed": done.removed, "attachments": done.attachments, "freed_bytes": done.freed_bytes}
        act.write(site.config.name, lambda session: drop_unseen(session, oldest), lambda _: detail)
    return done


def _remove_held(site: Site, now: datetime, done: Retained, act: Act, *, dry_run: bool) -> None:
    """Remove what failed attempts left, once it is old enough and no result has taken it; tell what stays."""
    days = site.config.retention.held_days
    with site.database.reading() as session:
        old = held_copies(session, now - timedelta(days=days)) if days is not None else []
    done.held += len(old)
    done.freed_bytes += sum(copy.size_bytes for copy in old)
    if old and not dry_run:
        detail = {"held": len(old)}
        act.write(site.config.name, lambda session: forget_held(session, [copy.id for copy in old]), lambda _: detail)
        for copy in old:
            site.stagers[copy.store].remove(copy.path)
    with site.database.reading() as session:
        left = held_now(session)
    done.held_left, done.held_bytes = left.files, left.size_bytes
    if left.since is not None and days is not None:
        done.held_until = left.since + timedelta(days=days)


def _all_journals(spool: Path) -> Iterator[Path]:
    yield from journals(spool)
    yield from recorded_journals(spool)
    yield from (each.path for each in quarantined(spool))


def _begun_at(path: Path) -> datetime:
    """Return when a journal was begun, as its name tells; of a name that does not, the beginning of time."""
    try:
        return datetime.strptime(path.name.partition("-")[0], "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def _remove_attachments(site: Site, older_than: datetime, done: Retained, *, dry_run: bool) -> None:
    for path in older_attachments(site.config.spool, older_than):
        done.attachments += 1
        done.freed_bytes += path.stat().st_size
        if not dry_run:
            path.unlink()


def _needed(site: Site, path: Path, backed_up: datetime | None) -> str:
    """Say why a journal must stay; empty where nobody will need it."""
    if backed_up is None:
        return "no backup of the database was verified: see 'nightmill backup'"
    # It came here once it was recorded. The time of a change of the entry is later, never earlier.
    if datetime.fromtimestamp(path.stat().st_ctime, UTC) >= backed_up:
        return f"the newest verified backup, as of {backed_up:%Y-%m-%d %H:%M} UTC, may not hold what it tells"
    try:
        reports = fold(read_whole_journal(path).entries)
    except NightmillError as error:
        return str(error)
    with site.database.reading() as session:
        known = standings(session, reports)
    lacking = [attempt for attempt in reports if attempt not in known or not known[attempt].state.ended]
    return f"the database does not know the end of {lacking[0]}; see 'nightmill doctor --deep'" if lacking else ""


def _compress(path: Path) -> int:
    """Compress a journal, and return the size of what stands in its place once it was read again."""
    facts = path.stat()
    target = path.with_name(path.name + COMPRESSED)
    part = target.with_name(target.name + ".part")
    with path.open("rb") as source, part.open("wb") as file:
        with gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as zipped:
            shutil.copyfileobj(source, zipped)
        file.flush()
        os.fsync(file.fileno())
    with gzip.open(part) as again, path.open("rb") as source:
        same = all(block == again.read(len(block)) for block in iter(lambda: source.read(1 << 20), b""))
        same = same and not again.read(1)
    if not same:
        part.unlink()
        raise OSError(f"{path} was not the same when it was read again")
    os.utime(part, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    part.replace(target)
    path.unlink()
    return target.stat().st_size
