"""The bench for pipelines: a step on given files, as a job would run it, without a site."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.errors import BadMetadata, ConfigErrors, RequestRefused, UnknownName
from nightmill.model.container import Containers
from nightmill.model.fate import Fate
from nightmill.testing.bench import PipelineBench
from tests.support.image import make_image, needs_bubblewrap
from tests.support.observatory import FILE_TYPES, deliver

PIPELINE = """\
pipeline: counting
version: "1.0"
parameters: {word: night}
stages:
  count:
    per: [exposure]
    inputs: {frame: {type: raw_science}}
    steps:
      - name: measure
        argv: [sh, "{pipeline_dir}/measure.sh", "{inputs.frame}", "{outputs.size}"]
        inputs: [frame]
        outputs: {size: {type: size, to: none}}
      - name: write
        argv: [sh, -c, "echo {parameters.word} $(cat {inputs.size}) > {outputs.line}; ls ../inputs"]
        inputs: [size]
        outputs: {line: {type: line}}
"""
TYPES = """\
  size: {template: "size_{exposure:04d}_c{campaign:04d}a{attempt:02d}.txt"}
  line: {template: "line_{exposure:04d}_c{campaign:04d}a{attempt:02d}.txt"}
"""


@pytest.fixture
def bench(tmp_path: Path) -> PipelineBench:
    """Give a bench for a pipeline of two steps."""
    (tmp_path / "measure.sh").write_text('test -s "$1" || exit 3\nwc -c < "$1" > "$2"\n')
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    (tmp_path / "types.yaml").write_text(FILE_TYPES + TYPES)
    return PipelineBench(tmp_path / "pipeline.yaml", tmp_path / "types.yaml", tmp_path / "bench")


def test_a_stage_runs_on_given_files(bench: PipelineBench, tmp_path: Path) -> None:
    frames = deliver(tmp_path / "night", 2)
    for number, frame in enumerate(frames, start=1):
        made = bench.run("count", {"frame": frame}, parameters={"word": "found"})
        assert made.ok, made.report.evidence
        assert made.report.attempt.unit == f"exposure={number}"
        [line] = made.files["line"]
        assert line.name == f"line_000{number}_c0001a01.txt"
        assert line.read_text() == f"found {frame.stat().st_size}\n"
        assert made.files.keys() == {"line"}, "the other one is not kept"
        assert frame.name in made.log


def test_one_step_runs_on_what_the_step_before_would_have_made(bench: PipelineBench, tmp_path: Path) -> None:
    (tmp_path / "size.txt").write_text("17\n")
    made = bench.run("count", {"size": tmp_path / "size.txt"}, step="write", data_id={"exposure": 3})
    assert [path.read_text() for path in made.files["line"]] == ["night 17\n"]
    [frame] = deliver(tmp_path / "night", 1)
    [size] = bench.run("count", {"frame": frame}, step="measure").files["size"]
    assert int(size.read_text()) == frame.stat().st_size


def test_a_step_that_fails_tells_how(bench: PipelineBench, tmp_path: Path) -> None:
    (tmp_path / "measure.sh").write_text("echo the sky is falling >&2; exit 7\n")
    made = bench.run("count", {"frame": deliver(tmp_path / "night", 1)})
    assert (made.ok, made.fate, made.files) == (False, Fate.STEP_FAILED, {})
    assert "exited with code 7: the sky is falling" in made.report.evidence
    assert "the sky is falling" in made.log


def test_what_is_wrong_is_named(bench: PipelineBench, tmp_path: Path) -> None:
    [frame] = deliver(tmp_path / "night", 1)
    for stage, given, step, said in (
        ("cound", {"frame": frame}, None, "no stage named 'cound' (did you mean 'count'?)"),
        ("count", {"frame": frame}, "mesure", "no step named 'mesure' (did you mean 'measure'?)"),
        ("count", {"fram": frame}, None, "no input named 'fram' (did you mean 'frame'?)"),
    ):
        with pytest.raises(UnknownName) as told:
            bench.run(stage, given, step=step)
        assert told.value.message == said
    with pytest.raises(UnknownName, match="no parameter named 'wort'"):
        bench.run("count", {"frame": frame}, parameters={"wort": "x"})
    with pytest.raises(RequestRefused, match="input 'frame' of stage 'count' has 0 files, and needs 1; give some"):
        bench.run("count", {})
    with pytest.raises(BadMetadata, match="has no value for exposure"):
        bench.run("count", {"frame": deliver(tmp_path / "bad", 1, EXPNUM=None)})
    (tmp_path / "pipeline.yaml").write_text(PIPELINE.replace("per:", "pre:"))
    with pytest.raises(ConfigErrors, match=r"pipeline\.yaml:6"):
        PipelineBench(tmp_path / "pipeline.yaml", tmp_path / "types.yaml", tmp_path / "other")


TOLD = """\
pipeline: told
version: "1.0"
stages:
  solve:
    per: [night]
    inputs: {frame: {type: raw_science}}
    steps:
      - name: solve
        argv: [sh, "{pipeline_dir}/solve.sh"]
        outputs:
          points: {to: none, produces: "points.cat"}
          parts: {to: none, produces: "*.part", max: 3}
          heads: {type: head, produces: "im{exposure:04d}.head", tells: [exposure], max: 3}
      - name: join
        argv: [sh, -c, "cat $@ > {outputs.line}", join, "{inputs.points}", "{inputs.parts}", "{inputs.heads}"]
        inputs: [points, parts, heads]
        outputs: {line: {type: joined}}
