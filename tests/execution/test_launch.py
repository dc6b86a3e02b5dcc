"""One step's process: how it ends, what it costs, and that nothing of it stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from nightmill.execution.launch import watch as process_module
from nightmill.execution.launch.watch import Ended, run_process
from nightmill.execution.proc import started_after, started_at

MEGABYTE = 1_000_000


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Ended]:
    """Give a function that runs a command in a folder, with its output in the file ``output`` there."""

    def run_it(*argv: str, wall_seconds: float = 60.0, began: Callable[[int], None] = lambda pid: None) -> Ended:
        output = os.open(tmp_path / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            return run_process(
                argv,
                directory=tmp_path,
                scratch=tmp_path,
                environment={"PATH": os.environ["PATH"], "WORD": "hello"},
                output=output,
                wall_seconds=wall_seconds,
                began=began,
            )
        finally:
            os.close(output)

    return run_it


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-S", "-c", code)


def output_of(folder: Path) -> str:
    return (folder / "output").read_text()


def pids_written(folder: Path) -> list[int]:
    return [int(word) for word in output_of(folder).split()]


def await_death(pids: list[int]) -> None:
    """Wait until processes are gone: a SIGKILL that was sent takes effect a moment later."""
    deadline = time.monotonic() + 50
    while alive := [pid for pid in pids if started_at(pid) is not None]:
        assert time.monotonic() < deadline, f"still alive: {alive}"
        time.sleep(0.01)


@pytest.mark.parametrize("code", [0, 1, 3, 255])
def test_exit_code(run: Callable[..., Ended], code: int) -> None:
    ended = run("sh", "-c", f"exit {code}")
    assert (ended.exit_code, ended.signal, ended.timed_out) == (code, None, False)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGRTMIN + 3])
def test_signal(run: Callable[..., Ended], number: int) -> None:
    ended = run("sh", "-c", f"kill -{int(number)} $$")
    assert (ended.exit_code, ended.signal, ended.timed_out) == (None, number, False)


def test_no_shell_environment_or_stdin_but_its_own(run: Callable[..., Ended], tmp_path: Path) -> None:
    run("sh", "-c", 'echo "$1|$WORD|$HOME|$(pwd)|$(cat | wc -c)"', "sh", "$(id); *")
    assert output_of(tmp_path) == f"$(id); *|hello||{tmp_path}|0\n"


def test_stdout_and_stderr_are_kept_in_their_order(run: Callable[..., Ended], tmp_path: Path) -> None:
    run("sh", "-c", "echo one; echo two >&2; echo three")
    assert output_of(tmp_path) == "one\ntwo\nthree\n"


def test_huge_output_does_not_block(run: Callable[..., Ended], tmp_path: Path) -> None:
    ended = run("sh", "-c", f"head -c {100 * MEGABYTE} /dev/zero")
    assert ended.exit_code == 0
    assert (tmp_path / "output").stat().st_size == 100 * MEGABYTE


@pytest.mark.parametrize("argv", [("no-such-program",), ("./not-executable",), ("./no-interpreter",), ("echo", "a\0b")])
def test_what_cannot_be_executed_is_an_error(run: Callable[..., Ended], tmp_path: Path, argv: tuple[str, ...]) -> None:
    (tmp_path / "not-executable").write_text("#!/bin/sh\n")
    (tmp_path / "no-interpreter").write_text("#!/no/such/interpreter\n")
    (tmp_path / "no-interpreter").chmod(0o755)
    began: list[int] = []
    with pytest.raises((OSError, ValueError), match=r"No such file|Permission denied|embedded null byte"):
        run(*argv, began=began.append)
    assert began == []


# --------------------------------------------------------------------------------------------- the wall limit


def test_the_wall_limit_ends_a_step_by_sigterm_first(run: Callable[..., Ended], tmp_path: Path) -> None:
    ended = run("sh", "-c", "trap 'echo tidied; exit 7' TERM; while :; do :; done", wall_seconds=0.3)
    assert ended.timed_out
    assert ended.exit_code == 7
    assert output_of(tmp_path) == "tidied\n"
    assert ended.cost.wall_seconds >= 0.3


def test_a_step_that_ignores_sigterm_is_killed(run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "GRACE_SECONDS", 0.3)
    ended = run("sh", "-c", "trap '' TERM; while :; do sleep 0.05; done", wall_seconds=0.3)
    assert ended.timed_out
    assert ended.signal == signal.SIGKILL
    assert ended.cost.wall_seconds >= 0.6


def test_a_stopped_step_is_killed_too(run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "GRACE_SECONDS", 0.3)
    ended = run("sh", "-c", "kill -STOP $$", wall_seconds=0.3)
    assert ended.timed_out
    assert ended.signal in (signal.SIGKILL, signal.SIGTERM)


GRANDCHILDREN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
same_group = subprocess.Popen(["sleep", "1000"])
own_session = subprocess.Popen(["sleep", "1000"], start_new_session=True)
nested = subprocess.Popen([sys.executable, "-S", "-c", '''
import os, subprocess
child = subprocess.Popen(["sleep", "1000"])
print(os.getpid(), child.pid, flush=True)
child.wait()
'''], start_new_session=True)
print(os.getpid(), same_group.pid, own_session.pid, flush=True)
time.sleep(LIVES)
"""


