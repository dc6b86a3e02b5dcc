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

from nightmill.execution.proc import all_in, end_all_in
from nightmill.execution.worker import Worker
from nightmill.model.fate import Fate
from nightmill.model.journal import Staged, StepBegan, StepEnded
from nightmill.model.node import NodeProfile
from nightmill.model.order import OrderStep
from tests.execution.test_launch import await_death
from tests.execution.test_warm import servers_now
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


def test_threads_of_a_worker_share_a_process(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import os, sys\nprint('decimal' in sys.modules, os.getcwd())\nopen('made.txt', 'w').write(sys.argv[1])"
    )
    orders = [
        bench.order(
            OrderStep(
                name="one",
                argv=("{python}", str(tmp_path / "script.py"), str(number)),
                warm=("decimal",),
                outputs=(output("made", f"made{number}.txt", produces="made.txt"),),
            ),
            number=number,
        )
        for number in range(1, 21)
    ]
    with Worker(NodeProfile(scratch=bench.scratch, spool=bench.spool), bench.stagers) as worker:
        with ThreadPoolExecutor(4) as threads:
            reports = list(threads.map(lambda order: next(worker.run([order])), orders))
        assert len(servers_now()) == 1
    assert servers_now() == []
    assert {report.fate for report in reports} == {Fate.PUBLISHED}
    logs = [(bench.root / "stores/backbone/logs" / order.log_name).read_text().splitlines() for order in orders]
    assert {lines[1].partition(" ")[0] for lines in logs} == {"True"}
    assert len({lines[1] for lines in logs}) == 20
    made = [(bench.root / f"stores/backbone/products/made{number}.txt").read_text() for number in range(1, 21)]
    assert made == [str(number) for number in range(1, 21)]


def test_a_step_whose_worker_was_killed_is_known_by_its_scratch(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import os, time\nos.chdir('/')\ntime.sleep(1000)")
    step = OrderStep(name="one", argv=("{python}", str(tmp_path / "script.py")), warm=("decimal",))
    (tmp_path / "orders").write_text(bench.order(step).model_dump_json())
    (tmp_path / "profile").write_text(NodeProfile(scratch=bench.scratch, spool=bench.spool).model_dump_json())
    argv = [sys.executable, "-m", "nightmill.execution.worker", "orders", "--profile", "profile"]
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE) as worker:
        deadline = time.monotonic() + 60
        while not (began := [entry.pid for entry in bench.entries() if isinstance(entry, StepBegan)]):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        while Path(f"/proc/{began[0]}/cwd").readlink() != Path("/"):
            time.sleep(0.02)
        worker.kill()
    [scratch] = bench.scratch.iterdir()
    assert all_in(scratch) == began
    assert end_all_in(scratch) == began
    await_death(began)
