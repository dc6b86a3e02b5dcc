"""Verified backups, and what is removed because of them; nothing that is not recorded ever is."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import make_url, select, update

from flows.hosting.daemon import LOG_BYTES, Daemon
from flows.hosting.growth import cut_logs, prefect_settings
from flows.hosting.service import folder_of
from nightmill.backbone.schema import AttemptRow, AuditRow
from nightmill.config.site import RetentionConfig
from nightmill.errors import RequestRefused
from nightmill.execution.journal import read_journal, recorded_journals
from nightmill.operations import backup
from nightmill.operations.audit import PARTS, Ground
from nightmill.operations.retain import COMPRESS_AFTER, retain
from nightmill.operations.site import Site
from tests.operations.test_recover import World, world

__all__ = ["world"]

LONG = timedelta(days=31)


def now() -> datetime:
    """Return the time as it is: a run of all tests may take hours."""
    return datetime.now(UTC)


def keep_for_ever(site: Site) -> Site:
    return Site(replace(site.config, retention=RetentionConfig(journals_days=None)), site.database)


def test_a_backup_is_a_sound_copy_and_on_record(world: World, tmp_path: Path) -> None:
    world.submit("first")
    world.carry_out("first")
    target = tmp_path / "copy"
    made = backup.back_up(world.site, target, who="ada", why="nightly")
    assert target.stat().st_mode & 0o777 == 0o600
    with world.site.database.reading() as session:
        (act,) = session.scalars(select(AuditRow).where(AuditRow.verb == "backup"))
        assert backup.newest(session) == made.as_of
        attempts = len(session.scalars(select(AttemptRow.id)).all())
    assert (act.subject, act.detail["sha256"], act.detail["reached"]["attempt"]) == (str(target), made.sha256, 4)
    if world.site.database.is_sqlite:
        with closing(sqlite3.connect(target)) as copy:
            assert copy.execute("SELECT count(*) FROM attempt").fetchone() == (attempts,)
    else:
        argv = ["pg_restore", "--data-only", "--table=attempt", "--file=-", str(target)]
        text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        rows = re.search(r"COPY public.attempt .*?;\n(.*?)\\\.\n", text, re.DOTALL)
        assert rows is not None
        assert len(rows[1].splitlines()) == attempts
    with pytest.raises(RequestRefused, match=f"{target} exists; a backup overwrites nothing"):
        backup.back_up(world.site, target, who="ada")
    with pytest.raises(RequestRefused, match=r"the backup .*nowhere/copy cannot be made: No such file or directory"):
        backup.back_up(world.site, tmp_path / "nowhere" / "copy", who="ada")


def test_a_damaged_database_gives_no_backup(world: World, tmp_path: Path) -> None:
    if not world.site.database.is_sqlite:
        pytest.skip("PostgreSQL's pages cannot be reached from here")
    with closing(sqlite3.connect(str(make_url(world.site.config.database_url).database))) as connection:
        connection.execute("PRAGMA foreign_keys=OFF")
        connection.execute("UPDATE replica SET file_id = 999 WHERE id = 1")
        connection.commit()
    with pytest.raises(RequestRefused, match=r"not sound: a reference of table replica is broken; the database itself"):
        backup.back_up(world.site, tmp_path / "copy", who="ada")
    assert not list(tmp_path.glob("*copy*"))
    with world.site.database.reading() as session:
        assert backup.newest(session) is None


def test_a_backup_by_other_means_is_vouched_for(world: World) -> None:
    as_of = now() - timedelta(hours=2)
    backup.vouch(world.site, "base backup 7", as_of, who="ada", why="restored and looked into")
    with world.site.database.reading() as session:
        assert backup.newest(session) == as_of
    with pytest.raises(RequestRefused, match="that is yet to come"):
        backup.vouch(world.site, "base backup 8", datetime.now(UTC) + timedelta(days=1), who="ada", why="sure")


def test_journals_are_compressed_and_read_as_before(world: World) -> None:
    world.submit("first")
    world.carry_out("first")
    paths = list(recorded_journals(world.site.config.spool))
    before = [read_journal(path).entries for path in paths]
    assert retain(world.site, who="ada", now=now()).compressed == 0, "not within a day"
    later = now() + COMPRESS_AFTER + timedelta(hours=1)
    assert retain(world.site, who="ada", now=later, dry_run=True).compressed == len(paths)
    assert list(recorded_journals(world.site.config.spool)) == paths
    done = retain(world.site, who="ada", now=later)
    assert (done.compressed, done.removed, done.freed_bytes > 0) == (len(paths), 0, True)
    zipped = list(recorded_journals(world.site.config.spool))
    assert [path.name for path in zipped] == [f"{path.name}.gz" for path in paths]
    assert [read_journal(path).entries for path in zipped] == before
    assert retain(world.site, who="ada", now=later).compressed == 0
    assert [each for part in PARTS.values() for each in part(Ground(world.site))] == []


def test_a_journal_goes_once_it_is_old_recorded_and_in_a_verified_backup(world: World, tmp_path: Path) -> None:
    spool = world.site.config.spool
    world.submit("first")
    world.carry_out("first")
    later = now() + LONG
    kept = retain(world.site, who="ada", now=later, dry_run=True)
    assert set(kept.kept.values()) == {"no backup of the database was verified: see 'nightmill backup'"}
    made = backup.back_up(world.site, tmp_path / "one", who="ada")
    world.submit("second")
    world.carry_out("second")
    retain(keep_for_ever(world.site), who="ada", now=now())
    (old, *_), newest = list(recorded_journals(spool)), list(recorded_journals(spool))[-1]

    first = update(AttemptRow).where(AttemptRow.id == 1)
    world.site.database.write(lambda session: session.execute(first.values(state="issued", result=False)))
    lacking = retain(world.site, who="ada", now=later, dry_run=True)
    assert lacking.kept[old.name].startswith("the database does not know the end of first/measure/exposure=")
    assert f"as of {made.as_of:%Y-%m-%d %H:%M} UTC, may not hold what it tells" in lacking.kept[newest.name]
    world.site.database.write(lambda session: session.execute(first.values(state="published", result=True)))

    assert retain(world.site, who="ada", now=later, dry_run=True).removed == 2
    assert old.exists()
    done = retain(keep_for_ever(world.site), who="ada", now=later)
    assert (done.removed, done.compressed) == (0, 4)
    assert retain(world.site, who="ada", now=later).removed == 0, "a compressed one is newer than the backup"
    backup.back_up(world.site, tmp_path / "two", who="ada")
    assert retain(world.site, who="ada", now=later).removed == 4
    assert list(recorded_journals(spool)) == []
    with world.site.database.reading() as session:
        (act,) = session.scalars(select(AuditRow).where(AuditRow.verb == "retain"))
    assert act.detail["removed"] == 4


def test_nothing_is_removed_for_a_database_that_is_older(world: World, tmp_path: Path) -> None:
    world.backup()
    world.submit("first")
    world.carry_out("first")
    backup.back_up(world.site, tmp_path / "one", who="ada")
    world.restore()
    with pytest.raises(RequestRefused, match="is older than its spool"):
        retain(world.site, who="ada", now=now() + LONG)
    assert len(list(recorded_journals(world.site.config.spool))) == 2


def test_logs_are_cut_and_old_ones_removed(tmp_path: Path) -> None:
    daemon = Daemon(folder_of(tmp_path), "server")
    daemon.folder.mkdir(parents=True)
    descriptor = os.open(daemon.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, b"x" * LOG_BYTES)
    assert cut_logs(tmp_path, RetentionConfig(), now=now()) == []
    os.write(descriptor, b"more\n")
    os.close(descriptor)
    assert (daemon.log.read_text(), daemon.old_log.stat().st_size) == ("more\n", LOG_BYTES)
    assert cut_logs(tmp_path, RetentionConfig(logs_days=None), now=now() + LONG) == []
    assert cut_logs(tmp_path, RetentionConfig(), now=now() + LONG, dry_run=True) == [daemon.old_log]
    assert daemon.old_log.exists()
    assert cut_logs(tmp_path, RetentionConfig(), now=now() + LONG) == [daemon.old_log]
    assert (daemon.old_log.exists(), daemon.log.exists()) == (False, True)


@pytest.mark.parametrize(("days", "kinds"), [(7, {"events", "flow_runs", "orphans"}), (None, {"events"})])
def test_prefect_is_told_how_long_to_keep_flow_runs(
    days: int | None, kinds: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.settings.models.server.services import ServerServicesDBVacuumSettings

    for name, value in prefect_settings(RetentionConfig(flow_runs_days=days)).items():
        monkeypatch.setenv(name, value)
    understood = ServerServicesDBVacuumSettings()
    assert understood.enabled_vacuum_types == kinds
    assert understood.retention_period == timedelta(days=days or 90)
