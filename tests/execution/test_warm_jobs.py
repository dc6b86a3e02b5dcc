"""Jobs whose steps are forks of a process that has imported their modules."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nightmill.execution.proc import children
from nightmill.execution.worker import Worker
from nightmill.model.confinement import NodeConfinement
from nightmill.model.container import Containers
from nightmill.model.fate import Fate
from nightmill.model.journal import Staged, StepBegan, StepEnded
from nightmill.model.node import NodeProfile
from nightmill.model.observed import Level
from nightmill.model.order import OrderStep, OrderText
from tests.execution.test_launch import await_death
from tests.execution.test_warm import servers_now
from tests.support.image import make_image, needs_bubblewrap
from tests.support.orders import Bench, output

VARY: Any = {"attempt": True, "at": True, "pid": True, "cost": True}


@pytest.mark.req("X32")
def test_a_job_of_warm_steps_has_the_record_of_any_other(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import os, sys, scipy.optimize\nfrom pathlib import Path\n\ndef fit(target):\n"
        "    Path(target).write_text(f'{scipy.__name__} {os.environ[\"WORD\"]}')\n"
        "    print('was there' if hasattr(sys, 'before') else 'is new', flush=True)\n"
    )
    (tmp_path / "before.py").write_text("import sys, scipy.optimize; sys.before = True")
    call = ("{python}", "-m", "nightmill.execution.call", "mine:fit", '{"target": "fit.txt"}')
    told, logs = [], []
    for number, modules in enumerate([(), ("before",), ("none",)], start=1):
        step = OrderStep(
            name="fit",
            argv=call,
            warm=modules,
            outputs=(output("fit", f"fit{number}.txt", produces="fit.txt"),),
            environment={"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}", "WORD": "hello"},
            software={"sh": ("echo", "1.0")},
        )
        order = bench.order(step, number=number)
        assert bench.run_one(order).fate is Fate.PUBLISHED
        wanted = [entry for entry in bench.entries() if isinstance(entry, Staged | StepBegan | StepEnded)]
        told.append([entry.model_dump(exclude=VARY) for entry in wanted if entry.attempt == order.attempt])
        assert (bench.root / f"stores/backbone/products/fit{number}.txt").read_text() == "scipy hello"
        logs.append((bench.root / "stores/backbone/logs" / order.log_name).read_text())
    assert told[0] == told[1] == told[2]
    heading = logs[0].partition("is new")[0]
    assert logs[1] == f"{heading}was there\n"
    assert logs[2] == (
        "== fit is started without the modules of warm: module 'none' could not be imported: ModuleNotFoundError: No"
        f" module named 'none'\n{heading}is new\n"
    )
    assert bench.leftovers() == []
    assert servers_now() == []


def step_of(script: str, *arguments: str, **changes: Any) -> OrderStep:
    """Make a warm step of a script that is written for it."""
    argv = ("{python}", "../files/script.py", *arguments)
    return OrderStep(
        name="one", argv=argv, files=(OrderText(name="script.py", text=script),), warm=("decimal",), **changes
    )


def test_each_thread_of_a_worker_has_a_process(bench: Bench) -> None:
    script = "import os, sys\nprint('decimal' in sys.modules, os.getcwd())\nopen('made.txt', 'w').write(sys.argv[1])"
    orders = [
        bench.order(
            step_of(script, str(number), outputs=(output("made", f"made{number}.txt", produces="made.txt"),)),
            number=number,
        )
        for number in range(1, 21)
    ]
    with Worker(NodeProfile(scratch=bench.scratch, spool=bench.spool), bench.stagers) as worker:
        with ThreadPoolExecutor(3) as threads:
            reports = list(threads.map(lambda order: next(worker.run([order])), orders))
        assert 1 <= len(servers_now()) <= 3
    assert servers_now() == []
    assert {report.fate for report in reports} == {Fate.PUBLISHED}
    assert all(
        report.steps[0].observed.confined.level is Level.STANDARD for report in reports if report.steps[0].observed
    )
    logs = [(bench.root / "stores/backbone/logs" / order.log_name).read_text().splitlines() for order in orders]
    assert {lines[1].partition(" ")[0] for lines in logs} == {"True"}
    assert len({lines[1] for lines in logs}) == 20
    made = [(bench.root / f"stores/backbone/products/made{number}.txt").read_text() for number in range(1, 21)]
    assert made == [str(number) for number in range(1, 21)]


def test_a_step_ends_with_its_worker(bench: Bench, tmp_path: Path) -> None:
    step = step_of("import os, time\nos.chdir('/')\nif not os.fork(): os.setsid()\ntime.sleep(1000)")
    (tmp_path / "orders").write_text(bench.order(step).model_dump_json())
    (tmp_path / "profile").write_text(NodeProfile(scratch=bench.scratch, spool=bench.spool).model_dump_json())
    argv = [sys.executable, "-m", "nightmill.execution.worker", "orders", "--profile", "profile"]
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE) as worker:
        deadline = time.monotonic() + 60
        while not (began := [entry.pid for entry in bench.entries() if isinstance(entry, StepBegan)]):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        while Path(f"/proc/{began[0]}/cwd").readlink() != Path("/") or not (others := children(began[0])):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        worker.kill()
    await_death([*began, *others])


IMPORT = """
import os
def tried(path, mode):
    try:
        open(path, mode).close()
        return "reached"
    except OSError:
        return "denied"
said = [tried(STORE, "r"), tried(STORE, "a"), tried(STORE + ".new", "w"), tried(os.environ["HOME"] + "/own", "w")]
try:
    os.chmod(STORE, 0o666)
except OSError:
    said.append("denied")
try:
    import socket
    socket.socket()
except OSError:
    said.append("denied")
"""


def test_modules_are_imported_as_confined_as_a_step(bench: Bench, tmp_path: Path) -> None:
    frame = bench.put("frame.txt", b"frame", type="text")
    store = bench.root / "stores/backbone" / frame.path
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/pries.py").write_text(f"STORE = {str(store)!r}{IMPORT}")
    bench.confinement = NodeConfinement(reads=(tmp_path / "modules",))
    step = step_of("import pries; print(*pries.said)", environment={"PYTHONPATH": str(tmp_path / "modules")})
    report = bench.run_one(bench.order(step.model_copy(update={"warm": ("pries",)})))
    assert report.fate is Fate.PUBLISHED, report.evidence
    [log] = (bench.root / "stores/backbone/logs").iterdir()
    assert log.read_text().splitlines()[-1] == "denied denied denied reached denied denied"
    assert store.stat().st_mode & 0o777 != 0o666
    assert [path.name for path in store.parent.iterdir()] == ["frame.txt"]


def test_a_warm_step_in_an_image_is_started_as_any_other_there(bench: Bench, tmp_path: Path) -> None:
    needs_bubblewrap()
    image = f"tiny@{make_image(tmp_path / 'tiny')}"
    bench.containers = Containers(runtime="bubblewrap", images={image: tmp_path / "tiny"})
    order = bench.order(OrderStep(name="fit", argv=("{python}", "fit.py"), warm=("json",), image=image))
    assert bench.run_one(order).fate is Fate.PUBLISHED
    log = (bench.root / "stores/backbone/logs" / order.log_name).read_text()
    assert log == (
        "== fit is started without the modules of warm: it runs in an image\n== fit: python3 fit.py\n"
        "the python of the image: fit.py\n"
    )
