"""Capsules: a job in a folder, run, edited and compared on a host that has neither the site nor its database."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from astropy.io import fits

from nightmill.operations.site import open_site
from tests.cli.conftest import Nightmill, describe, take_in
from tests.cli.counting import FLATTEN, PIPELINE, TYPES
from tests.examples.campaigns import run_campaign
from tests.support.observatory import frame, stored

JOB = "first/count/exposure=1"
FAILED = "first/count/exposure=3"
FLAT = "cam_0001_flat_c0001a01.fits"
STARS = "cam_0001_stars_c0001a01.txt"


@pytest.fixture
def prepared(folder: Path, nightmill: Nightmill, tmp_path: Path) -> Path:
    """Give a site with three exposures and a campaign that was not submitted."""
    return _prepared(folder, nightmill, tmp_path)


@pytest.fixture
def site(prepared: Path) -> Path:
    """Give a site whose campaign ran; the job of exposure 3 failed."""
    with open_site(prepared) as opened:
        run_campaign(opened, prepared / "first.yaml")
    return prepared


def _prepared(folder: Path, nightmill: Nightmill, tmp_path: Path) -> Path:
    campaign = "campaign: first\npipeline: pipeline/pipeline.yaml\nparameters: {gain: 3.0}\n"
    describe(folder, TYPES, PIPELINE, campaign, at="pipeline/pipeline.yaml")
    (folder / "pipeline" / "flatten.py").write_text(FLATTEN)
    take_in(nightmill, tmp_path / "night", 3)
    return folder


def program(capsule: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start a program of a capsule from elsewhere, in an environment that knows nothing of the site."""
    name, *others = [str(argument) for argument in arguments]
    known = {"PATH": "/usr/bin:/bin", "NIGHTMILL_PYTHON": sys.executable, **environment}
    return subprocess.run(
        [capsule / name, *others], env=known, cwd="/", capture_output=True, text=True, check=False, timeout=120
    )


def report(capsule: Path, number: int = 1) -> Any:
    return json.loads((capsule / "runs" / str(number) / "report.json").read_text())


