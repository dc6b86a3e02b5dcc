"""Background processes that outlive the command that started them."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from flows.hosting import daemon as daemon_module
from flows.hosting.daemon import Daemon, DaemonRecord, DaemonState, clean_environment, keep
from nightmill.errors import RequestRefused
from nightmill.execution.owner import this_process
from nightmill.model.journal import Owner

SLEEP = [sys.executable, "-c", "print('awake', flush=True); import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('awake', flush=True); time.sleep(600)",
]


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    return Daemon(tmp_path / "folder", "sleeper")


def _spawn(daemon: Daemon, argv: list[str]) -> Owner:
    owner = daemon.spawn(argv, dict(os.environ), {"colour": "blue"})
    while "awake" not in daemon.log.read_text():
        pass
    return owner


def test_is_known_from_start_to_stop(daemon: Daemon) -> None:
    assert daemon.state() is DaemonState.STOPPED
    owner = _spawn(daemon, SLEEP)
    assert daemon.state() is DaemonState.RUNNING
    record = daemon.record()
    assert record is not None
    assert (record.owner, record.details) == (owner, {"colour": "blue"})
    assert daemon.stop(grace_seconds=5)
    assert daemon.state() is DaemonState.STOPPED
    assert not psutil.pid_exists(owner.pid)
    assert not daemon.stop(grace_seconds=5), "there was nothing left to stop"


def test_one_that_ignores_sigterm_is_killed(daemon: Daemon) -> None:
    owner = _spawn(daemon, STUBBORN)
    assert daemon.stop(grace_seconds=0.2)
    assert not psutil.pid_exists(owner.pid)


def test_one_that_died_is_told_from_one_that_was_stopped(daemon: Daemon) -> None:
    owner = _spawn(daemon, SLEEP)
    os.kill(owner.pid, signal.SIGKILL)
    psutil.Process(owner.pid).wait(5)
    assert daemon.state() is DaemonState.DEAD
    assert not daemon.stop(grace_seconds=1)
    assert daemon.state() is DaemonState.STOPPED


def test_another_process_with_its_pid_is_not_taken_for_it_nor_stopped(daemon: Daemon) -> None:
    _spawn(daemon, SLEEP)
    record = daemon.record()
    assert record is not None
    daemon.stop(grace_seconds=5)
    me = record.owner.model_copy(update={"pid": os.getpid()})
    file = daemon.folder / "sleeper.json"
    file.write_text(record.model_copy(update={"owner": me}).model_dump_json())
    assert daemon.state() is DaemonState.DEAD
    assert not daemon.stop(grace_seconds=1), "or this test would have ended itself"


def test_one_of_another_host_is_neither_stopped_nor_taken_for_stopped(daemon: Daemon) -> None:
    daemon.folder.mkdir()
    elsewhere = this_process().model_copy(update={"host": "elsewhere"})
    file = daemon.folder / "sleeper.json"
    keep(file, DaemonRecord(owner=elsewhere, details={}))
    with pytest.raises(RequestRefused, match=f"started on host 'elsewhere', .*lost for good, remove {file}$"):
        daemon.stop(grace_seconds=1)
    assert daemon.state() is DaemonState.RUNNING


def test_its_record_is_for_its_owner_alone(daemon: Daemon) -> None:
    _spawn(daemon, SLEEP)
    daemon.stop(grace_seconds=5)
    assert (daemon.folder / "sleeper.json").stat().st_mode & 0o077 == 0


def test_signals_are_default_though_the_parent_ignores_them(daemon: Daemon) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        owner = _spawn(daemon, SLEEP)
    finally:
        signal.signal(signal.SIGINT, before)
    os.kill(owner.pid, signal.SIGINT)
    psutil.Process(owner.pid).wait(5)
    assert "KeyboardInterrupt" in daemon.log_tail()


def test_the_users_own_prefect_settings_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    monkeypatch.setenv("HOME", "/home/astronomer")
    environment = clean_environment({"PREFECT_HOME": "here"})
    assert environment["PREFECT_HOME"] == "here"
    assert environment["HOME"] == "/home/astronomer"
    assert "PREFECT_API_URL" not in environment


def test_a_log_that_has_grown_large_is_set_aside_for_the_next_process(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert daemon.new_log() == 0
    owner = _spawn(daemon, SLEEP)
    assert daemon.stop(grace_seconds=5)
    assert daemon.new_log() == daemon.log.stat().st_size == len("awake\n")
    monkeypatch.setattr(daemon_module, "LOG_BYTES", 5)
    assert daemon.new_log() == 0
    assert not daemon.log.exists()
    assert (daemon.folder / "sleeper.log.1").read_text() == "awake\n"
    assert _spawn(daemon, SLEEP) != owner
    assert daemon.stop(grace_seconds=5)
