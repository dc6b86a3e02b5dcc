from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from nightmill.backbone.catalogue import calibrations, registration
from nightmill.backbone.catalogue.registration import NewFile
from nightmill.backbone.catalogue.stores import store_ids
from nightmill.backbone.database import Database
from nightmill.cli import main
from nightmill.config.site import load_site
from nightmill.model.calibration import Maturity
from nightmill.model.origin import Origin
from nightmill.operations.identity import settle
from tests.planning.world import NIGHT, write_campaign

CERTIFIED: Any = {
    "valid_from": NIGHT,
    "valid_until": NIGHT,
    "maturity": Maturity.CERTIFIED,
    "who": "me",
    "why": "",
    "now": NIGHT,
}
SITE = """\
site: test
file_types: [file_types.yaml]
stores: {backbone: {url: stores/backbone}}
"""
TYPES = """\
file_types:
  raw_science: {format: fits}
  master_bias: {template: "{instrument}_{detector:02d}_bias_c{campaign:04d}a{attempt:02d}.fits"}
  image: {template: "{instrument}_{exposure:06d}_{detector:02d}_image_c{campaign:04d}a{attempt:02d}.fits"}
"""
MANY = """\
pipeline: many
version: "1.0"
stages:
  cut:
    per: [detector]
    inputs:
      raw: {type: raw_science, max: null}
    steps:
      - name: cut
        argv: [cut, "{inputs.raw}"]
        inputs: [raw]
        outputs:
          a: {type: cutout, produces: "a*", max: 12}
          b: {type: cutout, produces: "b*"}
"""
PLANNED = """\
campaign night1, number 1: pipeline ccd 1.0

stage science: 3 units, from what is there
unit\t\trole\tfile\twhy, or where to
exposure=7,detector=1\treads\traw\traw_7_1.fits\traw or manual, where night == 20260110; its files make the units
exposure=7,detector=1\treads\tbias\tbias_b.fits\tnearest in set ccd: 0.5 d before, of 2 candidates
exposure=7,detector=1\tmakes\timage\tnmcam_000007_01_image_c0001a01.fits\tbackbone
exposure=7,detector=1\tmakes\tlog\tccd_science_7-1_c0001a01.log\tbackbone
... and 2 more units: --limit 0 shows all

3 jobs in 1 stage; nothing was done
"""

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Make a site with three exposures and two biases, and give the command line in its folder."""
    (tmp_path / "nightmill.yaml").write_text(SITE)
    (tmp_path / "file_types.yaml").write_text(TYPES)
    write_campaign(tmp_path)
    config = load_site(tmp_path)
    database = Database(config.database_url)
    database.create()
    settle(config, database)
    with database.writing() as session:
        store_ids(session, config.stores)
        registration.register(
            session,
            [_raw(exposure) for exposure in (7, 8, 9)] + [_bias("bias_a.fits", -20), _bias("bias_b.fits", -0.5)],
            who="me",
            now=NIGHT,
        )
        calibrations.add(session, ["bias_a.fits", "bias_b.fits"], "ccd", **CERTIFIED)
    database.close()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NIGHTMILL_SITE", raising=False)

    def call(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        return int(ended.value.code or 0)

    return call


def _raw(exposure: int) -> NewFile:
    of: dict[str, str | int] = {"instrument": "nmcam", "night": 20260110, "exposure": exposure, "detector": 1}
    name = f"raw_{exposure}_1.fits"
    return NewFile(name, "raw_science", Origin.RAW, 1, "0" * 64, of, NIGHT, NIGHT, store="backbone", path=name)


def _bias(name: str, days: float) -> NewFile:
    of: dict[str, str | int] = {"instrument": "nmcam", "detector": 1}
    at = NIGHT + timedelta(days=days)
    return NewFile(
        name, "master_bias", Origin.MANUAL, 1, "1" * 64, of, at, at, provenance="x", store="backbone", path=name
    )


def test_a_plan_is_shown(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", "campaign.yaml", "--limit", "1") == 0
    *lines, digest, cost = capsys.readouterr().out.splitlines()
    assert lines == PLANNED.splitlines()
    assert re.fullmatch("digest [0-9a-f]{12}", digest)
    assert cost == "expected cost: unknown for science"


def test_the_limit_is_one_of_units_and_none_shows_all_that_they_read(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "file_types.yaml").open("a") as file:
        file.write('  cutout: {template: "{detector}_{role}_{n:03d}_c{campaign:04d}a{attempt:02d}.fits"}\n')
    (tmp_path / "campaign.yaml").write_text("campaign: night1\npipeline: many.yaml\n")
    (tmp_path / "many.yaml").write_text(MANY)
    database = Database(load_site(tmp_path).database_url)
    with database.writing() as session:
        registration.register(session, [_raw(exposure) for exposure in (10, 11)], who="me", now=NIGHT)
    database.close()
    assert run("plan", "campaign.yaml", "--limit", "1") == 0
    shown = capsys.readouterr().out
    assert (shown.count("\treads\t"), shown.count("\t... and 2 more\t")) == (4, 1)
    assert [shown.count(f"\tmakes\t{role}\t") for role in ("a", "b", "log")] == [12, 1, 1]
    assert run("plan", "campaign.yaml", "--limit", "0") == 0
    shown = capsys.readouterr().out
    assert (shown.count("\treads\t"), shown.count("... and")) == (5, 0)


def test_all_of_it_as_json(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", "campaign.yaml", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["campaign"], plan["number"], plan["problems"]) == ("night1", 1, [])
    (science,) = plan["stages"]
    assert [job["unit"] for job in science["jobs"]] == [f"exposure={exposure},detector=1" for exposure in (7, 8, 9)]
    assert science["jobs"][1]["inputs"]["bias"] == {
        "rule": "nearest in set ccd: 0.5 d before, of 2 candidates",
        "level": None,
        "origin": "pipeline (pipeline.yaml:11)",
        "files": [{"name": "bias_b.fits", "id": 5, "excluded": []}],
    }
    assert science["jobs"][1]["outputs"][0] == {
        "name": "nmcam_000008_01_image_c0001a01.fits",
        "type": "image",
        "step": "reduce",
        "role": "image",
        "to": "backbone",
    }


def test_a_flag_changes_one_choice_and_says_so(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    flag = "pipeline.stages.science.inputs.bias.lookup={strategy: list, files: [bias_a.fits]}"
    assert run("plan", "campaign.yaml", "--json", "--set", flag) == 0
    bias = json.loads(capsys.readouterr().out)["stages"][0]["jobs"][0]["inputs"]["bias"]
    assert bias["files"] == [{"name": "bias_a.fits", "id": 4, "excluded": []}]
    assert (bias["rule"], bias["origin"]) == ("listed in set ccd: by name", "command line")


@pytest.mark.req("B13")
def test_an_operators_file_changes_one_unit_and_says_why(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fix = tmp_path / "fix.yaml"
    fix.write_text("why: light\nunits: {exposure=8: {inputs: {bias: {where: name == 'bias_a.fits'}}, why: dark sky}}\n")
    assert run("plan", "campaign.yaml", "--override", "fix.yaml", "--limit", "0") == 0
    out = capsys.readouterr().out
    assert "exposure=8,detector=1\treads\tbias\tbias_a.fits\tnearest" in out
    assert "exposure=7,detector=1\treads\tbias\tbias_b.fits\tnearest" in out
    assert "units exposure=8: 1 unit, inputs or steps of their own (dark sky)" in out
    assert run("plan", "campaign.yaml", "--override", "fix.yaml", "--json") == 0
    jobs = json.loads(capsys.readouterr().out)["stages"][0]["jobs"]
    assert [(job["units"], job["inputs"]["bias"]["origin"]) for job in jobs[:2]] == [
        ("", "pipeline (pipeline.yaml:11)"),
        ("exposure=8", "override (fix.yaml:2)"),
    ]


@pytest.mark.req("B13")
def test_the_layers_that_speak_of_a_value_are_shown(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "nightmill.yaml").open("a") as file:
        file.write("defaults: {stage: {retries: 2}}\n")
    key = "pipeline.stages.science.retries"
    assert run("plan", "campaign.yaml", "--set", f"{key}=3", "--explain", key) == 0
    shown = capsys.readouterr().out.replace(f"{tmp_path}/", "")
    assert shown.splitlines()[1:] == [f"{key}\t\t2\tsite (nightmill.yaml:4)", f"{key}\t*\t3\tcommand line"]
    assert run("plan", "campaign.yaml", "--explain", key, "--json") == 0
    assert [(each["value"], each["counts"]) for each in json.loads(capsys.readouterr().out)] == [(2, True)]


@pytest.mark.parametrize("json_flag", [[], ["--json"]])
def test_a_plan_with_problems_is_refused_with_all_of_them(
    run: Run, capsys: pytest.CaptureFixture[str], json_flag: list[str]
) -> None:
    close = "pipeline.stages.science.inputs.bias.lookup.max_days=0.25"
    away = "pipeline.stages.science.steps.reduce.outputs.image.to=backbon"
    assert run("plan", "campaign.yaml", "--set", close, *json_flag) == 2
    said = capsys.readouterr()
    assert said.err.splitlines()[:2] == [
        "nightmill: campaign 'night1' cannot be planned: 1 problem",
        "  - stage 'science', input 'bias': no certified master_bias in set ccd for instrument=nmcam,detector=1 within"
        " 0.25 d: 3 units, as exposure=7,detector=1 (the nearest, bias_b.fits, is 0.5 d before);"
        " exposure=8,detector=1 (the nearest, bias_b.fits, is 0.5 d before);"
        " exposure=9,detector=1 (the nearest, bias_b.fits, is 0.5 d before)",
    ]
    if json_flag:
        assert json.loads(said.out)["problems"] == [line.removeprefix("  - ") for line in said.err.splitlines()[1:]]
    assert run("plan", "campaign.yaml", "--set", away) == 2
    assert "no store or working area named 'backbon' (did you mean 'backbone'?)" in capsys.readouterr().err


@pytest.mark.req("B14", "X16")
def test_what_a_flag_would_change_is_shown_with_what_decided(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    flag = "pipeline.stages.science.inputs.bias.lookup={strategy: list, files: [bias_a.fits]}"
    against = ("--set", flag, "--exclude", "exposure == 9", "--against", "campaign.yaml")
    assert run("plan", "campaign.yaml", *against, "--limit", "1") == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[:3] == [
        "before: campaign night1, as campaign.yaml says it",
        "after:  campaign night1, as it would be submitted now",
        "stage science: 3 -> 2 units: 2 with other inputs, 1 dropped",
    ]
    assert "exclude\t\t[{" in "\n".join(shown)
    assert shown[-2:] == [
        "science\texposure=7,detector=1\tinput\tbias\tbias_b.fits\tbias_a.fits\tnearest in set ccd: 0.5 d before, of 2"
        " candidates -> listed in set ccd: by name; pipeline (pipeline.yaml:11) -> command line",
        "... and 2 more changes: --limit 0 shows all",
    ]
    assert run("plan", "campaign.yaml", *against, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["same"], told["before"]["campaign"], len(told["after"]["digest"])) == (False, "night1", 64)
    assert [each["change"] for each in told["units"]] == ["input", "input", "dropped"]
    dropped = told["units"][2]
    assert (dropped["unit"], dropped["role"]) == ("exposure=9,detector=1", "")
    assert "exposure == 9; given with --exclude" in dropped["rule_after"]
    said = {each["key"]: (each["origin_before"], each["origin_after"]) for each in told["config"]}
    assert said["pipeline.stages.science.inputs.bias.lookup.strategy"] == (
        "pipeline (pipeline.yaml:11)",
        "command line",
    )
    assert run("plan", "campaign.yaml", "--against", "campaign.yaml") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nothing differs"


@pytest.mark.req("B15")
def test_another_set_changes_calibrations_alone(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = load_site(tmp_path)
    database = Database(config.database_url)
    database.write(lambda session: calibrations.add(session, ["bias_a.fits"], "other", **CERTIFIED))
    database.close()
    (tmp_path / "other.yaml").write_text((tmp_path / "campaign.yaml").read_text().replace("night1", "night1b"))
    set_ = "pipeline.stages.science.inputs.bias.source={calibrations: [other]}"
    assert run("plan", "other.yaml", "--set", set_, "--against", "campaign.yaml", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {(each["change"], each["role"], *each["before"], *each["after"]) for each in told["units"]} == {
        ("input", "bias", "bias_b.fits", "bias_a.fits")
    }
    assert [each["key"] for each in told["config"]] == ["pipeline.stages.science.inputs.bias.source.calibrations"]
