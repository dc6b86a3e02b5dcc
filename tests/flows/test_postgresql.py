"""The conductor's own records in PostgreSQL, as a site that several machines share has them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psycopg
import pytest

from flows.hosting import service
from flows.hosting.conductor import PrefectConductor
from nightmill.cli import main
from nightmill.config.server import ServerConfig
from nightmill.operations.patience import who_waits
from tests.flows.conftest import REPOSITORY, conductor_at, until
from tests.support import prefect_database
from tests.support.observatory import Observatory
from tests.support.postgres import SUPERUSER, PostgresServer, StoppableServer


def test_a_campaign_is_conducted_with_the_servers_records_in_postgresql(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    observatory = Observatory.build(tmp_path / "site")
    observatory.observe(1, ["a star\n", f"unless {tmp_path / 'flag'}\n"])
    observatory.submit("night1", 1, "execution.jobs_per_task=1")
    database = postgres.create()
    site = observatory.directory
    try:
        service.start(site, ServerConfig(database=postgres.url(database)))
        with observatory.open() as opened:
            run = PrefectConductor(opened).start("night1").flow_run_id
        until(lambda: conductor_at(site).state(run).ended, 90, "the end of the campaign")
        assert "1 of 2 jobs not done" in conductor_at(site).state(run).message
        (tmp_path / "flag").touch()
        with observatory.open() as opened:
            PrefectConductor(opened).start("night1")
        until(lambda: conductor_at(site).state(run).type == "COMPLETED", 90, "the rerun")
    finally:
        service.stop(site)
    assert set(observatory.states("night1").values()) == {"done"}
    assert not (service.folder_of(site) / "prefect.db").exists()
    with psycopg.connect(host=str(postgres.socket_directory), dbname=database, user=SUPERUSER) as connection:
        names = connection.execute("SELECT name, state_name FROM flow_run WHERE name LIKE 'night1%' ORDER BY name")
        assert names.fetchall() == [
            ("night1", "Completed"),
            ("night1 science #0", "Completed"),
            ("night1 summary #0", "Completed"),
        ]
        [tasks] = connection.execute("SELECT count(*) FROM task_run WHERE name LIKE 'science/%'").fetchone() or (0,)
    assert tasks == 3
    postgres.drop(database)


def test_a_catalogue_that_restarts_in_mid_campaign_ends_nothing(
    own_server: StoppableServer,
    prefect_template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    database = own_server.server.create()
    site = tmp_path / "site"
    observatory = Observatory.build(site, own_server.server.url(database))
    prefect_database.give(site, prefect_template)
    notes = tmp_path / "notes"
    observatory.observe(1, [f"note {notes}\nuntil {tmp_path / 'flag'}\n"] * 3)
    observatory.submit("night1", 1, "execution.jobs_per_task=1", "execution.threads=1")
    try:
        service.start(site, ServerConfig())
        with observatory.open() as opened:
            run = PrefectConductor(opened).start("night1").flow_run_id
            spool = opened.config.spool
        until(notes.exists, 60, "the first job")
        own_server.stop()
        (tmp_path / "flag").touch()
        until(lambda: who_waits(spool), 60, "somebody to wait for the catalogue")
        time.sleep(8)  # longer than slices once waited
        with pytest.raises(SystemExit) as ended:
            main(["status", "--site", str(site)])
        assert ended.value.code == 3
        assert "slice night1 science #0 (process " in capsys.readouterr().err
        assert not conductor_at(site).state(run).ended
        own_server.start()
        until(lambda: conductor_at(site).state(run).ended, 120, "the end of the campaign")
        assert conductor_at(site).state(run).type == "COMPLETED"
    finally:
        service.stop(site)
    assert {job.attempts for job in observatory.jobs("night1").values()} == {1}
    assert set(observatory.states("night1").values()) == {"done"}
    assert len(notes.read_text().splitlines()) == 3
