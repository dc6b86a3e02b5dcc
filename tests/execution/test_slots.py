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
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from nightmill.errors import ServiceError
from nightmill.execution.slots import Slots

HOLDER = """
import sys, time
from pathlib import Path
from nightmill.execution.slots import Slots
taken = Slots(Path(sys.argv[1]), int(sys.argv[2])).take(int(sys.argv[3]))
print(taken is not None, flush=True)
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


def held(slots: Slots, wanted: int) -> ExitStack:
    taken = slots.take(wanted)
    assert taken is not None
    return taken


def is_free(slots: Slots, wanted: int) -> bool:
    taken = slots.take(wanted, stopping=lambda: True)
    if taken is not None:
        taken.close()
    return taken is not None


def test_no_more_than_all_are_held_at_a_time(tmp_path: Path) -> None:
    slots = Slots(tmp_path / "slots", 3)
    with held(slots, 2), held(slots, 1):
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
    with held(slots, 1):
        child = subprocess.Popen(["sleep", "600"], close_fds=False)
    try:
        assert is_free(slots, 1)
    finally:
        child.kill()
        child.wait()


def test_who_waits_takes_what_is_freed(tmp_path: Path) -> None:
    slots = Slots(tmp_path, 2)
    with ThreadPoolExecutor(1) as pool, other_process(slots, 1) as holder, held(slots, 1):
        waiting = pool.submit(held, slots, 1)
        time.sleep(0.2)
        assert not waiting.done()
        holder.kill()
        waiting.result(10).close()


def test_many_small_ones_do_not_keep_a_big_one_waiting_for_ever(tmp_path: Path) -> None:
    slots = Slots(tmp_path, 4)
    big_is_done = threading.Event()

    def small() -> int:
        count = 0
        while not big_is_done.is_set():
            with held(slots, 1):
                time.sleep(0.01)
                count += 1
        return count

    with ThreadPoolExecutor(8) as pool:
        busy = [pool.submit(small) for _ in range(8)]
        time.sleep(0.1)
        with held(slots, 4):
            pass
        big_is_done.set()
        assert sum(each.result(30) for each in busy) > 0


def test_two_that_want_all_do_not_wait_for_each_other(tmp_path: Path) -> None:
    slots = Slots(tmp_path, 4)
    together = most = 0

    def all_of_them(_: int) -> None:
        nonlocal together, most
        with held(slots, 4):
            together += 1
            most = max(most, together)
            time.sleep(0.005)
            together -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(all_of_them, range(20), timeout=600))
    assert most == 1


def test_who_is_told_to_end_gives_up_and_holds_nothing(tmp_path: Path) -> None:
    slots = Slots(tmp_path, 3)
    stop = threading.Event()

    with other_process(slots, 1), ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(slots.take, 3, stopping=stop.is_set) for _ in range(2)]  # the one waits for the other
        time.sleep(0.2)
        assert not is_free(slots, 1), "who waits for three keeps the two that are free"
        stop.set()
        assert [each.result(10) for each in waiting] == [None, None]
        assert is_free(slots, 2)


def test_nothing_stays_open(tmp_path: Path) -> None:
    slots = Slots(tmp_path, 3)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for wanted in (1, 2, 3):
        with held(slots, wanted):
            assert not is_free(slots, 4 - wanted)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        ServiceError, match=r"shared out: .*/file/slots: Not a directory; the spool has to be on a file"
    ):
        Slots(tmp_path / "file" / "slots", 1).take(1)


def test_where_there_are_fewer_than_before_those_that_are_held_count(tmp_path: Path) -> None:
    before, now = Slots(tmp_path, 4), Slots(tmp_path, 2, changes=True)
    with held(before, 2), held(before, 1) as third:
        last = held(before, 1)
        with last:
            third.close()
            assert not is_free(now, 1), "all that there are now"
        assert not is_free(now, 1)
    assert is_free(now, 2)
    with held(before, 2) as low, held(before, 1):
        low.close()
        assert not is_free(now, 2)
        assert is_free(now, 1)