"""
TOLD_TYPES = """\
  head:
    template: "head_{night}_{exposure:04d}_c{campaign:04d}a{attempt:02d}.head"
    metadata: {rms: {type: float, told: true, required: true}}
  joined: {template: "joined_{night}_c{campaign:04d}a{attempt:02d}.txt"}
"""
SOLVE = """\
echo points > points.cat; echo part > a.part; echo head > im0007.head
echo '{"output": "heads", "file": "im0007.head", "metadata": {"rms": 0.5}}' > $NIGHTMILL_SIDECAR
"""


@pytest.mark.req("X05")
def test_steps_tell_what_they_made_as_in_a_job(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(TOLD)
    (tmp_path / "types.yaml").write_text(FILE_TYPES + TOLD_TYPES)
    (tmp_path / "solve.sh").write_text(SOLVE)
    [frame] = deliver(tmp_path / "night", 1)
    bench = PipelineBench(tmp_path / "pipeline.yaml", tmp_path / "types.yaml", tmp_path / "bench")
    made = bench.run("solve", {"frame": frame}, data_id={"night": 20260110})
    assert made.ok, made.report.evidence
    assert {role: [path.name for path in paths] for role, paths in made.files.items()} == {
        "heads": ["head_20260110_0007_c0001a01.head"],
        "line": ["joined_20260110_c0001a01.txt"],
        "points": ["points.cat"],
        "parts": ["a.part"],
    }
    [line] = made.files["line"]
    assert line.read_text() == "points\npart\nhead\n"
    [head] = [file for file in made.report.made if file.role == "heads"]
    assert (head.data_id, head.metadata) == ({"night": 20260110, "exposure": 7}, {"rms": 0.5})
    alone = {role: made.files[role] for role in ("points", "parts", "heads")}
    again = bench.run("solve", alone, step="join", data_id={"night": 20260110})
    assert again.ok, again.report.evidence
    (tmp_path / "solve.sh").write_text(SOLVE.replace("0.5", '"0.5"'))
    failed = bench.run("solve", {}, step="solve", data_id={"night": 20260110})
    assert (
        "the sidecar of step 'solve' is wrong in line 1: rms is '0.5', and its type is float" in failed.report.evidence
    )


WITH_PLOT = PIPELINE.replace(
    "      - name: write\n",
    """      - name: plot
        argv: [sh, -c, "echo half > {outputs.plot}; echo no display; exit 7"]
        inputs: [size]
        outputs: {plot: {to: none, produces: plot.png, required: false}}
        on_failure: continue
      - name: write
""",
).replace("; ls ../inputs", "; ls ../outputs")


@pytest.mark.req("REQ-0013")
@pytest.mark.parametrize("on_failure", ["continue", "stop"])
def test_a_step_says_whether_its_failure_ends_the_job(bench: PipelineBench, tmp_path: Path, on_failure: str) -> None:
    text = WITH_PLOT.replace("on_failure: continue", f"on_failure: {on_failure}")
    (tmp_path / "pipeline.yaml").write_text(text)
    bench = PipelineBench(tmp_path / "pipeline.yaml", tmp_path / "types.yaml", tmp_path / "bench")
    [frame] = deliver(tmp_path / "night", 1)
    made = bench.run("count", {"frame": frame})
    ran = {step.name: step.exit_code for step in made.report.steps}
    assert made.ok is (on_failure == "continue")
    if on_failure == "stop":
        assert ran == {"measure": 0, "plot": 7}
        assert (made.report.fate, made.report.failed_step) == (Fate.STEP_FAILED, "plot")
        return
    assert ran == {"measure": 0, "plot": 7, "write": 0}
    assert made.files.keys() == {"line"}
    assert "no display\n== plot: step 'plot' exited with code 7; going on without it\n" in made.log
    assert "plot.png" not in made.log.partition("== write")[2], "what it left is not seen by later steps"


def test_a_step_that_may_fail_makes_nothing_that_is_required(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text(WITH_PLOT.replace(", required: false", ""))
    with pytest.raises(ConfigErrors, match=r"plot.outputs.plot: it may be lacking, .*; say required: false"):
        PipelineBench(tmp_path / "pipeline.yaml", tmp_path / "types.yaml", tmp_path / "bench")


def test_steps_in_images_run_by_what_the_bench_is_told(bench: PipelineBench, tmp_path: Path) -> None:
    needs_bubblewrap()
    image = f"tiny@{make_image(tmp_path / 'tiny')}"
    (tmp_path / "measure.sh").write_text('read name < /etc/os-release; echo $name > "$2"\n')
    (tmp_path / "pipeline.yaml").write_text(f"image: {image}\n{PIPELINE}")
    [frame] = deliver(tmp_path / "night", 1)
    paths = (tmp_path / "pipeline.yaml", tmp_path / "types.yaml")
    told = Containers(runtime="bubblewrap", images={image: tmp_path / "tiny"})
    made = PipelineBench(*paths, tmp_path / "one", containers=told).run("count", {"frame": frame})
    assert made.ok, made.report.evidence
    assert made.files["line"][0].read_text() == "night NAME=tiny\n"
    refused = PipelineBench(*paths, tmp_path / "two").run("count", {"frame": frame})
    assert "step 'measure' cannot be started: this host has no runtime for images" in refused.report.evidence
