"""``nightmill logs``: what the steps of a job say, wherever they run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Update, update

from nightmill.backbone.schema import AttemptRow, FileRow
from nightmill.cli.render import logs as rendered
from nightmill.errors import DatabaseAway
from nightmill.execution.scratch import token
from nightmill.model.order import AttemptKey
from nightmill.operations.logs import Tried, attempt_of
from nightmill.operations.lost_hosts import declare_lost
from nightmill.operations.site import Site, open_site
from tests.cli.conftest import Nightmill, describe, take_in
from tests.examples.campaigns import run_campaign

TYPES = '  copy: {template: "cam_{exposure:04d}_copy_c{campaign:04d}a{attempt:02d}.fits"}\n'
PIPELINE = """\
pipeline: telling
version: "1.0"
stages:
  tell:
    per: [exposure]
    retries: RETRIES
    inputs:
      frame: {type: raw_science}
    steps:
      - name: look
        argv: [sh, -c, "printf 'a\\\\nb\\\\033[2J\\\\n== other: c'; SCRIPT"]
        inputs: [frame]
      - name: other
        argv: [sh, -c, "echo copying; cp $1 $2; test {unit.exposure} = 1", sh, "{inputs.frame}", "{outputs.copy}"]
        inputs: [frame]
        outputs:
          copy: {type: copy}
"""
JOB = "first/tell/exposure=1"
SAID = "a\nb\x1b[2J\n== other: c\n"


@pytest.fixture
def telling(tmp_path: Path, nightmill: Nightmill) -> Callable[..., None]:
    """Give what writes a campaign of jobs whose first step carries out a script."""

    def write(site: Path, script: str = ":", *, frames: int = 1, retries: int = 0) -> None:
        describe(site, TYPES, PIPELINE.replace("SCRIPT", script).replace("RETRIES", str(retries)))
        take_in(nightmill, tmp_path / "night", frames)

    return write


@contextmanager
def running(site: Path) -> Iterator[None]:
    """Carry out the campaign in another thread."""

    def run() -> None:
        with open_site(site) as opened:
            run_campaign(opened, site / "first.yaml")

    thread = threading.Thread(target=run)
    thread.start()
    try:
        while not list((site / "scratch").glob("*/log")):
            assert thread.is_alive()
            time.sleep(0.05)
        yield
    finally:
        thread.join()


@pytest.mark.req("X21")
def test_the_log_of_an_attempt_that_ended_comes_from_its_store(
    each_folder: Path, nightmill: Nightmill, telling: Callable[..., None]
) -> None:
    telling(each_folder, frames=2)
    with open_site(each_folder) as site:
        run_campaign(site, each_folder / "first.yaml")
    done = nightmill("logs", JOB)
    assert done.code == 0
    first, second = done.out.split("== other: sh -c 'echo")
    assert first.startswith("== look: sh -c 'printf")
    assert first.endswith(SAID)
    assert second.endswith("\ncopying\n")
    assert done.err.startswith(f"{JOB}/a01 (published): log in store ")

    failed = nightmill("logs", "first/tell/exposure=2", "--step", "other")
    assert (failed.code, failed.out.splitlines()[-1]) == (0, "copying")
    assert "== look" not in failed.out
    assert nightmill("logs", JOB, "--tail", "1").out == "copying\n"
    assert nightmill("logs", f"{JOB}/a01", "--step", "look", "--tail", "1").out.endswith("\x1b[2J\n")
    assert [nightmill("logs", job, "-f").code for job in (JOB, "first/tell/exposure=2")] == [0, 1]
    assert "step_failed" in nightmill("logs", "first/tell/exposure=2", "-f").err
    told = nightmill("logs", JOB, "--json").json
    assert (told["attempt"], told["state"], told["unseen"]) == (f"{JOB}/a01", "published", None)
    assert told["place"].endswith(".log") or "log" in told["place"]
    for line, why in {
        ("first/tell",): "'first/tell' is not a job",
        (JOB, "--step", "othr"): "no step of stage 'tell' named 'othr' (did you mean 'other'?)",
        (JOB, "--attempt", "2"): "no attempt of first/tell/exposure=1 named 'a02'",
        (f"{JOB}/a01", "--attempt", "2"): "is not attempt 2",
        ("first/tell/exposure=7",): "no job of campaign 'first' named 'tell/exposure=7'",
        (JOB, "-f", "--json"): "--json tells where the log is, once",
    }.items():
        called = nightmill("logs", *line)
        assert (called.code, called.out, why in called.err) == (2, "", True), called.err


@pytest.mark.req("X21")
def test_a_running_job_is_followed_from_one_attempt_to_the_next(
    folder: Path, tmp_path: Path, nightmill: Nightmill, telling: Callable[..., None]
) -> None:
    go, again = tmp_path / "go", tmp_path / "again"
    telling(
        folder,
        f"while ! test -e {go}; do sleep 0.05; done; echo; echo late;"
        f" test -e {again} || {{ touch {again}; kill -9 $$; }}",
        retries=1,
    )
    with running(folder):
        now = nightmill("logs", JOB)
        assert (now.code, now.out.endswith(SAID.rstrip())) == (0, True)
        assert f"): log at {folder}/scratch/" in now.err
        assert nightmill("logs", JOB, "--json").json["place"].startswith(f"{folder}/scratch/")
        threading.Timer(0.3, go.touch).start()
        followed = nightmill("logs", JOB, "-f")
    assert followed.code == 0, followed.err
    assert followed.out.count("late\n") == 2
    assert followed.out.endswith("copying\n")
    assert "a01 failed: step_killed" in followed.err
    assert "attempt a02 goes on" in followed.err
    assert followed.err.splitlines()[-1] == f"{JOB}/a02 published"


ELSEWHERE = """
import socket
from pathlib import Path
socket.gethostname = lambda: "node7"
from nightmill.operations.site import open_site
from tests.examples.campaigns import run_campaign
with open_site(Path.cwd()) as site:
    run_campaign(site, Path.cwd() / "first.yaml")
