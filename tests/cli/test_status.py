"""``nightmill status`` beside Prefect's server: asked where it answers at once, told where it does not."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import update

from flows.hosting import api, server
from flows.hosting.daemon import DaemonRecord, keep
from flows.hosting.listener import sockets_of
from flows.hosting.service import folder_of
from nightmill.backbone.schema import JobRow
from nightmill.backbone.work.campaigns import StageProgress, campaign_named
from nightmill.backbone.work.conducting import conducts_campaign
from nightmill.backbone.work.overview import Failures, failures_of, hosts_of
from nightmill.cli.render import screen
from nightmill.cli.render import standing as _standing
from nightmill.cli.render.pace import APART_SECONDS, WINDOW_SECONDS, Pace
from nightmill.clock import utc_now
from nightmill.config.campaign import load_campaign
from nightmill.errors import DatabaseAway
from nightmill.execution.owner import host_name, this_process
from nightmill.model.conducting import RunState, Seen
from nightmill.model.states import JobState
from nightmill.operations import conductor
from nightmill.operations.site import open_site
from nightmill.operations.submit import submit
from tests.cli.conftest import Nightmill, describe, take_in
from tests.cli.test_operators import PIPELINE, TYPES
from tests.examples.campaigns import run_campaign

RUN = "7c1f2c1e-0000-4000-8000-000000000001"


@pytest.fixture
def site(folder: Path, nightmill: Nightmill, tmp_path: Path) -> Path:
    """Give a site with a campaign that is conducted by a flow run."""
    describe(folder, TYPES, PIPELINE)
    take_in(nightmill, tmp_path / "night", 1)
    with open_site(folder) as opened:
        submit(opened, load_campaign(folder / "first.yaml"), who="ada")
        opened.database.write(
            lambda session: conducts_campaign(session, campaign_named(session, "first").id, RUN),
        )
    return folder


@pytest.fixture
def silent(site: Path) -> Iterator[None]:
    """Let the site's server take connections and answer none."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        port = url.rpartition(":")[2]
        details = {"port": port, "api_url": f"{url}/api", "ui_url": url}
        details["sockets"] = sockets_of(this_process(), int(port))
        folder_of(site).mkdir(parents=True)
        keep(folder_of(site) / "server.json", DaemonRecord(owner=this_process(), details=details))
        assert server.daemon(folder_of(site)).state() == "running"
        yield


def test_where_no_server_runs_that_is_said_and_the_backbone_shown(site: Path, nightmill: Nightmill) -> None:
    told = nightmill("status", "first", "--json")
    assert (told.code, told.err) == (
        0,
        "Prefect was not reached (its server is stopped): this is what the backbone knows\n",
    )
    [campaign] = told.json
    assert campaign["flow_run_state"] is None
    assert [(stage["stage"], stage["planned"]) for stage in campaign["stages"]] == [("copy", 1)]


@pytest.mark.usefixtures("silent")
def test_a_server_that_does_not_answer_is_not_waited_for(
    site: Path, nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "HURRY_SECONDS", 0.1)
    told = nightmill("status", "first")
    assert told.code == 0
    assert "Prefect was not reached (the Prefect server at http://127.0.0.1:" in told.err
    assert "timed out (POST /flow_runs/filter)): this is what the backbone knows" in told.err
    assert "copy" in told.out


