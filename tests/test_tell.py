"""What the program of a step asks and tells with one file of Python."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nightmill import tell
from nightmill.execution.sidecar.lines import MAX_LINE_BYTES
from nightmill.model.fate import Fate
from nightmill.model.index import StepIndex
from nightmill.model.states import AttemptState
from tests.execution.failing import must_fail
from tests.execution.told import order_of, told
from tests.support.orders import Bench, output, python, shell

OUT = output("out", "out.txt")
INPUTS = ("f1.txt", "f2.txt", "flat.txt")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def job(bench: Bench, code: str, *outputs: Any, inputs: tuple[str, ...] = INPUTS, number: int = 1) -> Any:
    """Make a job of one Python step, with two frames and a flat."""
    files = [bench.put(name, name.encode(), role="frames", type="text") for name in INPUTS]
    ids = [{"exposure": 1, "detector": 3}, {"exposure": 2, "detector": 3}, {"detector": 3}]
    files = [file.model_copy(update={"data_id": own}) for file, own in zip(files, ids, strict=True)]
    files[2] = files[2].model_copy(update={"role": "flat", "more_roles": ("calib",), "staged_as": "my.flat"})
    order = order_of(bench, python("s", "from nightmill import tell\n" + code, *outputs, inputs=inputs))
    return order.model_copy(
        update={"inputs": tuple(files), "attempt": order.attempt.model_copy(update={"number": number})}
    )


@pytest.mark.req("B02", "B39", "B46")
def test_a_step_finds_its_files_by_their_data_ids_and_tells_what_it_used(bench: Bench) -> None:
    code = """
import os
os.chdir('/')
flat, one, every = tell.get('calib', detector=3), tell.get('frames', exposure=1), tell.all('frames')
assert one == every[0] and open(flat).read() == 'flat.txt', (flat, one)
tell.used(flat, one)
tell.eliminated('f2.txt', 'trailed "badly"')
out = tell.put('out')
open(out, 'w').write(open(one).read())
tell.depends(out, one, 'my.flat')
"""
    report = bench.run_one(job(bench, code, OUT))
    assert report.state is AttemptState.PUBLISHED, report.evidence
    known = report.steps[0].observed
    assert known is not None
    assert (known.opened, known.used) == (("f1.txt", "flat.txt"), ("flat.txt", "f1.txt"))
    assert known.eliminated[0].reason == 'trailed "badly"'
    assert (known.depends[0].output, known.depends[0].inputs) == ("out.txt", ("f1.txt", "flat.txt"))
    log = (bench.root / "stores/backbone/logs" / report.order.log_name).read_text()
    asked = [line.partition(", at 20") for line in log.splitlines() if line.startswith("== s asked: ")]
    assert [line.removeprefix("== s asked: ") for line, at, _time in asked if at] == [
        "get calib (detector=3): flat.txt",
        "get frames (exposure=1): f1.txt",
        "get frames (exposure=1, detector=3): f1.txt",
        "get frames (exposure=2, detector=3): f2.txt",
        "put out: out.txt",
    ]


@pytest.mark.req("B04", "B05")
def test_asking_for_what_was_not_staged_fails_the_step_though_its_program_goes_on(bench: Bench) -> None:
    bench.put("bias_7.fits", b"it lies in the archive", role="bias", type="text")
    code = """
try:
    tell.get('bias', detector=7)
except tell.NotStaged as error:
    print('caught', error.role, error.data_id, error)
open('out.txt', 'w').write('1')
"""
    report = must_fail(
        bench,
        job(bench, code, OUT),
        Fate.UNSTAGED_INPUT,
        "step 's' asked for bias (detector=7), which was not staged for it (line 1 of its sidecar; it has frames"
        " f1.txt, frames f2.txt, flat flat.txt)",
    )
    said = "caught bias {'detector': 7} bias (detector=7) was not staged for this step; it was given"
    assert said in (bench.root / "stores/backbone/logs" / report.order.log_name).read_text()
    assert report.staged_at is not None
    uncaught = job(bench, "tell.get('frames', exposure=9)", OUT, number=2).model_copy(update={"log_name": "two.log"})
    must_fail(bench, uncaught, Fate.UNSTAGED_INPUT, "asked for frames (exposure=9), which was not staged for it")


def test_what_is_staged_for_another_step_is_not_in_the_index(bench: Bench) -> None:
    order = job(bench, "tell.get('flat')", inputs=("f1.txt",))
    must_fail(bench, order, Fate.UNSTAGED_INPUT, "asked for flat, which was not staged for it")


def test_what_a_step_before_made_is_found_by_what_its_files_told(bench: Bench) -> None:
    make = shell("make", "echo 1 > a1.head; echo 2 > a2.head", told("heads", produces="a{exposure}.head"))
    code = "assert open(tell.get('heads', exposure=2, detector=3)).read() == '2\\n'; assert len(tell.all('heads')) == 2"
    find = python("find", f"from nightmill import tell\n{code}", inputs=("{heads}",))
    report = bench.run_one(order_of(bench, make, find))
    assert report.state is AttemptState.PUBLISHED, report.evidence


def test_names_that_the_data_id_gives_are_put_and_told_of(bench: Bench) -> None:
    code = """
