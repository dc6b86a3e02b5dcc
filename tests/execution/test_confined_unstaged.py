"""A step that wants what was not staged for it fails by that name, and nothing is fetched for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.model.confinement import NodeConfinement, Use
from nightmill.model.fate import Fate
from nightmill.model.journal import Staged
from nightmill.model.order import OrderStep
from nightmill.model.report import JobReport
from tests.support.orders import Bench, output, python, shell

REMEDY = (
    "; declare it as an input of the step and of its stage (software, under confinement.reads of nightmill.yaml):"
    " nothing is fetched for a step that runs"
)


def ran(bench: Bench, *steps: OrderStep, confinement: NodeConfinement | None = None) -> JobReport:
    frame, flat = (
        bench.put(name, b"input", role=role, type="text") for name, role in (("a.fits", "frame"), ("b.fits", "flat"))
    )
    flat = flat.model_copy(update={"data_id": {"night": 20260110, "band": "r"}})
    (bench.root / "stores/backbone/raw/c.fits").write_bytes(b"another")
    bench.confinement = confinement or NodeConfinement()
    return bench.run_one(bench.order(*steps, inputs=(frame, flat)))


def opens(path: str) -> str:
    return f"import sys\ntry:\n    open({path!r})\nexcept OSError as error:\n    sys.exit(str(error))"


@pytest.mark.req("B04", "B05")
@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("../inputs/c.fits", "c.fits, which was not staged"),
        (
            "../inputs/b.fits",
            "flat (text) b.fits of night=20260110,band=r, which is an input of its stage that it does not declare",
        ),
        ("STORE/raw/c.fits", "STORE/raw/c.fits, which is not its own and was not staged for it"),
        (
            "STORE/raw/b.fits",
            "STORE/raw/b.fits: flat (text) b.fits of night=20260110,band=r, of which it has a copy among its inputs"
            " where it declares it",
        ),
    ],
    ids=["not staged", "not declared", "in the archive", "staged, and in the archive"],
)
def test_a_file_that_was_not_staged_fails_the_step(bench: Bench, path: str, told: str) -> None:
    store = str(bench.root / "stores/backbone")
    path, told = path.replace("STORE", store), told.replace("STORE", store)
    report = ran(bench, python("one", opens(path), inputs=("a.fits",)))
    assert (report.fate, report.failed_step) == (Fate.UNSTAGED_INPUT, "one")
    assert report.evidence.startswith(f"step 'one' wanted {told}; it exited with code 1: [Errno ")
    assert report.evidence.endswith(REMEDY)
    assert report.steps[0].observed is not None
    assert report.steps[0].observed.reached == (path,)
    staged = [entry.files for entry in bench.entries() if isinstance(entry, Staged)]
    assert staged == [2], "nothing is transferred beside what was planned"


@pytest.mark.parametrize(
    ("script", "fate", "paths"),
    [
        ("cat ../inputs/nonesuch.fits", Fate.UNSTAGED_INPUT, ("../inputs/nonesuch.fits",)),
        ("cat nonesuch.fits", Fate.STEP_FAILED, ()),
        ("cat /usr/nonesuch", Fate.STEP_FAILED, ()),
        ("echo > /etc/nightmill-was-here", Fate.STEP_FAILED, ("/etc/nightmill-was-here",)),
        ("echo > ../../beside", Fate.STEP_FAILED, ("../../beside",)),
        ("echo /var/tmp is fine; exit 3", Fate.STEP_FAILED, ()),
        ("echo cannot open file ../inputs/a.fits; exit 3", Fate.STEP_FAILED, ()),
        ("cat ../outputs/first.txt ../outputs/other.txt", Fate.UNSTAGED_INPUT, ("../outputs/other.txt",)),
        ("cat ../inputs/nonesuch.fits; exit 0", Fate.PUBLISHED, ()),
    ],
)
def test_how_a_step_failed_is_told_by_what_it_said(
    bench: Bench, script: str, fate: Fate, paths: tuple[str, ...]
) -> None:
    outputs = (output("first", "first.txt"), output("other", "other.txt"))
    before = shell("before", "echo 1 > first.txt; echo 2 > other.txt", *outputs)
    report = ran(bench, before, shell("one", script, inputs=("a.fits", "first.txt")))
    assert report.fate is fate, report.evidence
    assert report.steps[1].observed is not None
    assert report.steps[1].observed.reached == paths


def test_inputs_are_missed_where_steps_are_not_confined_as_well(bench: Bench) -> None:
    step = shell("one", "cat ../inputs/nonesuch.fits", inputs=("a.fits",))
    report = ran(bench, step, confinement=NodeConfinement(use=Use.OFF))
    assert report.fate is Fate.UNSTAGED_INPUT


def test_a_program_outside_is_told_with_what_to_declare(bench: Bench, tmp_path: Path) -> None:
    tool = tmp_path / "software" / "tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho done\n")
    tool.chmod(0o755)
    steps = [
        OrderStep(name="one", argv=(str(tool),)),
        OrderStep(name="one", argv=("tool",), environment={"PATH": f"{tool.parent}:/usr/bin"}),
    ]
    for step in steps:
        report = bench_run(bench, step, NodeConfinement())
        assert report.fate is Fate.STEP_NOT_STARTED
        assert report.evidence == (
            f"step 'one' cannot be started: {tool} lies outside of what steps may read; declare {tool.parent} under"
            " confinement.reads of nightmill.yaml"
        )
        assert bench_run(bench, step, NodeConfinement(reads=(tool.parent,))).fate is Fate.PUBLISHED


def bench_run(bench: Bench, step: OrderStep, confinement: NodeConfinement) -> JobReport:
    bench.confinement = confinement
    return bench.run_one(bench.order(step, number=len(list(bench.spool.glob("*.jsonl"))) + 1))
