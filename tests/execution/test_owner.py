"""Whether the process that wrote a journal still lives."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from nightmill.execution.owner import is_alive, lives, owner_of, this_process

BEGAN = datetime(2026, 1, 10, tzinfo=UTC)


def test_this_process_lives() -> None:
    assert is_alive(this_process()) is True
    assert this_process().pid == os.getpid()


def test_a_process_is_dead_when_it_has_ended_reaped_or_not() -> None:
    process = subprocess.Popen(["sleep", "100"])
    owner = owner_of(process.pid)
    assert is_alive(owner) is True
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_alive(owner) is False, "a zombie does nothing more"
    process.wait()
    assert is_alive(owner) is False


def test_a_later_process_with_the_same_number_is_another() -> None:
    owner = this_process()
    assert is_alive(owner.model_copy(update={"started_at": owner.started_at - 0.01})) is False


def test_a_process_of_another_boot_is_dead() -> None:
    assert is_alive(this_process().model_copy(update={"boot_id": "an earlier boot"})) is False


def test_of_another_container_of_the_same_name_nothing_can_be_said() -> None:
    here = this_process()
    boot, _, namespace = here.boot_id.partition("/")
    assert namespace.isdigit()
    assert is_alive(here.model_copy(update={"boot_id": f"{boot}/{int(namespace) + 1}"})) is None
    assert is_alive(here.model_copy(update={"boot_id": f"an earlier boot/{namespace}"})) is False
    assert is_alive(here.model_copy(update={"boot_id": boot})) is True, "of a journal from before"


def test_of_another_host_nothing_can_be_said() -> None:
    assert is_alive(this_process().model_copy(update={"host": "elsewhere"})) is None


@pytest.mark.parametrize(
    ("host", "lost", "answer"),
    [
        ("elsewhere", {}, None),
        ("elsewhere", {"elsewhere": BEGAN + timedelta(seconds=1)}, False),
        ("elsewhere", {"elsewhere": BEGAN}, None),
        ("elsewhere", {"another": BEGAN + timedelta(seconds=1)}, None),
        ("", {"": BEGAN + timedelta(seconds=1)}, True),
    ],
    ids=["not lost", "lost since", "lost before", "another lost", "seen to live"],
)
def test_a_process_of_a_host_that_was_declared_lost_after_it_began_is_dead(
    host: str, lost: dict[str, datetime], answer: bool | None
) -> None:
    here = this_process()
    owner = here.model_copy(update={"host": host or here.host})
    assert lives(owner, BEGAN, {name or here.host: when for name, when in lost.items()}) is answer


def test_the_start_is_counted_from_the_boot() -> None:
    started = time.clock_gettime(time.CLOCK_BOOTTIME) - (time.time() - psutil.Process().create_time())
    assert this_process().started_at == pytest.approx(started, abs=2.0)


def test_a_forked_process_is_not_its_parent() -> None:
    code = (
        "import os; from nightmill.execution.owner import this_process; parent = this_process();"
        "pid = os.fork(); same = this_process() == parent;"
        "os._exit(same) if pid == 0 else exit(os.waitpid(pid, 0)[1] or not same)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
