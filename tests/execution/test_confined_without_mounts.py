"""A host whose runtime forbids namespaces and mounts, as most containers are: what holds then, and what is told."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from nightmill.model.fate import Fate

UNSHARE = {"x86_64": 272, "aarch64": 97}
CODE = """
import ctypes, json, struct, sys
from pathlib import Path
from nightmill.model.confinement import NodeConfinement, Use
from tests.support.confined import attempt
from tests.support.orders import Bench, shell

number, root = int(sys.argv[1]), Path(sys.argv[2])
load, equal, answer, refuse, allow = 0x20, 0x15, 0x06, 0x00050001, 0x7FFF0000
lines = ((load, 0, 0, 0), (equal, 0, 1, number), (answer, 0, 0, refuse), (answer, 0, 0, allow))
code = b"".join(struct.pack("HBBI", *line) for line in lines)
class Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("lines", ctypes.c_char_p))
c = ctypes.CDLL(None, use_errno=True)
assert not c.prctl(38, 1, 0, 0, 0)
assert not c.prctl(22, ctypes.c_ulong(2), ctypes.byref(Filter(len(lines), code)), 0, 0)

bench = Bench(root)
frame = bench.put("frame.txt", b"input", type="text")
store = root / "stores/backbone/raw/frame.txt"
tries = f"STORE = {str(store)!r}\\ntried(open, STORE)\\ntried(open, STORE, 'r+')\\ntried(os.chmod, STORE, 0o640)\\n"
tries += "tried(open, '../inputs/frame.txt', 'r+')\\nprint(os.getcwd())\\n"
tried = attempt(bench, tries, inputs=(frame,), declared=("frame.txt",))
confined = tried.report.steps[0].observed.confined
bench.confinement = NodeConfinement(use=Use.DEMAND)
demanded = bench.run_one(bench.order(shell("s", ":"), number=2))
print(json.dumps({
    "fate": tried.report.fate, "said": tried.said, "by": confined.by, "lacking": confined.lacking,
    "mode": store.stat().st_mode & 0o777, "demanded": demanded.fate, "why": demanded.evidence,
}))
"""


@pytest.mark.req("B41")
def test_what_lacks_without_mounts_is_told_and_refused_where_it_is_demanded(tmp_path: Path) -> None:
    if (number := UNSHARE.get(platform.machine())) is None:
        pytest.skip("the number of unshare on this machine is not known here")
    root = Path(__file__).parents[2]
    argv = [sys.executable, "-c", CODE, str(number), str(tmp_path)]
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["fate"] == Fate.PUBLISHED, told
    lacks = (
        "mode and times of files outside can be changed, and memory of System V shared: this host lets nobody mount"
        " (Operation not permitted)"
    )
    assert "mounts" not in told["by"]
    assert lacks in told["lacking"]
    *said, folder = told["said"]
    assert said == ["denied", "denied", "reached", "denied"]
    assert told["mode"] == 0o640  # what lacks is so
    assert folder.endswith("/work")
    assert told["demanded"] == Fate.STEP_NOT_STARTED
    assert f"this host cannot confine steps as its site demands: {lacks}" in told["why"]
