"""Nothing of a step outlives it, reaches another process, or takes the host with it."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from nightmill.execution.confine.places import software
from nightmill.execution.confine.rules import Rules
from nightmill.execution.confine.spawner import Spawner
from nightmill.execution.launch.plain import Launch
from nightmill.execution.worker import Worker
from nightmill.model.confinement import NodeConfinement
from nightmill.model.fate import Fate
from nightmill.model.node import NodeProfile
from tests.execution.test_launch import await_death
from tests.support.confined import attempt
from tests.support.orders import Bench, python, shell
from tests.support.users import SPAWNER, ordinary_user

DAEMON = (
    "import time\n"
    "def daemon():\n"
    "    if os.fork():\n"
    "        os._exit(0)\n"
    "    os.setsid()\n"
    "    if os.fork():\n"
    "        os._exit(0)\n"
    "    os.chdir('/')\n"
    "    print(os.getpid(), flush=True)\n"
    "    os.execve('/bin/sleep', ['sleep', '1000'], {})\n"
)


def spawners() -> list[psutil.Process]:
    own = ("spawner_process.py", "warm_server.py")
    found = []
    for each in psutil.Process().children():
        with suppress(psutil.Error):  # what other tests left, and has ended
            if any(name in " ".join(each.cmdline()) for name in own):
                found.append(each)
    return found


@pytest.mark.req("B41")
@pytest.mark.parametrize("warm", [(), ("json",)], ids=["cold", "warm"])
def test_a_daemon_ends_with_its_step(bench: Bench, warm: tuple[str, ...]) -> None:
    code = DAEMON + "for _ in range(3):\n    if not os.fork():\n        daemon()\ntime.sleep(0.5)"
    tried = attempt(bench, code, warm=warm)
    assert tried.report.fate is Fate.PUBLISHED
    assert len(tried.said) == 3
    await_death([int(line) for line in tried.said])
    assert spawners() == []


def test_somebody_may_wait_for_the_end_of_what_is_nobodys(bench: Bench) -> None:
    code = (
        "import time\nreading, writing = os.pipe()\nif not (pid := os.fork()):\n    if other := os.fork():\n"
        "        os.write(writing, str(other).encode())\n        os._exit(0)\n    time.sleep(0.2)\n    os._exit(0)\n"
        "os.waitpid(pid, 0)\nother = os.read(reading, 20).decode()\n"
        "while os.path.exists(f'/proc/{other}'):\n    time.sleep(0.05)\n"
    )
    assert attempt(bench, code, wall_seconds=60).report.fate is Fate.PUBLISHED


def test_a_fork_bomb_goes_no_further_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = (
        "import os, time\nfor _ in range(1000):\n    try:\n        os.fork()\n    except OSError:\n"
        "        print('enough', flush=True); time.sleep(1000)\n"
    )
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")  # which any user may run
    with ordinary_user(reads=SPAWNER, uid=60_000 + os.getpid() % 5000) as folder:
        own = Bench(folder)
        own.confinement = NodeConfinement(processes=100)
        report = own.run_one(own.order(python("bomb", bomb, wall_seconds=2)))
        log = (folder / "stores/backbone/logs" / report.order.log_name).read_text()
    assert report.fate is Fate.WALL_LIMIT
    assert report.steps[0].observed is not None
    if "mounts" in report.steps[0].observed.confined.by:  # else those of the user count, wherever they are
        assert 1 <= log.splitlines().count("enough") <= 100
    assert spawners() == []


@pytest.mark.parametrize(
    "act",
    [
        "os.kill(WORKER, 0)",
        "os.kill(os.getppid(), 9)",
        "import signal; signal.pidfd_send_signal(os.pidfd_open(WORKER), 0)",
        "ctypes_call(16, WORKER)",
    ],
    ids=["the worker", "who started it", "by a descriptor", "ptrace"],
)
def test_other_processes_are_out_of_reach(bench: Bench, act: str) -> None:
    code = (
        f"import ctypes\nWORKER = {os.getpid()}\n"
        "def ctypes_call(request, pid):\n"
        "    c = ctypes.CDLL(None, use_errno=True)\n"
        "    if c.ptrace(request, pid, 0, 0) < 0:\n"
        "        raise OSError(ctypes.get_errno(), '')\n"
        f"def act():\n    {act}\ntried(act)\n"
    )
    assert attempt(bench, code).said == ["denied"]


@pytest.mark.parametrize("warm", [(), ("json",)], ids=["cold", "warm"])
def test_it_has_no_privilege_and_gets_none(bench: Bench, warm: tuple[str, ...]) -> None:
    code = (
        "facts = dict(line.split(':\\t') for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)\n"
        "print(facts['CapEff'], facts['CapPrm'], facts['NoNewPrivs'], facts['Seccomp'])\n"
        "print(sorted(os.listdir('/proc/self/fd'))[:-1], os.getsid(0) == os.getpid())\n"
    )
    none = "0" * 16
    assert attempt(bench, code, warm=warm).said == [f"{none} {none} 1 2", "['0', '1', '2'] True"]


def test_who_starts_steps_knows_no_secret_and_has_nothing_open(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTMILL_SECRET", "1")
    with Worker(NodeProfile(scratch=bench.scratch, spool=bench.spool), bench.stagers) as worker:
        list(worker.run([bench.order(shell("one", ":"))]))
        [spawner] = spawners()
        assert spawner.environ().keys() <= {"LC_CTYPE"}
        has = [str(link.readlink()) for link in Path(f"/proc/{spawner.pid}/fd").iterdir()]
        assert {each.partition(":")[0] for each in has if each[0] != "/"} <= {"socket", "anon_inode"}
        assert not any(each.startswith(str(bench.root)) for each in has)
        list(worker.run([bench.order(shell("one", ":"), number=2)]))
        assert spawners() == [spawner]
    assert spawners() == []


def test_a_step_ends_with_who_started_it_and_the_next_has_another(bench: Bench) -> None:
    with Worker(NodeProfile(scratch=bench.scratch, spool=bench.spool), bench.stagers) as worker:
        orders = [
            bench.order(shell("one", "kill -9 $PPID; echo no; sleep 0.1")),
            bench.order(shell("two", "sleep 1000"), number=2),
            bench.order(shell("three", "echo 3"), number=3),
        ]
        [first] = worker.run(orders[:1])
        assert first.fate is Fate.PUBLISHED, "a step cannot"
        began: list[int] = []

        def kill_it() -> None:
            began.append(spawners()[0].pid)
            os.kill(began[0], signal.SIGKILL)

        start = time.monotonic()
        original, calls = worker._context.tell, []

        def tell(entry: object) -> None:
            original(entry)  # type: ignore[arg-type]
            calls.append(entry)
            if type(entry).__name__ == "StepBegan":
                kill_it()

        worker._context.tell = tell  # type: ignore[method-assign]
        [second] = worker.run(orders[1:2])
        worker._context.tell = original  # type: ignore[method-assign]
        assert time.monotonic() - start < 60
        assert (second.fate, second.failed_step) == (Fate.STEP_KILLED, "two")
        assert second.evidence == (
            "step 'two' was ended by SIGKILL: == the process that starts the steps of this worker was killed, and the"
            " step with it"
        )
        [third] = worker.run(orders[2:])
        assert third.fate is Fate.PUBLISHED


def test_one_that_was_killed_while_it_had_nothing_to_do_is_not_missed(bench: Bench) -> None:
    with Worker(NodeProfile(scratch=bench.scratch, spool=bench.spool), bench.stagers) as worker:
        list(worker.run([bench.order(shell("one", ":"))]))
        [spawner] = spawners()
        spawner.kill()
        spawner.wait()
        [report] = worker.run([bench.order(shell("one", ":"), number=2)])
        assert report.fate is Fate.PUBLISHED


def test_a_step_ends_with_its_worker(tmp_path: Path) -> None:
    output = os.open(tmp_path / "output", os.O_RDWR | os.O_CREAT)
    pid = os.fork()
    if pid == 0:  # a worker
        try:
            spawner = Spawner(())
            os.write(output, f"{spawner._process.pid}\n".encode())
            script = "setsid sleep 1000 & echo $!; echo $$; exec sleep 1000"
            environment = {"PATH": "/usr/bin:/bin"}
            launch = Launch(("sh", "-c", script), tmp_path, environment, output)
            spawner.start(launch, Rules(software((), frozenset()), (), (), (), None, b""))
            while len(os.pread(output, 100, 0).split()) < 3:
                time.sleep(0.02)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    pids = [int(word) for word in os.pread(output, 100, 0).split()]
    os.close(output)
    assert len(pids) == 3
    await_death(pids)


@pytest.mark.parametrize("argv", [("no-such-program",), ("./not-executable",), ("echo", "a\0b")])
def test_what_cannot_be_executed_is_told_as_ever(bench: Bench, argv: tuple[str, ...]) -> None:
    told: list[str] = []
    for confinement in (bench.confinement, NodeConfinement()):
        bench.confinement = confinement
        step = shell("s", ":").model_copy(update={"argv": argv})
        report = bench.run_one(bench.order(step, number=len(told) + 1))
        assert report.fate is Fate.STEP_NOT_STARTED
        told.append(report.evidence)
    assert told[0] == told[1]
