"""What is asked of the kernel about processes."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

from nightmill.execution.proc import all_processes, end_all_in, started_at

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_every_process_that_works_in_a_folder_is_ended_and_no_other(tmp_path: Path) -> None:
    inside, beside = tmp_path / "scratch" / "work", tmp_path / "scratch2"
    inside.mkdir(parents=True)
    beside.mkdir()
    doomed = [subprocess.Popen(SLEEP, cwd=inside, start_new_session=True) for _ in range(2)]
    other = subprocess.Popen(SLEEP, cwd=beside)
    try:
        inside.rename(tmp_path / "scratch" / "left")
        assert sorted(end_all_in(tmp_path / "scratch")) == sorted(process.pid for process in doomed)
        assert [process.wait(5) for process in doomed] == [-9, -9]
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_every_process_that_has_the_folder_as_its_scratch_is_ended(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "link").symlink_to("scratch")
    doomed, other = (
        subprocess.Popen(SLEEP, cwd="/", env={"NIGHTMILL_SCRATCH": str(tmp_path / name)}) for name in ("link", "link2")
    )
    try:
        assert end_all_in(tmp_path / "link") == [doomed.pid]
        assert doomed.wait(5) == -9
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_person_who_looks_into_the_folder_is_not_ended(tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execvp(SLEEP[0], SLEEP)
    try:
        while (Path(f"/proc/{pid}/cwd")).readlink() != tmp_path:
            time.sleep(0.01)
        assert end_all_in(tmp_path) == []
        assert started_at(pid) is not None
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def test_nothing_to_end_is_looked_for_once(tmp_path: Path) -> None:
    looks: list[list[int]] = []

    def among() -> list[int]:
        looks.append(list(all_processes()))
        return looks[-1]

    assert end_all_in(tmp_path, among=among) == []
    assert len(looks) == 1


def test_a_zombie_has_no_start() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    while started_at(process.pid) is not None:
        time.sleep(0.01)
    assert process.wait(5) == 0
