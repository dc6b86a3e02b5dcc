"""Warm steps do what plain steps do; a server that ends harms none of them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from nightmill.execution.confine import spawner
from nightmill.execution.launch import plain, warm
from nightmill.execution.launch import watch as process_module
from nightmill.execution.launch.warm import Servers
from nightmill.execution.launch.watch import Ended, run_process
from nightmill.execution.proc import started_at
from tests.execution.test_launch import _zombies, await_death, output_of, pids_written

ENVIRONMENT = {"PATH": os.environ["PATH"], "WORD": "h\u00e9llo\udc80", "PYTHONDONTWRITEBYTECODE": "1"}
MODULES = ("decimal", "json.tool", "random", "tempfile")
SAYS = "import sys; print('warm' if 'decimal' in sys.modules else 'cold')\n"

Run = Callable[..., Ended]


def descriptors_of(server: psutil.Process) -> int:
    """Return how many descriptors a server has once it has closed those of its last step, after it told its end."""
    until = time.monotonic() + 10
    while (count := int(server.num_fds())) > 6 and time.monotonic() < until:
        time.sleep(0.01)
    return count


@pytest.fixture
def servers() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    servers.close()
    assert servers_now() == []


@pytest.fixture
def run(tmp_path: Path, servers: Servers) -> Run:
    """Give a function that runs a script, or what follows ``python``, with its output in the file ``output``."""

    def run_it(
        text: str,
        *arguments: str,
        modules: tuple[str, ...] = MODULES,
        environment: Mapping[str, str] = ENVIRONMENT,
        wall_seconds: float = 60.0,
        began: Callable[[int], None] = lambda pid: None,
    ) -> Ended:
        (tmp_path / "script.py").write_text(text)
        start, fault = servers.way(modules, environment, plain.start)
        with (tmp_path / "output").open("wb") as output:
            output.write(fault.encode())
            output.flush()
            return run_process(
                [sys.executable, *(arguments or ["script.py"])],
                directory=tmp_path,
                scratch=tmp_path,
                environment={**environment, "HOME": str(tmp_path)},
                output=output.fileno(),
                wall_seconds=wall_seconds,
                began=began,
                start=start,
            )

    return run_it


def servers_now() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # or what other tests left that nobody waits for
            if "warm_server.py" in " ".join(child.cmdline()):
                found.append(child)
    return found


FACTS = """
import json, locale, os, resource, signal, sys, threading
def annotated(a: int) -> None: ...
from pathlib import Path
facts = {
    "globals": sorted(set(globals()) - {"facts"}),
    "main": [__name__, __file__, __package__, str(__spec__)[:20], sys.modules["__main__"].__dict__ is globals()],
    "annotations": repr(annotated.__annotations__),
    "argv": [sys.argv, sys.orig_argv, sys.path, str(sys.flags), sys.executable],
    "environment": dict(os.environ),
    "seen": [Path("/proc/self/cmdline").read_bytes().decode(), Path("/proc/self/environ").read_bytes().hex()],
    "name": Path("/proc/self/comm").read_text(),
    "place": [os.getcwd(), os.umask(0), os.getsid(0) == os.getpgid(0) == os.getpid(), os.getppid()],
    "signals": [str(signal.getsignal(number)) for number in signal.valid_signals() if number not in (9, 19)],
    "masks": [line for line in open("/proc/self/status") if line[:4] in ("SigB", "SigI", "SigC")],
    "descriptors": sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if int(fd) < 3),
    "standard": [sys.stdin.read(), sys.stdout.encoding, sys.stdout.line_buffering, sys.stderr.line_buffering],
    "limits": [resource.getrlimit(number) for number in range(16)],
    "threads": [threading.get_native_id() == os.getpid(), threading.active_count(), os.sched_getaffinity(0) != set()],
    "locale": locale.setlocale(locale.LC_ALL),
}
facts["more"] = len(os.listdir("/proc/self/fd"))
print(json.dumps(facts))
"""


@pytest.mark.parametrize("arguments", [("./../{name}/script.py", "a b", ""), ("-m", "script", "a")], ids=["path", "-m"])
def test_a_warm_step_finds_what_a_plain_one_finds(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    told = []
    for modules in ((), MODULES):
        assert run(FACTS, *[each.format(name=tmp_path.name) for each in arguments], modules=modules).exit_code == 0
        told.append(json.loads(output_of(tmp_path)))
    plain, forked = told
    [parent] = {forked["place"].pop()} - {plain["place"].pop()}  # which ends what it leaves
    assert parent == servers_now()[0].pid
    assert forked.pop("descriptors")[0] == plain.pop("descriptors")[0] == os.devnull
    for each in told:
        each["masks"] = [f"{line[:8]}{int(line[8:], 16) % 2**32:x}" for line in each["masks"]]  # and those of libc
    assert forked == plain


ENDS = {
    "done": "print('done')",
    "code": "import sys; sys.exit(3)",
    "text": "import sys; sys.exit('a reason')",
    "error": "def broken():\n    1 / 0\nbroken()",
    "chained": "try:\n    {}['a']\nexcept KeyError:\n    raise ValueError('other')",
    "syntax": "print('x'",
    "bytes": "# coding: latin-1\nprint(len('\u00e9'))",
    "at once": "import os; print('lost'); os._exit(4)",
    "crash": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "interrupted": "import atexit; atexit.register(print, 'at the end'); raise KeyboardInterrupt",
    "at exit": "import atexit; atexit.register(print, 'at the end'); file = open('left', 'w'); file.write('whole')",
    "thread": "import threading, time; threading.Thread(target=lambda: (time.sleep(0.2), print('late'))).start()",
    "hook": "import sys; sys.excepthook = lambda *a: print(len(a), a[2].tb_lineno); 1 / 0",
    "closed": "import os; os.closerange(0, 100); import sys; sys.modules.clear()",
    "main": "import sys, pickle\nclass A: ...\nprint(pickle.loads(pickle.dumps(A)) is sys.modules['__main__'].A is A)",
    "workers": "import multiprocessing\nif __name__ == '__main__':\n"
    "    for how in ('fork', 'spawn'):\n"
    "        with multiprocessing.get_context(how).Pool(2) as pool: print(pool.map(abs, [-1]))",
}


@pytest.mark.parametrize("text", ENDS.values(), ids=list(ENDS))
def test_a_warm_step_ends_as_a_plain_one(run: Run, tmp_path: Path, text: str) -> None:
    told = []
    for modules in ((), MODULES):
        (tmp_path / "left").write_text("")
        ended = run(text, modules=modules)
        told.append((ended.exit_code, ended.signal, output_of(tmp_path), (tmp_path / "left").read_text()))
    assert told[1] == told[0]


@pytest.mark.parametrize("arguments", [("none.py",), ("-m", "none"), ("-c", "print(1)"), (".",), ()])
def test_what_only_the_interpreter_can_run_is_run_by_it(run: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "__main__.py").write_text("print('a folder')")
    told = []
    for modules in ((), MODULES):
        ended = run("print('a script')", *arguments, modules=modules)
        lines = [line for line in output_of(tmp_path).splitlines() if not line.startswith("== started without")]
        told.append((ended.exit_code, lines))
    assert told[1] == told[0]


def test_its_numbers_are_random_and_its_temporary_files_its_own(run: Run, tmp_path: Path) -> None:
    text = "import random, tempfile, numpy.random; print(random.random(), numpy.random.rand(), tempfile.gettempdir())"
    told = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run(f"import os; os.environ['TMPDIR'] = {str(tmp_path / name)!r}\n{text}", modules=(*MODULES, "numpy.random"))
        told.append(output_of(tmp_path).split())
    assert not set(told[0]) & set(told[1])
    assert [each[2] for each in told] == [str(tmp_path / "one"), str(tmp_path / "two")]


def test_it_costs_what_it_uses_and_not_what_its_modules_cost(run: Run) -> None:
    heavy = ("astropy.table", "scipy.optimize")
    run("", modules=heavy)
    cost = run("import time, scipy.optimize, astropy.table\nwhile time.process_time() < 0.3: pass", modules=heavy).cost
    assert 0.3 <= cost.user_seconds + cost.system_seconds < 0.8
    holds = run("import time\nx = b'x' * 300_000_000\ntime.sleep(2.5)", modules=heavy)  # until it was looked at
    assert holds.cost.max_rss_bytes > 300_000_000
    moved = run("open('left', 'w').write('x' * 3_000_000)", modules=heavy).cost
    assert 3_000_000 <= moved.written_bytes < 3_100_000


def test_a_wall_limit_ends_it_and_all_that_it_started(run: Run, tmp_path: Path) -> None:
    forks = "import os, time\nfor _ in range(2):\n    if not os.fork(): os.setsid()"
    text = f"{forks}\nprint(os.getpid(), flush=True)\ntime.sleep(1000)"
    ended = run(text, wall_seconds=0.5)
    assert (ended.timed_out, ended.signal) == (True, signal.SIGTERM)
    assert len(pids_written(tmp_path)) == 4
    await_death(pids_written(tmp_path))


def test_a_daemon_that_it_leaves_is_known_by_its_environment(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_module._Tree, "sample", lambda self: None)
    text = (
        "import os, time\nreading, writing = os.pipe()\nif os.fork() == 0:\n    os.setsid()\n    os.chdir('/')\n"
        "    if os.fork() == 0:\n        print(os.getpid(), flush=True)\n        os.write(writing, b'x')\n"
        "        time.sleep(1000)\n    os._exit(0)\nos.read(reading, 1)"
    )
    assert run(text).exit_code == 0
    assert len(pids_written(tmp_path)) == 1
    await_death(pids_written(tmp_path))


def test_a_server_that_is_killed_takes_its_step_with_it_and_is_replaced(run: Run, tmp_path: Path) -> None:
    folders = []

    def kill_it(_pid: int) -> None:
        [server] = servers_now()
        folders.append(Path(server.environ()["HOME"]))
        server.kill()

    assert run(f"{SAYS}import time; time.sleep(1000)", began=kill_it).signal == signal.SIGKILL
    assert "== the process that starts the steps of this worker was killed, and the step with it\n" in output_of(
        tmp_path
    )
    assert not folders[0].exists()
    run(SAYS)
    assert output_of(tmp_path) == "warm\n"


def test_a_server_that_is_killed_with_nothing_to_do_is_replaced(run: Run, tmp_path: Path) -> None:
    run(SAYS)
    [server] = servers_now()
    server.kill()
    assert run(SAYS).exit_code == 0
    assert output_of(tmp_path) == (
        "== started without the modules of warm: the process that had them has ended\ncold\n"
    )
    run(SAYS)
    assert output_of(tmp_path) == "warm\n"


def test_a_server_that_hangs_is_not_waited_for(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "FORK_SECONDS", 0.2)
    monkeypatch.setattr(spawner, "END_SECONDS", 0.2)
    run(SAYS)
    [server] = servers_now()
    server.suspend()
    run(SAYS)
    assert output_of(tmp_path).endswith("has ended\ncold\n")
    await_death([server.pid])


FAULTS = {
    "none": "module 'none' could not be imported: ModuleNotFoundError: No module named 'none'",
    "broken": "module 'broken' could not be imported: ZeroDivisionError: division by zero",
    "leaves": "module 'leaves' could not be imported: SystemExit: enough",
    "shares": "its modules keep memory (rw-s ",
    "threads": "its modules have started 1 threads, which a fork would not have",
    "ends": "the process that imports them ended: it says why",
    "hangs": "hangs, decimal could not be imported in 0.5 s",
}


@pytest.mark.parametrize(("module", "fault"), FAULTS.items(), ids=list(FAULTS))
def test_modules_that_cannot_be_had_before_are_told_and_the_step_is_plain(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, fault: str
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "leaves.py").write_text("import sys; sys.exit('enough')")
    (tmp_path / "threads.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=[1000], daemon=True).start()"
    )
    (tmp_path / "shares.py").write_text("import mmap; room = mmap.mmap(-1, 4096)")
    (tmp_path / "ends.py").write_text("import os; os.write(2, b'it says why\\n'); os._exit(1)")
    (tmp_path / "hangs.py").write_text("import time; time.sleep(1000)")
    if module == "hangs":
        monkeypatch.setattr(warm, "IMPORT_SECONDS", 0.5)
    environment = ENVIRONMENT | {"PYTHONPATH": str(tmp_path)}
    for _ in range(2):
        assert run(SAYS, modules=(module, "decimal"), environment=environment).exit_code == 0
        said = output_of(tmp_path)
        assert (said[: len(fault)], said[-5:]) == (fault, "cold\n")
        assert servers_now() == []


def test_what_a_module_sets_in_the_environment_is_there(run: Run, tmp_path: Path) -> None:
    (tmp_path / "sets.py").write_text("import os; os.environ['SET'] = 'by a module'")
    environment = ENVIRONMENT | {"PYTHONPATH": str(tmp_path)}
    run("import os; print(os.environ['SET'], ascii(os.environ['WORD']))", modules=("sets",), environment=environment)
    assert output_of(tmp_path) == "by a module 'h\\xe9llo\\udc80'\n"


def test_a_host_without_room_for_another_process_has_plain_steps(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    run(SAYS)
    assert re.fullmatch(r"\[Errno 2\] No such file .*: '.*/gone/nightmill-warm-.*'cold\n", output_of(tmp_path))


def test_libraries_that_put_their_threads_away_are_fit(run: Run, tmp_path: Path) -> None:
    environment = ENVIRONMENT | {"OMP_NUM_THREADS": "2"}
    text = f"{SAYS}import numpy; x = numpy.ones((300, 300)); print((x @ x).sum())"
    run(text, modules=("decimal", "numpy"), environment=environment)
    assert output_of(tmp_path) == "warm\n27000000.0\n"


def test_a_module_beside_the_script_comes_first_as_ever(run: Run, tmp_path: Path) -> None:
    (tmp_path / "decimal.py").write_text("print('my own')")
    run("import decimal")
    assert output_of(tmp_path) == (
        f"== started without the modules of warm: decimal.py in {tmp_path} has the name of a module that was"
        " imported\nmy own\n"
    )


@pytest.mark.parametrize("is_hidden", [False, True])
def test_a_search_path_may_lead_from_where_the_step_works(run: Run, tmp_path: Path, is_hidden: bool) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / ("decimal.py" if is_hidden else "mine.py")).write_text("name = 'mine'")
    text = f"import sys, {'decimal as mine' if is_hidden else 'mine'}; print(mine.name, sys.path)"
    told = []
    for modules in ((), MODULES):
        run(text, modules=modules, environment=ENVIRONMENT | {"PYTHONPATH": "bundle"})
        told.append(output_of(tmp_path))
    assert told[1].endswith(told[0])
    assert told[1].startswith("== started without") == is_hidden


def test_a_server_knows_its_steps_alone_and_each_environment_has_one(
    run: Run, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "of the worker")
    monkeypatch.setattr(warm, "MOST", 2)
    held = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(held, True)
    try:
        for word in ("one", "two", "one", "three"):
            run("", environment=ENVIRONMENT | {"WORD": word})
    finally:
        os.close(held)
    now = {server.environ()["WORD"]: server for server in servers_now()}
    assert set(now) == {"one", "three"}
    for server in now.values():
        assert server.environ().keys() - ENVIRONMENT.keys() <= {"HOME", "TMPDIR", "LC_CTYPE"}
        assert descriptors_of(server) == 6
    folders = [Path(server.environ()["HOME"]) for server in now.values()]
    servers.close()
    assert not any(folder.exists() for folder in folders)


def test_it_ends_with_its_worker(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from nightmill.execution.launch import plain\n"
        "from nightmill.execution.launch.warm import Servers; from pathlib import Path\n"
        "servers = Servers(); start, fault = servers.way(('json',), {}, plain.start); assert not fault\n"
        "[kind] = servers._kinds.values(); [each] = kind.idle; print(each._process.pid, flush=True); time.sleep(1000)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        pid = worker.stdout.readline()
        assert started_at(int(pid)) is not None
        folder = psutil.Process(int(pid)).environ()["HOME"]
        assert Path(folder).exists()
        worker.kill()
    await_death([int(pid)])
    assert not Path(folder).exists()


def test_nothing_piles_up(run: Run) -> None:
    run("")
    zombies = _zombies()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for number in range(40):
        assert run(f"raise SystemExit({number})").exit_code == number
    assert len(list(Path("/proc/self/fd").iterdir())) < before + 20
    assert _zombies() <= zombies
    [server] = servers_now()
    assert descriptors_of(server) == 6