for exposure in (4, 5):
    path = tell.put('heads', exposure=exposure)
    open(path, 'w').write('1')
    tell.about('heads', path, metadata={'rms': 0.5})
try:
    tell.put('heads')
except LookupError as error:
    print('heads:', error)
try:
    tell.put('any')
except ValueError as error:
    print('any:', error)
try:
    tell.put('uot')
except LookupError as error:
    print('uot:', error)
"""
    heads = told("heads", produces="im{exposure:06d}.head")
    report = bench.run_one(job(bench, code, heads, output("any", "x.txt", produces="*.x", required=False)))
    assert [file.produced_name for file in report.made] == ["im000004.head", "im000005.head"], report.evidence
    log = (bench.root / "stores/backbone/logs" / report.order.log_name).read_text()
    assert "heads: the name of heads is 'im{exposure:06d}.head': say its exposure\n" in log
    assert "any: the names of any are for the program to choose: any that fits '*.x'" in log
    assert "uot: 'uot' is not an output of this step; it has heads, any\n" in log


@pytest.fixture
def own_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bench: Bench) -> Path:
    """Give a sidecar to a test that plays the step."""
    order = job(bench, "")
    inputs = [
        {"name": f"{number}.txt", "path": f"../inputs/{number}.txt", "roles": ["frames"], "type": "text"}
        for number in range(1000)
    ]
    index = StepIndex.model_validate({"attempt": order.attempt, "step": "s", "inputs": inputs})
    (tmp_path / "index.json").write_text(index.model_dump_json())
    monkeypatch.setenv("NIGHTMILL_INDEX", str(tmp_path / "index.json"))
    monkeypatch.setenv("NIGHTMILL_SIDECAR", str(tmp_path / "sidecar.jsonl"))
    return tmp_path / "sidecar.jsonl"


def test_several_are_not_one(own_index: Path) -> None:
    with pytest.raises(
        tell.SeveralStaged, match=r"frames is 1000 files \(0.txt, 1.txt, .*: say more keys, or take all"
    ):
        tell.get("frames")


def test_lines_of_many_threads_and_very_many_files_do_not_mix(own_index: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    names = ["n" * 250 + str(number) for number in range(250)]
    with ThreadPoolExecutor(8) as pool:
        for number in range(200):
            pool.submit(tell.used, *names)
            pool.submit(tell.eliminated, f"{number}", "r" * 1000)
    lines = own_index.read_bytes().splitlines()
    assert len(lines) == 200 * 4
    assert max(map(len, lines)) < MAX_LINE_BYTES
    assert {next(iter(json.loads(line))) for line in lines} == {"used", "eliminated"}


def test_outside_of_a_job_nothing_is_asked_and_what_is_told_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NIGHTMILL_INDEX", raising=False)
    monkeypatch.delenv("NIGHTMILL_SIDECAR", raising=False)
    tell.used("a.fits")
    tell.eliminated("b.fits", "trailed")
    with pytest.raises(tell.NotInJob, match="NIGHTMILL_INDEX is not set: this program is not run as the step of a job"):
        tell.get("frames")


def test_it_is_one_file_of_an_old_python_that_imports_nothing_of_nightmill(bench: Bench, tmp_path: Path) -> None:
    tree = ast.parse(Path(tell.__file__).read_text(), feature_version=(3, 8))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    modules = {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    assert modules == {"__future__", "collections.abc", "datetime", "functools", "typing"}
    shutil.copy(tell.__file__, tmp_path / "tell.py")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import tell; print(open(tell.get('flat')).read())"
    order = job(bench, "")
    step = order.steps[0].model_copy(update={"argv": ("{python}", "-I", "-S", "-c", code)})
    report = bench.run_one(order.model_copy(update={"steps": (step,)}))
    assert report.state is AttemptState.PUBLISHED, report.evidence
