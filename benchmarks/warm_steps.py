"""What a short step costs that needs heavy modules, as a fork of a process that has them; beside a bare fork."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.figures import Result, alternately, figure, machine, now
from benchmarks.job_overhead import run_slice
from benchmarks.sites import WHO, new_site, register_raw, working_folder, write_campaign
from nightmill.config.campaign import load_campaign
from nightmill.operations.submit import submit
from nightmill.operations.turns import take_turn

STEPS: Final = 40
"""Steps of one measurement, a job each."""
REPEATS: Final = 3
MODULES: Final = ("astropy.table", "astropy.wcs", "scipy.optimize")
SCRIPT: Final = f"""\
import sys
import {", ".join(MODULES)}
from pathlib import Path

root = scipy.optimize.brentq(lambda x: x**3 - 2, 0, 2)
Path(sys.argv[1]).write_text(f"{{root}} {{astropy.wcs.WCS(naxis=2)}}")
"""
FLOOR: Final = f"""\
import gc, os, sys, time
import {", ".join(MODULES)}

gc.freeze()
code = compile(open(sys.argv[1]).read(), sys.argv[1], "exec")
start = time.perf_counter()
for number in range(int(sys.argv[2])):
    if (pid := os.fork()) == 0:
        sys.argv = ["-", f"{{number}}.dat"]
        exec(code)
        sys.exit()
    os.waitpid(pid, 0)
print(time.perf_counter() - start)
"""


def measure(*, size: int = STEPS, repeats: int = REPEATS) -> Result:
    """Measure on SQLite, with steps that import their modules themselves in turns with those that do not."""
    with working_folder() as folder, new_site(folder / "site") as site:
        register_raw(site, size * repeats, content=b"raw")
        slices = {}
        for name, modules in (("warm", MODULES), ("cold", ())):
            path = write_campaign(folder, name, _stage(modules), {"jobs_per_slice": size})
            (path.parent / "root.py").write_text(SCRIPT)
            submit(site, load_campaign(path), who=WHO)
            slices[name] = iter(take_turn(site, name, "copy").slices)
        warm, cold, bare = alternately(
            repeats,
            lambda: run_slice(site, "warm", next(slices["warm"])) / size * 1000,
            lambda: run_slice(site, "cold", next(slices["cold"])) / size * 1000,
            lambda: _forked(folder / "pipelines", size) / size * 1000,
        )
    return Result(
        **figure(warm, bare).model_dump(),
        name="warm_steps",
        unit="ms per job",
        compared=(
            f"a job of one step that needs {', '.join(MODULES)}, warm, one at a time, from its issue to its last row,"
            " the import of the modules included; floor: forks of one process that has them, which run the same script"
        ),
        aim="at most a quarter of the same jobs with a step that imports its modules itself",
        size=f"{repeats} × {size} jobs",
        also={"beside steps that import": figure(warm, cold)},
        counts={"jobs": size},
        machine=machine(),
        measured_at=now(),
        command="python -m benchmarks warm_steps --json",
    )


def _stage(modules: tuple[str, ...]) -> dict[str, object]:
    step = {
        "name": "root",
        "argv": ["{python}", "{pipeline_dir}/root.py", "{outputs.product}"],
        "warm": list(modules),
        "outputs": {"product": {"type": "product"}},
    }
    return {"per": ["exposure"], "inputs": {"raw": {"type": "raw"}}, "steps": [step]}


def _forked(folder: Path, size: int) -> float:
    """Return the seconds that the script takes in bare forks, without that of the import."""
    argv = [sys.executable, "-c", FLOOR, str(folder / "root.py"), str(size)]
    return float(subprocess.run(argv, cwd=folder, check=True, capture_output=True, text=True).stdout)
