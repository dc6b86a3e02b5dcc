"""Whether the witnesses of a step agree with a tracer around the whole worker that knows nothing of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.examples.programs import EXAMPLES
from tests.support.requirements import ROOT
from tests.support.tracer import COMMAND, opened_by

RUN = """
import json, sys
from pathlib import Path
from nightmill.model.journal import StepBegan
from nightmill.execution.journal import journals, read_journal
from nightmill.testing.bench import PipelineBench
pipeline, stage, given, folder, level = json.loads(sys.argv[1])
bench = PipelineBench(pipeline, Path(pipeline).with_name("file_types.yaml"), Path(folder))
made = bench.run(stage, {role: [Path(path) for path in paths] for role, paths in given.items()}, level=level)
entries = [entry for path in journals(Path(folder) / "run1/spool") for entry in read_journal(path).entries]
pids = {entry.step: entry.pid for entry in entries if isinstance(entry, StepBegan)}
said = [[step.name, pids[step.name], step.observed.model_dump(mode="json")] for step in made.report.steps]
print(json.dumps([made.report.fate, made.report.evidence, said]))
"""


def must_agree(pipeline: str, stage: str, given: Mapping[str, Sequence[Path]], folder: Path) -> None:
    """Run a stage of an example at both levels, and compare what is said to have been opened with what was.

    Parameters
    ----------
    pipeline
        Below the folder of examples.
    given
        Files, by the roles of the stage.
    """
    files = {role: [str(path) for path in paths] for role, paths in given.items()}
    seen = {}
    for level, around in (("standard", (*COMMAND, "-o", str(folder / "trace"))), ("audit", ())):
        request = json.dumps([str(EXAMPLES / pipeline), stage, files, str(folder / level), level])
        argv = [*around, sys.executable, "-c", RUN, request]
        ran = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
        assert ran.returncode == 0, ran.stderr
        fate, evidence, steps = json.loads(ran.stdout.splitlines()[-1])
        assert (fate, evidence) == ("published", "")
        witness = "inotify" if level == "standard" else "strace"
        assert {observed["witness"] for _name, _pid, observed in steps} == {witness}
        seen[level] = {name: set(observed["opened"]) for name, _pid, observed in steps}
        if level == "standard":
            seen["tracer"] = {name: opened_by(folder / "trace", pid) for name, pid, _observed in steps}
    assert seen["standard"] == seen["tracer"]
    assert seen["audit"] == seen["tracer"]
    assert all(seen["tracer"].values())