"""


@contextmanager
def running_elsewhere(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """Carry out the campaign in another process, which takes itself for another host and has a scratch of its own.

    Its steps may wait for the file ``go``.
    """
    config = (site / "nightmill.yaml").read_text()
    (site / "nightmill.yaml").write_text(config.replace("scratch: scratch", "scratch: ${SCRATCH}"))
    monkeypatch.setenv("SCRATCH", str(tmp_path / "here"))
    environment = os.environ | {"SCRATCH": str(tmp_path / "node7"), "PYTHONPATH": str(Path(__file__).parents[2])}
    worker = subprocess.Popen([sys.executable, "-c", ELSEWHERE], cwd=site, env=environment)
    try:
        while not list((tmp_path / "node7").glob("*/log")):
            assert worker.poll() is None
            time.sleep(0.05)
        yield worker
    finally:
        worker.kill()
        worker.wait()
        (tmp_path / "go").touch()  # or a step that outlives it waits for ever


def live_files(site: Path) -> list[str]:
    return [path.suffix for path in (site / "spool" / "live").iterdir()]


@pytest.mark.req("X21")
def test_a_job_on_another_host_is_followed_through_the_spool(
    folder: Path, tmp_path: Path, nightmill: Nightmill, telling: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    telling(folder, f"while ! test -e {go}; do sleep 0.05; done; echo; echo late")
    with running_elsewhere(folder, tmp_path, monkeypatch) as worker:
        now = nightmill("logs", JOB)
        assert (now.code, now.out.endswith(SAID.rstrip())) == (0, True)
        assert f"shows its log in {folder}/spool" in now.err
        assert ".log" not in nightmill("logs", JOB, "--json").json["unseen"]
        assert nightmill("logs", JOB, "--step", "look", "--tail", "1").out == "b\x1b[2J\n"
        with (tmp_path / "followed").open("wb") as file:
            follower = subprocess.Popen(
                [sys.executable, "-m", "nightmill", "logs", JOB, "-f"], cwd=folder, stdout=file, stderr=subprocess.PIPE
            )
            while not (tmp_path / "followed").read_text().endswith(SAID.rstrip()):
                assert follower.poll() is None
                time.sleep(0.05)
        follower.send_signal(signal.SIGINT)
        follower.communicate()
        assert live_files(folder) == [".log"], "no request stays"
        threading.Timer(1, go.touch).start()
        followed = nightmill("logs", JOB, "-f")
        assert (worker.wait(), followed.code) == (0, 0), followed.err
    assert followed.out == nightmill("logs", JOB).out
    assert followed.out.endswith("copying\n")
    assert live_files(folder) == []


def test_a_worker_that_dies_elsewhere_is_told_of_and_leaves_nothing(
    folder: Path, tmp_path: Path, nightmill: Nightmill, telling: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    telling(folder, f"while ! test -e {go}; do sleep 0.05; done")
    with running_elsewhere(folder, tmp_path, monkeypatch) as worker:
        assert nightmill("logs", JOB).out.endswith(SAID.rstrip())
        worker.kill()
        worker.wait()
        go.touch()
        assert nightmill("record").code == 0
        monkeypatch.setattr(rendered, "ANSWER_SECONDS", 1.5)
        dead = nightmill("logs", JOB)
        assert dead.out.endswith(SAID.rstrip()), "what it showed last"
        assert f"{JOB}/a01 runs in step 'look' on host 'node7', whose {tmp_path}/here/" in dead.err
        assert "which answers while a step runs, does not answer, and its journal is silent since 20" in dead.err
    assert live_files(folder) == [".log"]

    def give_up() -> None:
        with open_site(folder) as site:
            declare_lost(site, "node7", why="it burnt")

    monkeypatch.setattr(rendered, "DRAIN_SECONDS", 0.5)
    threading.Timer(1, give_up).start()
    followed = nightmill("logs", JOB, "-f")
    assert (followed.code, followed.out) == (1, dead.out)
    assert f"the log of {JOB}/a01 is lost with its scratch (lost: its process on node7 was lost" in followed.err
    assert live_files(folder) == []


def change(site: Site, rows: Update) -> None:
    site.database.write(lambda session: session.execute(rows))


def test_what_cannot_be_seen_is_told(folder: Path, nightmill: Nightmill, telling: Callable[..., None]) -> None:
    telling(folder)
    with open_site(folder) as site:
        run_campaign(site, folder / "first.yaml")
        change(site, update(FileRow).where(FileRow.type == "log").values(type="other"))
        change(site, update(AttemptRow).values(host="node7", state="running", result=False))
        told = nightmill("logs", JOB)
        assert (told.code, told.out) == (1, "")
        assert f"{JOB}/a01 runs on host 'node7', whose {folder}/scratch/" in told.err
        assert "its log comes to the store when it ends" in told.err
        assert nightmill("logs", JOB, "--json").json["unseen"] in told.err
        ended = {"state": "lost", "fate": "lost", "evidence": "its process died"}
        for values, why in (
            (ended, f"the log of {JOB}/a01 is lost with its scratch (lost: its process died)"),
            (
                ended | {"state": "failed"},
                f"{JOB}/a01 has no log: no step of it began (lost: its process died)",
            ),
            ({"state": "issued", "host": None, "fate": None}, f"{JOB}/a01 was issued, and has not begun"),
        ):
            change(site, update(AttemptRow).values(**values))
            assert why in nightmill("logs", JOB).err

        scratch = folder / "scratch" / token(AttemptKey(campaign="first", stage="tell", unit="exposure=1", number=1))
        scratch.mkdir()
        (scratch / "log").symlink_to("/etc/passwd")
        hostile = nightmill("logs", JOB)
        assert (hostile.code != 0, hostile.out, "log is a symbolic link" in hostile.err) == (True, "", True)


def test_a_terminal_obeys_nothing_of_a_log(
    folder: Path, nightmill: Nightmill, telling: Callable[..., None], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    telling(folder)
    with open_site(folder) as site:
        run_campaign(site, folder / "first.yaml")
        tried = attempt_of(site, "first", "tell", "exposure=1")
    assert tried is not None
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    capsys.readouterr()
    printer = rendered.Printer(tried, step="", tail=None)
    for block in (b"10 %\r20 %\r\n\xe2", b"\x82\xac \x1b]0;x\x07 \xff\n"):
        printer.add(block)
    assert capsys.readouterr().out == "10 %\n20 %\n€ \\x1b]0;x\\x07 \ufffd\n"


def test_a_follower_outlives_its_database(
    folder: Path, telling: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    telling(folder)
    with open_site(folder) as site:
        run_campaign(site, folder / "first.yaml")
        asked = []

        def look(number: int | None) -> Tried | None:
            asked.append(number)
            if len(asked) in (1, 2, 4):
                raise DatabaseAway("the database was stopped")
            return attempt_of(site, "first", "tell", "exposure=1", number=number) if len(asked) > 4 else None

        monkeypatch.setattr(rendered, "FOLLOW_SECONDS", 0.01)
        capsys.readouterr()
        assert rendered.follow_log(site, look, number=None, step="other", tail=1)
    out, err = capsys.readouterr()
    assert out == "copying\n"
    assert err.count("how the attempt is cannot be asked (the database was stopped); its log goes on") == 2
