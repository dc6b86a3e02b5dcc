"""Backups of the database that were verified: made and read, or made elsewhere and vouched for by an operator.

Retention goes by them: what a restored database would lack stays in the spool.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from hashlib import file_digest
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, select
from sqlalchemy.orm import Session

from nightmill.backbone.schema import AuditRow
from nightmill.clock import utc_now
from nightmill.errors import RequestRefused
from nightmill.operations.acts import Act
from nightmill.operations.memory import Marks, marks_of
from nightmill.operations.site import Site

BACKUP: Final = "backup"
"""The act."""


@dataclass(frozen=True)
class Backup:
    """A backup that was verified.

    Parameters
    ----------
    where
        Its file, or in words what it is.
    as_of
        Everything that was on record then is in it.
    size_bytes, sha256
        Of its file, where nightmill made it.
    """

    where: str
    as_of: datetime
    size_bytes: int | None = None
    sha256: str | None = None


def back_up(site: Site, target: Path, *, who: str | None = None, why: str = "") -> Backup:
    """Copy the database to a new file while the site works, read the copy, and put it on record.

    SQLite's copy is a database whose integrity was checked; PostgreSQL's is an archive of ``pg_dump`` that
    ``pg_restore`` read to its end.

    Raises
    ------
    RequestRefused
        Where the file exists or cannot be made, a program is missing, or the copy is not sound: then nothing stays.
    DatabaseAway
        Where the database cannot be reached.
    """
    act = Act.begin(site, BACKUP, who=who, why=why)
    as_of = utc_now()
    with site.database.reading() as session:
        reached = marks_of(session)
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        raise RequestRefused(
            f"{target} exists", remedy="a backup overwrites nothing; give it a name of its own"
        ) from None
    except OSError as error:
        raise RequestRefused(f"the backup {target} cannot be made: {error.strerror}") from error
    try:
        (_copy_sqlite if site.database.is_sqlite else _dump_postgresql)(site.database.address, target)
        with target.open("rb") as file:
            os.fsync(file.fileno())
            sha256 = file_digest(file, "sha256").hexdigest()
    except BaseException:
        target.unlink()
        raise
    backup = Backup(str(target.resolve()), as_of, target.stat().st_size, sha256)
    _record(act, backup, reached)
    return backup


def vouch(site: Site, what: str, as_of: datetime, *, why: str, who: str | None = None) -> Backup:
    """Put on record that an operator verified a backup that was made by other means.

    Raises
    ------
    RequestRefused
        Where it is of a time to come.
    """
    act = Act.begin(site, BACKUP, who=who, why=why)
    if as_of > utc_now():
        raise RequestRefused(f"no backup is as of {as_of:%Y-%m-%d %H:%M:%S} UTC: that is yet to come")
    backup = Backup(what, as_of)
    _record(act, backup, None)
    return backup


def newest(session: Session) -> datetime | None:
    """Return as of when the newest verified backup is, of whichever site: each holds all; None where there is none."""
    rows = session.scalars(select(AuditRow.detail).where(AuditRow.verb == BACKUP))
    return max((datetime.fromisoformat(detail["as_of"]) for detail in rows), default=None)


def _record(act: Act, backup: Backup, reached: Marks | None) -> None:
    detail: dict[str, Any] = {
        "as_of": backup.as_of.isoformat(),
        "size_bytes": backup.size_bytes,
        "sha256": backup.sha256,
    }
    if reached is not None:
        detail["reached"] = reached.model_dump()
    act.write(backup.where, lambda _: None, lambda _: detail)


def _copy_sqlite(url: URL, target: Path) -> None:
    try:
        with (
            closing(sqlite3.connect(f"{Path(str(url.database)).as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(target, isolation_level=None)) as copy,
        ):
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, with nothing beside it
            unsound = [row[0] for row in copy.execute("PRAGMA integrity_check") if row[0] != "ok"]
            unsound += [f"a reference of table {row[0]} is broken" for row in copy.execute("PRAGMA foreign_key_check")]
    except sqlite3.Error as error:
        raise RequestRefused(f"the backup cannot be made: {error}") from error
    if unsound:
        raise RequestRefused(
            f"the copy of the database is not sound: {unsound[0]}",
            remedy="the database itself is damaged: bring it back from an earlier backup, then 'nightmill recover'",
        )


def _dump_postgresql(url: URL, target: Path) -> None:
    plain = url.set(drivername="postgresql", password=None).render_as_string()
    environment = {**os.environ, **({"PGPASSWORD": str(url.password)} if url.password else {})}
    _run(["pg_dump", "--format=custom", "--no-password", f"--file={target}", f"--dbname={plain}"], environment)
    _run(["pg_restore", f"--file={os.devnull}", str(target)], environment)


def _run(argv: list[str], environment: dict[str, str]) -> None:
    if shutil.which(argv[0]) is None:
        raise RequestRefused(
            f"{argv[0]} is not on the PATH",
            remedy="install PostgreSQL's client programs; or back up by other means and vouch for it with --elsewhere",
        )
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RequestRefused(f"the backup cannot be made: {ended.stderr.strip() or argv[0] + ' failed'}")