def test_the_wall_limit_ends_grandchildren(
    run: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module, "GRACE_SECONDS", 0.3)
    ended = run(*python(GRANDCHILDREN.replace("LIVES", "1000")), wall_seconds=2.0)
    assert ended.timed_out
    pids = pids_written(tmp_path)
    assert len(pids) == 5
    await_death(pids)


def test_what_a_step_leaves_running_is_ended(run: Callable[..., Ended], tmp_path: Path) -> None:
    ended = run(*python(GRANDCHILDREN.replace("LIVES", "1.5")))
    assert ended.exit_code == 0
    pids = pids_written(tmp_path)
    assert len(pids) == 5
    await_death(pids)


def test_what_a_quick_step_leaves_in_its_group_is_ended(run: Callable[..., Ended], tmp_path: Path) -> None:
    run("sh", "-c", "sleep 1000 & echo $!")
    await_death(pids_written(tmp_path))


DAEMON = """
import os, sys
reading, writing = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        if MARKED:
            os.chdir("/")
        os.execve("/bin/sleep", ["sleep", "1000"], os.environ if MARKED else {})
    os._exit(0)
os.close(writing)
os.read(reading, 1)  # until the daemon is a program of its own
"""


@pytest.mark.parametrize("is_recent", [True, False])
@pytest.mark.parametrize("is_marked", [True, False], ids=["in another folder", "with another environment"])
def test_a_daemon_that_left_the_group_unseen_is_ended(
    run: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_recent: bool, is_marked: bool
) -> None:
    monkeypatch.setattr(process_module, "RECENT_SECONDS", 60.0 if is_recent else 0.0)
    monkeypatch.setattr(process_module._Tree, "sample", lambda self: None)
    assert run(*python(DAEMON.replace("MARKED", str(is_marked)))).exit_code == 0
    pids = pids_written(tmp_path)
    assert len(pids) == 1
    await_death(pids)


HIDDEN = """
import os, time
child = os.fork()
if child == 0:
    os.setsid()
    os.chdir("/")
    os.execve("/bin/sleep", ["sleep", "1000"], {})
print(child, flush=True)
time.sleep(1.5)
"""


def test_what_was_seen_of_a_step_is_ended_though_nothing_marks_it(run: Callable[..., Ended], tmp_path: Path) -> None:
    assert run(*python(HIDDEN)).exit_code == 0
    await_death(pids_written(tmp_path))


