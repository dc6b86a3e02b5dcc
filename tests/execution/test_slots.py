"""The cores of a host, shared by threads and processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from nightmill.errors import ServiceError
from nightmill.execution.slots import Slots

HOLDER = """
import sys, time
from pathlib import Path
from nightmill.execution.slots import Slots
with Slots(Path(sys.argv[1]), int(sys.argv[2])).held(int(sys.argv[3])) as there_is:
    print(there_is, flush=True)
    time.sleep(600)
"""


@contextmanager
def other_process(slots: Slots, wanted: int) -> Iterator[subprocess.Popen[str]]:
    """Have another process hold slots."""
    argv = [sys.executable, "-c", HOLDER, str(slots.folder), str(slots.count), str(wanted)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "True\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def is_free(slots: Slots, wanted: int) -> bool:
    with slots.held(wanted, stopping=lambda: True) as there_is:
        return there_is


def test_no_more_than_all_are_held_at_a_time(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "slots", 3)
    with slots.held(2), slots.held(1):
        assert not is_free(slots, 1)
    assert is_free(slots, 3)


def test_slots_are_free_again_when_their_process_is_killed(tmp_path: Path) -> None:
    slots = Slots(tmp_path, 2)
    with other_process(slots, 2) as holder:
        assert not is_free(slots, 1)
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert is_free(slots, 2)


def test_what_is_started_meanwhile_does_not_keep_them(tmp_path: Path) -> None:
    slots = Slots(tmp_path, 1)
    with slots.held(1):
        child = subprocess.Popen(["sleep", "600"], close_fds=False)
    try:
        assert is_free(slots, 1)
    finally:
        child.kill()
        child.wait()


def test_who_waits_takes_what_is_freed(tmp_path: Path) -> None:
    slots = Slots(tmp_path, 2)
    with ThreadPoolExecutor(1) as pool, other_process(slots, 1) as holder, slots.held(1):

        def wait() -> bool:
            with slots.held(1) as there_is:
                return there_is

        waiting = pool.submit(wait)
        time.sleep(0.2)
        assert not waiting.done()
        holder.kill()
        assert waiting.result(10)


def test_many_small_ones_do_not_keep_a_big_one_waiting_for_ever(tmp_path: Path) -> None:
    slots = Slots(tmp_path, 4)
    big_is_done = threading.Event()

    def small() -> int:
        count = 0
        while not big_is_done.is_set():
            with slots.held(1):
                time.sleep(0.01)
                count += 1
        return count

    with ThreadPoolExecutor(8) as pool:
        busy = [pool.submit(small) for _ in range(8)]
        time.sleep(0.1)
        with slots.held(4):
            pass
        big_is_done.set()
        assert sum(each.result(30) for each in busy) > 0


def test_two_that_want_all_do_not_wait_for_each_other(tmp_path: Path) -> None:
    slots = Slots(tmp_path, 4)
    together = most = 0

    def all_of_them(_: int) -> None:
        nonlocal together, most
        with slots.held(4):
            together += 1
            most = max(most, together)
            time.sleep(0.005)
            together -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(all_of_them, range(20), timeout=60))
    assert most == 1


def test_who_is_told_to_end_gives_up_and_holds_nothing(tmp_path: Path) -> None:
    slots = Slots(tmp_path, 3)
    stop = threading.Event()

    def wait() -> bool:
        with slots.held(3, stopping=stop.is_set) as there_is:
            return there_is

    with other_process(slots, 1), ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(wait), pool.submit(wait)]  # one has its turn, and the other waits for that
        time.sleep(0.2)
        assert not is_free(slots, 1), "who waits for three keeps the two that are free"
        stop.set()
        assert [each.result(10) for each in waiting] == [False, False]
        assert is_free(slots, 2)


def test_nothing_stays_open(tmp_path: Path) -> None:
    slots = Slots(tmp_path, 3)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for wanted in (1, 2, 3):
        with slots.held(wanted):
            assert not is_free(slots, 4 - wanted)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(
            ServiceError, match=r"cannot be shared out: .*/file/slots: Not a directory; the spool has to be on"
        ),
        Slots(tmp_path / "file" / "slots", 1).held(1),
    ):
        pass
