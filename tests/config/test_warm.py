"""Which steps may be forks of a process that has imported their modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.config.pipeline import load_pipeline
from tests.config.documents import PIPELINE, write
from tests.config.test_pipeline import problems

FORM = "science.steps.reduce.warm: warm needs a step that begins with '{python}' and a script, or '{python}', '-m' and"
COMMAND = 'argv: ["{python}", "reduce.py", "{inputs.frame}", "{inputs.bias}", "{outputs.image}"]'


@pytest.mark.parametrize(
    "argv", ["python, reduce.py", "'{python}'", "'{python}', -c, pass", "'{python}', -u, reduce.py"]
)
def test_what_the_interpreter_alone_can_run_is_refused(tmp_path: Path, argv: str) -> None:
    found = problems(tmp_path, (COMMAND, f"argv: [{argv}]\n        warm: [astropy.io.fits]"))
    assert any(FORM in problem for problem in found), found


def test_warm_names_modules(tmp_path: Path) -> None:
    [found] = problems(tmp_path, (COMMAND, f"{COMMAND}\n        warm: [astropy.io.fits, from scipy]"))
    assert "reduce.warm: warm names modules to import, as astropy.io.fits, and 'from scipy' cannot be one" in found


CALL = "call: ccd.detect:main"


def test_a_script_a_module_and_a_function_may_be_warm(tmp_path: Path) -> None:
    text = PIPELINE.replace(CALL, f"{CALL}\n        warm: [x]")
    for command in ("'{python}', reduce.py", "'{python}', '{pipeline_dir}/reduce.py', -c", "'{python}', -m, reduce"):
        write(tmp_path, "pipeline.yaml", text.replace(COMMAND, f"argv: [{command}]\n        warm: [a.b, c]"))
        reduce, detect = load_pipeline(tmp_path / "pipeline.yaml").stage("science").steps
        assert (reduce.warm, detect.warm) == (("a.b", "c"), ("x",))


def test_a_plan_without_warm_steps_keeps_its_digest(tmp_path: Path) -> None:
    assert '"warm"' not in load_pipeline(write(tmp_path, "pipeline.yaml", PIPELINE)).model_dump_json()