def test_processes_that_have_ended_are_forgotten_and_their_numbers_are_anybodys() -> None:
    leader, child = (subprocess.Popen(["sleep", "1000"], start_new_session=True) for _ in range(2))
    try:
        tree = process_module._Tree(leader.pid)
        started = started_at(child.pid)
        assert started is not None
        tree.seen = {child.pid: started - 1.0, 4_194_305: 1.0}
        tree.sample()
        assert list(tree.seen) == [leader.pid]
        tree.seen[child.pid] = started - 1.0
        tree.kill()
        assert leader.wait(5) == -signal.SIGKILL
        assert child.poll() is None
        tree.seen = {child.pid: started}
        tree.kill()
        assert child.wait(5) == -signal.SIGKILL
        tree.sample()
        assert tree.seen == {}
    finally:
        for process in (leader, child):
            process.kill()
            process.wait()


def test_the_numbers_of_processes_may_begin_anew(run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    newest = int(Path("/proc/loadavg").read_text().split()[-1])
    assert os.getpid() in started_after(newest + 1_000_000)


def test_nothing_runs_on_when_the_start_cannot_be_told(run: Callable[..., Ended]) -> None:
    pids: list[int] = []

    def broken(pid: int) -> None:
        pids.append(pid)
        raise RuntimeError("the journal is broken")

    with pytest.raises(RuntimeError, match="the journal is broken"):
        run("sleep", "1000", began=broken)
    await_death(pids)


# ----------------------------------------------------------------------------------------------------- cost


def test_cpu_and_wall_time(run: Callable[..., Ended]) -> None:
    busy = "import time, os\nwhile time.process_time() < 0.4: os.getppid()\ntime.sleep(0.3)"
    start = time.monotonic()
    cost = run(*python(busy)).cost
    assert 0.35 < cost.user_seconds + cost.system_seconds < cost.wall_seconds
    assert cost.user_seconds > 0
    assert 0.65 < cost.wall_seconds < time.monotonic() - start


def test_memory_of_a_grandchild_is_counted_with_its_parents(run: Callable[..., Ended]) -> None:
    holds = "import time; x = bytearray(100_000_000); time.sleep(1.2)"
    code = (
        f"import subprocess, sys; x = bytearray(100_000_000); subprocess.run([sys.executable, '-S', '-c', {holds!r}])"
    )
    cost = run(*python(code)).cost
    assert 200 * MEGABYTE < cost.max_rss_bytes < 280 * MEGABYTE


def test_a_short_peak_of_one_process_is_told_by_the_kernel(run: Callable[..., Ended]) -> None:
    Path("/proc/self/clear_refs").write_text("5")  # a worker never was as large as a process of tests
    cost = run(*python("x = b'x' * 1_200_000_000")).cost
    assert 1_200 * MEGABYTE < cost.max_rss_bytes < 1_300 * MEGABYTE


def test_nightmills_own_memory_is_not_taken_for_a_steps(run: Callable[..., Ended]) -> None:
    ours = b"x" * 300_000_000
    assert 0 < run("sleep", "0.1").cost.max_rss_bytes < len(ours) / 20


def test_bytes_read_and_written_by_the_step_and_its_children(run: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(bytes(3 * MEGABYTE))
    cost = run("sh", "-c", "cat in > one; cat one in > two").cost
    assert 9 * MEGABYTE <= cost.read_bytes < 9.2 * MEGABYTE
    assert 9 * MEGABYTE <= cost.written_bytes < 9.2 * MEGABYTE


# ---------------------------------------------------------------------------------------------------- leaks


def _zombies() -> set[psutil.Process]:
    return {child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE}


def test_neither_zombies_nor_descriptors_pile_up(run: Callable[..., Ended]) -> None:
    run("true")
    zombies = _zombies()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(200):
        assert run("true" if number % 2 else "false").cost.wall_seconds > 0
    for _ in range(10):
        with pytest.raises(FileNotFoundError):
            run("no-such-program")
    assert len(list(Path("/proc/self/fd").iterdir())) < before + 20, "what tests before this one left may come and go"
    assert _zombies() <= zombies