class Asked:
    """A conductor that answers one after the other, the last for ever."""

    def __init__(self, *answers: Seen) -> None:
        self.answers, self.looks = list(answers), list[float]()

    def reconcile(self, *_: object) -> Seen:
        self.looks.append(time.monotonic())
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def url(self, _: str) -> str:
        return "http://ui/first"

    link = url


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give a clock that goes on by what is slept alone."""
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def conducted(monkeypatch: pytest.MonkeyPatch, asked: Asked) -> None:
    for module in (_standing, conductor):
        monkeypatch.setattr(module, "conductor_of", lambda _: asked)


@pytest.mark.usefixtures("clock")
def test_who_watches_asks_prefect_seldom_and_leaves_when_the_flow_run_has_ended(
    site: Path, nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(Seen({RUN: RunState("RUNNING", "Running")}), Seen({RUN: RunState("CANCELLED", "Cancelled")}))
    conducted(monkeypatch, asked)
    looks = counted_looks(monkeypatch)
    told = nightmill("status", "first", "--watch")
    assert told.code == 0
    assert asked.looks[1] - asked.looks[0] >= _standing.RECONCILE_SECONDS
    assert len(looks) > len(asked.looks) + 10, "looked at more often than Prefect is asked"
    assert told.out.count("first: copy: 0 of 1 done, 1 planned") == 1, "a line comes where something has changed"
    assert told.out.endswith("http://ui/first Cancelled\n")


@pytest.mark.usefixtures("site")
def test_why_a_flow_run_failed_is_told(nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch) -> None:
    conducted(monkeypatch, Asked(Seen({RUN: RunState("FAILED", "Failed", "stage 'copy' was halted: no room")})))
    assert nightmill("status", "first").out.endswith("http://ui/first Failed: stage 'copy' was halted: no room\n")


@pytest.mark.usefixtures("clock", "site")
@pytest.mark.parametrize("how", [["--watch"], ["--watch", "--json"]])
def test_who_watches_stays_while_the_next_stage_is_not_planned_yet(
    nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch, how: list[str]
) -> None:
    between = [StageProgress("copy", 0, 1, {JobState.DONE: 1}, 0, {}), StageProgress("add", 1, 0, {}, 0, {})]
    for module in (_standing, screen):
        monkeypatch.setattr(module, "progress_of", lambda _, rows: {row.id: between for row in rows})
    running, failed = Seen({RUN: RunState("RUNNING", "Running")}), Seen({RUN: RunState("FAILED", "Failed")})
    asked = Asked(running, running, failed)
    conducted(monkeypatch, asked)
    assert nightmill("status", "first", *how).code == 0
    assert len(set(asked.looks)) == 3, "nothing but the flow run tells whether there is more"
    assert max(asked.looks) - min(asked.looks) < _standing.RECONCILE_SECONDS


def counted_looks(monkeypatch: pytest.MonkeyPatch, *, away: tuple[int, ...] = ()) -> list[int]:
    """Count how often campaigns are looked at; the database is away at some of them."""
    looks: list[int] = []

    def rows_of(*given: Any) -> Any:
        looks.append(len(looks))
        if looks[-1] in away:
            raise DatabaseAway("the database was stopped")
        return _standing.rows_of(*given)

    monkeypatch.setattr(screen, "rows_of", rows_of)
    return looks


@pytest.mark.usefixtures("clock")
def test_who_watches_outlasts_an_outage_of_the_database_and_of_the_server(
    site: Path, nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Seen(away="its server is stopped")
    conducted(monkeypatch, Asked(away, away, Seen({RUN: RunState("COMPLETED", "Completed")})))
    counted_looks(monkeypatch, away=(3, 4, 5, 6, 7))
    told = nightmill("status", "first", "--watch")
    assert told.code == 0
    lines = told.err.splitlines()
    assert len(lines) == 2, "each is said once"
    assert "Prefect was not reached (its server is stopped): this is what the backbone knows" in lines[0]
    assert re.search(r"the database was stopped, since \d\d:\d\d:\d\d UTC: this is what was known at", lines[1])


def test_the_screen_shows_what_matters(site: Path) -> None:
    begin = datetime(2026, 1, 10, 23, 0, tzinfo=UTC)
    states = {JobState.DONE: 1200, JobState.ACTIVE: 8, JobState.PLANNED: 292, JobState.FAILED: 12}
    with open_site(site) as opened, opened.database.reading() as session:
        row = campaign_named(session, "first")
    sight = screen.Sight(begin, rows=[row], hosts={"node1": 5, "node7": 3}, seen=Seen({RUN: RunState("R", "Running")}))
    sight.stages = {
        row.id: [StageProgress("copy", 0, 1, states, 0, {"hold": 2}), StageProgress("add", 1, 0, {}, 0, {})]
    }
    sight.failures = {
        row.id: [Failures("copy", "cp", "step_failed", 11, "exposure=3\x1b[2J"), Failures("copy", "", "", 1, "x")]
    }
    for seconds in range(0, 3600, 5):
        sight.pace.note((row.id, "copy"), 612 + seconds // 6, float(seconds))
    sight.away, sight.away_since = "the database was stopped", begin
    console = Console(width=110, record=True, file=StringIO())
    console.print(screen.picture("site", sight))
    drawn = [" ".join(line.split()) for line in console.export_text().splitlines() if line.strip()]
    assert "(q leaves)" in drawn[0]
    assert drawn[1] == "the database was stopped, since 23:00:00 UTC: this is what was known at 23:00:00"
    assert drawn[2] == "first (copying 1.0) Running"
    assert drawn[3] == "stage jobs done active waiting failed held an hour ends about"
    assert drawn[5] == "copy 1,512 1,200 8 292 12 2 600 23:30"
    assert drawn[6] == "add not planned yet 0 0 0 0 0"
    assert drawn[7:] == [
        "11 failed in copy: cp: step_failed, such as copy/exposure=3\\x1b[2J",
        "1 failed in copy, such as copy/x",
        "jobs on hosts: node1 5, node7 3",
    ]


def test_a_rate_is_that_of_the_last_minutes_and_begins_anew_with_a_rerun() -> None:
    pace = Pace()
    for seconds in range(100_000):
        pace.note("copy", seconds // 10, float(seconds))
    assert len(pace._seen["copy"]) <= 1 + WINDOW_SECONDS / APART_SECONDS
    assert pace.per_hour("copy") == pytest.approx(360, rel=0.05)
    assert pace.ends_at("copy", 10**300, utc_now()) is None
    pace.note("copy", 5, 100_000.0)
    assert pace.per_hour("copy") is None
    pace.keep(["add"])
    assert pace.ends_at("copy", 5, utc_now()) is None


def test_what_failed_and_where_jobs_run_is_counted(each_folder: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    describe(each_folder, TYPES, PIPELINE.replace('["cp", ', '["false", '))
    take_in(nightmill, tmp_path / "night", 3)
    with open_site(each_folder) as opened:
        run_campaign(opened, each_folder / "first.yaml")
        with opened.database.reading() as session:
            number = campaign_named(session, "first").id
            [of_copy] = failures_of(session, [number])[number]
            assert hosts_of(session, [number]) == {}
        opened.database.write(lambda session: session.execute(update(JobRow).values(state="active")))
        with opened.database.reading() as session:
            assert hosts_of(session, [number]) == {host_name(): 3}
    assert of_copy == Failures("copy", "copy", "step_failed", 3, "exposure=1")


def test_a_terminal_is_left_as_it_was(site: Path) -> None:
    master, terminal = os.openpty()
    before = termios.tcgetattr(terminal)
    process = subprocess.Popen(
        [sys.executable, "-m", "nightmill", "status", "--watch"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm"},
    )
    shown = b""
    try:
        while b"q leaves" not in shown:
            shown += os.read(master, 65536)
        os.write(master, b"xQ")
        assert process.wait(30) == 0
        os.set_blocking(master, False)
        shown += os.read(master, 65536)
        assert termios.tcgetattr(terminal) == before
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(terminal)
    assert shown.count(b"\x1b[?1049h") == shown.count(b"\x1b[?1049l") == 1
    assert b"first (copying 1.0)" in shown.rpartition(b"\x1b[?1049l")[2]
