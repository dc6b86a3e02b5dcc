"""A campaign whose step runs in an image: from the pipeline's document to the record, and again in a capsule."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from nightmill.operations.site import open_site
from tests.cli.conftest import Nightmill, describe, take_in
from tests.cli.counting import FLATTEN, PIPELINE, TYPES
from tests.examples.campaigns import run_campaign
from tests.support.image import make_image, needs_bubblewrap

JOB = "first/count/exposure=1"
STARS = "cam_0001_stars_c0001a01.txt"


@pytest.fixture
def image(tmp_path: Path) -> str:
    needs_bubblewrap()
    return f"tiny@{make_image(tmp_path / 'tiny')}"


@pytest.fixture
def site(folder: Path, nightmill: Nightmill, tmp_path: Path, image: str) -> Path:
    """Give a site with one exposure, and a campaign whose second step runs in an image; nothing was submitted."""
    pipeline = PIPELINE.replace("      - name: measure\n", f"      - name: measure\n        image: {image}\n")
    describe(folder, TYPES, pipeline.replace("deep", "$(cat /etc/os-release)"), at="pipeline/pipeline.yaml")
    (folder / "pipeline" / "flatten.py").write_text(FLATTEN)
    with (folder / "nightmill.yaml").open("a") as file:
        file.write(f"containers:\n  runtime: bubblewrap\n  images:\n    {image}: {tmp_path / 'tiny'}\n")
    take_in(nightmill, tmp_path / "night", 1)
    return folder


def ran(site: Path) -> None:
    """Let the campaign run."""
    with open_site(site) as opened:
        run_campaign(opened, site / "first.yaml")


@pytest.mark.req("X33", "F40", "F51")
def test_from_the_pipeline_to_the_record(site: Path, nightmill: Nightmill, image: str) -> None:
    doctor = nightmill("doctor")
    assert "container runtime bubblewrap: bubblewrap" in doctor.out
    assert f"image {image}: " in doctor.out
    ran(site)
    shown = nightmill("show", JOB)
    assert "state    done" in shown.out, shown.out
    assert f"measure in image {image}, by bubblewrap" in shown.out
    assert "flatten in image" not in shown.out
    flatten, measure = nightmill("show", JOB, "--json").json["executions"]
    assert measure["software"]["container"]["image"] == image
    assert "container" not in flatten["software"]
    why = nightmill("why", STARS, "--json").json
    assert image in str(why)


def test_what_is_not_there_ends_the_job_and_doctor_says_so(site: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    (tmp_path / "tiny").rename(tmp_path / "gone")
    doctor = nightmill("doctor")
    assert doctor.code == 1
    assert f"{tmp_path / 'tiny'} is not a folder; unpack it there" in doctor.out
    ran(site)
    shown = nightmill("show", JOB)
    assert "step_not_started" in shown.out
    assert "is not on this host" in shown.out
    assert "flatten" not in shown.out.partition("attempt a01")[2].partition("role")[0]


def test_a_tag_is_refused_by_the_plan(site: Path, nightmill: Nightmill) -> None:
    called = nightmill("plan", "first.yaml", "--set", "pipeline.stages.count.steps.measure.image=tiny:latest")
    assert called.code == 2
    assert "stages.count.steps.measure.image: 'tiny:latest' does not say which image for ever" in called.err
    assert "write NAME@sha256:DIGEST" in called.err


@pytest.mark.req("F51")
def test_what_a_site_does_not_say_is_a_problem_of_the_plan(site: Path, nightmill: Nightmill, image: str) -> None:
    written = (site / "nightmill.yaml").read_text()
    (site / "nightmill.yaml").write_text(written.replace(image, f"other@sha256:{'0' * 64}"))
    called = nightmill("plan", "first.yaml")
    topic = f"stage 'count', step 'measure': it runs in image {image}, and the site"
    assert called.code == 2
    assert f"{topic} does not say where it lies; name its place under containers.images of nightmill.yaml" in called.err
    (site / "nightmill.yaml").write_text(written.partition("containers:")[0])
    assert (
        f"{topic} names no runtime for images; name one under containers.runtime" in nightmill("plan", "first.yaml").err
    )
    (site / "nightmill.yaml").write_text(f"{written.partition('containers:')[0]}containers: {{runtime: none}}\n")
    assert nightmill("plan", "first.yaml").code == 0


def _at_a_terminal(argv: list[str], typed: str) -> str:
    """Run a program at a terminal, type into it, and return all that was shown until it ended."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(argv[0], argv)
    shown = b""
    os.write(terminal, typed.encode())
    with suppress(OSError):  # the end of a terminal
        while some := os.read(terminal, 4096):
            shown += some
    os.close(terminal)
    os.waitpid(pid, 0)
    return shown.decode()


@pytest.mark.req("F39")
def test_a_capsule_runs_in_the_image_by_the_site_that_one_is_in(
    site: Path, nightmill: Nightmill, tmp_path: Path, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran(site)
    capsule = tmp_path / "capsule"
    assert nightmill("capsule", JOB, capsule).code == 0
    assert image in (capsule / "README.txt").read_text()
    assert f"#   in image {image}\n" in (capsule / "commands.sh").read_text()
    assert nightmill("capsule", "run", capsule).code == 0
    assert nightmill("capsule", "diff", capsule).code == 0

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "version").write_text("mine\n")
    script = "cat /etc/os-release /opt/code/version; ls ../bundle ../outputs"
    options = ["--step", "measure", "--bind", f"/opt/code={tmp_path / 'mine'}", "-c", script]
    shell = [sys.executable, "-m", "nightmill", "capsule", "shell", str(capsule)]
    said = subprocess.run([*shell, *options], capture_output=True, text=True, check=False)
    assert said.stdout.splitlines()[:2] == ["NAME=tiny", "mine"], said.stderr
    assert "flatten.py" in said.stdout
    assert "cam_0001_flat" in said.stdout

    typed = "pwd; cat /etc/os-release /opt/code/version; env; (echo x > ../inputs/mine); exit\n"
    shown = _at_a_terminal([*shell, *options[:-2]], typed)
    assert "step measure of first/count/exposure=1/a01" in shown
    assert "/work\r\nNAME=tiny\r\nmine\r\n" in shown
    assert "Read-only file system" in shown
    assert "NIGHTMILL_SIDECAR=" in shown

    monkeypatch.chdir(tmp_path)
    elsewhere = nightmill("capsule", "run", capsule)
    assert elsewhere.code == 1
    assert "step 'measure' cannot be started: this host has no runtime for images" in elsewhere.err
    assert nightmill("capsule", "run", capsule, "--site", site).code == 0
    here = nightmill("capsule", "run", capsule, "--runtime", "none", "--json")
    assert here.code == 0, here.err
    assert nightmill("capsule", "run", capsule, "--runtime", "nine").err.startswith("nightmill: --runtime: runtime is")
    refused = nightmill("capsule", "run", capsule, "--bind", "code")
    assert (refused.code, "--bind 'code' is not of the form PATH=HERE" in refused.err) == (2, True)