def test_a_capsule_runs_where_the_site_is_gone(site: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    called = nightmill("capsule", JOB, tmp_path / "mine", "--products")
    assert (called.code, called.err) == (0, "")
    assert called.out == (
        f"{JOB}/a01: its capsule is {tmp_path}/mine\n  1 input\n  2 recorded products\nrun it: {tmp_path}/mine/run\n"
    )
    capsule = tmp_path / "elsewhere" / "a capsule"
    capsule.parent.mkdir()
    (tmp_path / "mine").rename(capsule)
    os.chdir("/")
    shutil.rmtree(site)

    done = program(capsule, "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{JOB}/a01, run 1: done\n  flatten: exit code 0" in done.stdout
    made = capsule / "runs" / "1" / "products"
    assert sorted(path.name for path in made.iterdir()) == [FLAT, STARS, "counting_count_1_c0001a01.log"]
    assert (made / STARS).read_text() == "deep 1 peaks\n"
    assert float(fits.getdata(made / FLAT)[0, 0]) == 3.0
    called = nightmill("capsule", "diff", capsule)
    assert (called.code, called.err) == (0, "")
    assert called.out.splitlines() == [
        f"run 1 gives what is on record of {JOB}/a01",
        f"  flat {FLAT}: same bytes",
        f"  stars {STARS}: same bytes",
    ]


@pytest.mark.req("B54")
def test_one_command_writes_all_that_a_job_needs(
    each_folder: Path, nightmill: Nightmill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = _prepared(each_folder, nightmill, tmp_path)
    with open_site(site) as opened:
        run_campaign(opened, site / "first.yaml")
    monkeypatch.setenv("ARCHIVE_SECRET", "hunter2")
    before = stored(site), nightmill("sql", "SELECT count(*) AS n FROM audit", "--json").json
    mine = tmp_path / "mine"
    assert nightmill("capsule", "make", f"{JOB}/a01", mine).code == 0
    assert sorted(path.name for path in mine.iterdir()) == [
        "README.txt", "bundle", "commands.sh", "configuration.yaml", "environment.sh", "inputs", "order.json",
        "recorded.json", "run", "shell",
    ]  # fmt: skip
    assert (mine / "inputs" / "cam_0001.fits").read_bytes() == frame(1)
    assert stat.S_IMODE((mine / "inputs" / "cam_0001.fits").stat().st_mode) == 0o400
    assert stat.S_IMODE(mine.stat().st_mode) == 0o700
    (mine / "bundle" / "flatten.py").write_text(FLATTEN + "\n")  # its owner may edit it
    configuration = yaml.safe_load((mine / "configuration.yaml").read_text())
    assert configuration["parameters"] == {"gain": 3.0}
    assert configuration["origins"]["parameters.gain"].startswith("campaign (")
    assert configuration["inputs"][0]["said by"].startswith("pipeline (")
    assert [step["name"] for step in configuration["stage"]["steps"]] == ["flatten", "measure"]
    commands = (mine / "commands.sh").read_text()
    assert f'"$NIGHTMILL_PYTHON" ../bundle/flatten.py ../inputs/cam_0001.fits {FLAT} 3.0' in commands
    assert "MODE=deep sh -c" in commands
    assert "ran with nightmill" in (mine / "environment.sh").read_text()
    recorded = json.loads((mine / "recorded.json").read_text())
    assert [(each["role"], each["step"]) for each in recorded["made"]] == [("flat", "flatten"), ("stars", "measure")]
    assert recorded["made"][0]["metadata"] == {"gain": 3.0}
    assert [(each["name"], each["exit_code"]) for each in recorded["steps"]] == [("flatten", 0), ("measure", 0)]
    # nothing that it runs from leads to the site
    for path in (mine / "order.json", mine / "recorded.json", mine / "run", mine / "shell", mine / "commands.sh"):
        assert str(site) not in path.read_text(), path
    assert "hunter2" not in "".join(path.read_text() for path in mine.iterdir() if path.is_file())
    assert (stored(site), nightmill("sql", "SELECT count(*) AS n FROM audit", "--json").json) == before


@pytest.mark.req("B54", "B13")
def test_the_capsule_of_a_unit_has_what_is_said_of_it_alone(
    prepared: Path, nightmill: Nightmill, tmp_path: Path
) -> None:
    with (prepared / "first.yaml").open("a") as file:
        file.write("units: {exposure=1: {parameters: {gain: 5.0}, why: faint}}\n")
    with open_site(prepared) as opened:
        run_campaign(opened, prepared / "first.yaml")
    for exposure, gain, line in ((1, 5.0, 4), (2, 3.0, 3)):
        capsule = tmp_path / f"capsule{exposure}"
        called = nightmill("capsule", f"first/count/exposure={exposure}", capsule)
        assert called.code == 0, called.err
        told = yaml.safe_load((capsule / "configuration.yaml").read_text())
        assert told["parameters"] == {"gain": gain}
        assert told["origins"]["parameters.gain"].endswith(f"first.yaml:{line})")
        assert program(capsule, "run").returncode == 0
        assert nightmill("capsule", "diff", capsule).code == 0


@pytest.mark.req("B53", "REQ-0008")
def test_some_steps_go_on_from_what_others_made(site: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    assert nightmill("capsule", JOB, mine).code == 0
    done = program(mine, "run", "--steps", "measure")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "nightmill: step 'flatten' makes flat (flat), which the steps that are to be run read, and no run of this"
        " capsule made it; run that step before, as with --steps flatten, or give the file: --input flat=PATH\n"
    )
    assert not (mine / "runs").exists()
    assert program(mine, "run", "--steps", "flatten").returncode == 0
    assert sorted(path.name for path in (mine / "runs/1/products").iterdir()) == [
        FLAT,
        "counting_count_1_c0001a01.log",
    ]
    [scratch] = (mine / "runs/1/scratch").iterdir()
    (scratch / "outputs" / "peaks.txt").chmod(0o644)
    (scratch / "outputs" / "peaks.txt").write_text("edited\n")  # between two steps, by hand
    done = program(mine, "run", "--steps", "measure")
    assert done.returncode == 0, done.stderr
    assert f"  flat: {FLAT}, taken from run-1\n  peaks: peaks.txt, taken from run-1\n" in done.stdout
    assert (mine / "runs/2/products" / STARS).read_text() == "deep edited\n"
    assert [step["name"] for step in report(mine, 2)["steps"]] == ["measure"]
    # run 2 made nothing of flatten: the newest run that did is taken again
    assert program(mine, "run", "--steps", "measure").returncode == 0
    assert [each["store"] for each in report(mine, 3)["order"]["taken"]] == ["run-1", "run-1"]
    called = nightmill("capsule", "diff", mine)
    assert called.code == 1
    assert f"  stars {STARS}: differs" in called.out.splitlines()
    assert "flat" not in [line.split()[0] for line in called.out.splitlines() if line.startswith("  flat ")]
    done = program(mine, "run", "--steps", "mesure")
    assert done.returncode == 2
    assert "no step named 'mesure' (did you mean 'measure'?); the job has flatten, measure" in done.stderr


@pytest.mark.req("B52", "B55")
def test_loose_files_take_the_place_of_inputs(site: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    mine, flat_folder = tmp_path / "mine", tmp_path / "any folder"
    assert nightmill("capsule", JOB, mine, "--products").code == 0
    loose = tmp_path / "my edit.fits"
    loose.write_bytes(frame(7))
    done = program(mine, "run", "--input", f"frame={loose}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == f"in place of cam_0001.fits: {loose}\n"
    assert (mine / "runs/1/products" / STARS).read_text() == "deep 7 peaks\n"
    assert (mine / "runs/1/replaced/cam_0001.fits").read_bytes() == frame(7)
    flat_folder.mkdir()
    (flat_folder / "cam_0001.fits").write_bytes(frame(8))
    (flat_folder / "notes.txt").write_text("mine")
    done = program(mine, "run", "--inputs", flat_folder)
    assert "passed over, since no input has its name: notes.txt" in done.stderr
    assert (mine / "runs/2/products" / STARS).read_text() == "deep 8 peaks\n"
    (tmp_path / "peaks").write_text("by hand\n")
    given = ("--input", f"peaks={tmp_path / 'peaks'}", "--input", f"flat={mine / 'recorded' / FLAT}")
    assert program(mine, "run", "--steps", "measure", *given).returncode == 0
    assert (mine / "runs/3/products" / STARS).read_text() == "deep by hand\n"
    assert len(nightmill("find", "--type", "raw_science", "--json").json) == 3

    called = nightmill("capsule", "diff", mine, "--run", 1, "--json")
    assert called.code == 1
    told = called.json
    assert (told["run"], told["equal"]) == (1, False)
    assert told["changed"] == ["input frame cam_0001.fits was replaced"]
    [flat, stars] = told["outputs"]
    assert (flat["verdict"], stars["verdict"]) == ("differs", "differs")
    assert flat["differences"] == ["HDU 0: EXPNUM: 1, now 7", "HDU 0: 16 pixels differ (100.000%), by 18 at most"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--input", "frame"), "--input 'frame' is not of the form ROLE=PATH; write --input frame=my.fits"),
        (("--input", "frame=/no/such"), "/no/such is not there, and was given as an input; give the path of a file"),
        (("--input", "frame=/dev/null"), "/dev/null is not a regular file, and was given as an input"),
        (("--input", "fram=/etc/hostname"), "no input named 'fram' (did you mean 'frame'?); what the job was not"),
        (("--input", "stars=/etc/hostname"), "'stars' is what step 'measure' makes, and no step that is run reads it"),
        (("--inputs", "/proc/self/task"), "has the name of an input of the job; its inputs are called: cam_0001.fits"),
        (("--inputs", "/no/such"), "--inputs /no/such cannot be read: No such file or directory"),
        (("--set", "parameters.gain=4"), "--set parameters.gain=4: parameters stand in the commands of the order"),
    ],
)
def test_what_cannot_be_given_is_refused_and_nothing_is_run(
    site: Path, nightmill: Nightmill, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    mine = tmp_path / "mine"
    assert nightmill("capsule", JOB, mine).code == 0
    called = nightmill("capsule", "run", mine, *arguments)
    assert (called.code, called.out) == (2, "")
    assert message in called.err
    assert not (mine / "runs").exists()


def test_an_edited_pipeline_is_run_and_told(site: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    assert nightmill("capsule", FAILED, mine).code == 0
    done = program(mine, "run")
    assert done.returncode == 1
    assert "step 'measure' exited with code 1" in done.stderr
    called = nightmill("capsule", "diff", mine)  # it fails as it did, and makes the flat that nobody has kept
    assert called.code == 1
    assert "  flat cam_0003_flat_c0001a01.fits: added" in called.out
    done = program(mine, "shell", "-c", "pwd; ls ../inputs ../outputs; echo $MODE $TZ $SHELL")
    assert done.returncode == 0, done.stderr
    where, *lines = done.stdout.splitlines()
    assert where.startswith(str(mine / "shells" / "1" / "scratch"))
    assert where.endswith("/work")
    assert lines == [
        "../inputs:", "cam_0003.fits", "", "../outputs:", "cam_0003_flat_c0001a01.fits", "peaks.txt", "deep UTC",
    ]  # fmt: skip
    (mine / "bundle" / "flatten.py").write_text(FLATTEN.replace("number * float", "5 * float"))
    assert program(mine, "run", "--steps", "flatten").returncode == 0
    [made] = (mine / "runs/2/products").glob("*.fits")
    assert float(fits.getdata(made)[0, 0]) == 15.0
    told = nightmill("capsule", "diff", mine, "--json").json
    assert told["changed"] == ["the pipeline's folder was edited", "it ran flatten alone"]


def test_a_job_that_never_ran(prepared: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    from nightmill.config.campaign import load_campaign
    from nightmill.operations.submit import submit
    from nightmill.operations.turns import take_turn

    with open_site(prepared) as opened:
        submit(opened, load_campaign(prepared / "first.yaml"), who="tester")
        take_turn(opened, "first", "count")
    mine = tmp_path / "mine"
    called = nightmill("capsule", JOB, mine)
    assert f"{JOB}/a01: it never ran; its capsule is {mine}" in called.out
    assert not (mine / "recorded.json").exists()
    assert program(mine, "run").returncode == 0
    called = nightmill("capsule", "diff", mine)
    assert called.code == 2
    assert f"nothing is on record of {JOB}/a01: the job had not run when its capsule was written" in called.err
    assert "the job never ran, and has none" in nightmill("capsule", JOB, tmp_path / "two", "--products").err
    assert not (tmp_path / "two").exists()


def test_a_capsule_is_whole_or_not_there(site: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    called = nightmill("capsule", "first", mine)
    assert (called.code, called.err) == (2, "nightmill: 'first' is not a job; write CAMPAIGN/STAGE/UNIT\n")
    assert "has 1 attempts" in nightmill("capsule", f"{JOB}/a02", mine).err or not mine.exists()
    called = nightmill("capsule", JOB, site)
    assert called.err == f"nightmill: {site} exists and is not an empty folder; give the capsule a new folder\n"
    assert "cannot be written" in nightmill("capsule", JOB, tmp_path / "no" / "such").err
    [raw] = [path for path in (site / "stores/backbone").rglob("cam_0001.fits")]
    content = raw.read_bytes()
    raw.chmod(0o644)
    raw.write_bytes(content[:-1] + b"x")
    called = nightmill("capsule", JOB, mine)
    assert called.code == 2
    assert "input frame cam_0001.fits cannot be had: " in called.err
    assert "is not what was registered: its bytes have changed; bring back a good copy of it" in called.err
    assert [path.name for path in tmp_path.iterdir() if "mine" in path.name] == []


def test_links_are_for_what_nobody_may_write_to(site: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    called = nightmill("capsule", JOB, tmp_path / "linked", "--link")
    assert "  1 input, 1 of them linked\n" in called.out
    [link] = (tmp_path / "linked" / "inputs").iterdir()
    assert link.is_symlink()
    assert program(tmp_path / "linked", "run").returncode == 0
    [staged] = (tmp_path / "linked" / "runs/1/scratch").glob("*/inputs/*")
    assert not staged.is_symlink()  # a step never has the link
    link.resolve().chmod(0o644)
    called = nightmill("capsule", JOB, tmp_path / "copied", "--link")
    assert "  1 input, 0 of them linked\n" in called.out
    assert not (tmp_path / "copied/inputs" / link.name).is_symlink()


def test_a_capsule_that_was_tampered_with(site: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    assert nightmill("capsule", JOB, mine).code == 0
    assert "this is not a capsule: it has no order.json" in nightmill("capsule", "run", tmp_path).err
    called = nightmill("capsule", "diff", mine)
    assert called.err == f"nightmill: the capsule {mine} was not run yet; run it: {mine}/run\n"
    copy = mine / "inputs" / "cam_0001.fits"
    copy.chmod(0o600)
    copy.write_bytes(frame(1, OBJECT="NGC 1"))
    done = program(mine, "run")
    assert done.returncode == 1
    assert "input frame (raw_science) cam_0001.fits has checksum" in done.stderr
    assert "a file that you have changed is an input of yours: give it with --input" in done.stderr
    done = program(mine, "run", "--input", f"frame={copy}")
    assert done.returncode == 0, done.stderr
    [scratch] = (mine / "runs/2/scratch").iterdir()
    (scratch / "made.json").write_text('{"steps": 3}')
    called = nightmill("capsule", "diff", mine)
    assert called.code == 2
    assert "made.json: it does not say what was made; remove" in called.err
    assert "no run named '7'" in nightmill("capsule", "diff", mine, "--run", 7).err or called.code == 2
    (mine / "order.json").write_text("{}")
    called = nightmill("capsule", "run", mine)
    assert f"{mine}/order.json: this is not an order: attempt: Field required; write the capsule anew" in called.err


def test_a_step_cannot_pretend_to_have_made_something(site: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    assert nightmill("capsule", JOB, mine).code == 0
    lie = '{"steps": ["flatten"], "made": {"flat": ["../../../../../etc/hostname"], "peaks": []}}'
    (mine / "bundle" / "flatten.py").write_text(
        f"import os, sys\nopen('../made.json', 'w').write({lie!r})\nos.symlink('/etc', '../outputs/etc')\nsys.exit(3)\n"
    )
    assert program(mine, "run").returncode == 1
    done = program(mine, "run", "--steps", "measure")
    assert done.returncode == 2
    assert "no run of this capsule made it" in done.stderr


def test_no_python_has_nightmill(site: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    assert nightmill("capsule", JOB, mine).code == 0
    text = (mine / "run").read_text().replace(sys.executable, "/no/such/python")
    (mine / "run").write_text(text)
    done = program(mine, "run", NIGHTMILL_PYTHON="", PATH="/usr/bin:/bin")
    assert done.returncode == 3
    assert "run: no Python was found that has nightmill" in done.stderr


def test_names_and_values_that_a_shell_would_obey(prepared: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    pipeline = prepared / "pipeline" / "pipeline.yaml"
    hostile = 'MODE: "x\\ntouch OWNED; $(touch OWNED)"'
    pipeline.write_text(PIPELINE.replace("MODE: deep", hostile))
    with open_site(prepared) as opened:
        run_campaign(opened, prepared / "first.yaml")
    mine = tmp_path / "mine"
    assert nightmill("capsule", JOB, mine).code == 0
    done = subprocess.run(
        ["sh", "-c", ". ./environment.sh && echo $TZ"], cwd=mine, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("UTC\n", "")
    assert not list(tmp_path.rglob("OWNED"))
