"""What the command line tells of jobs, and of the files that they made."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nightmill.model.order import JobOrder
from nightmill.operations.site import open_site
from tests.cli.conftest import Nightmill, describe, take_in
from tests.docs.pages import REFERENCE, Page
from tests.examples.campaigns import run_campaign

TYPES = """\
  image: {template: "cam_{exposure:04d}_{detector:02d}_image_c{campaign:04d}a{attempt:02d}.txt"}
  count: {template: "cam_{exposure:04d}_{detector:02d}_count_c{campaign:04d}a{attempt:02d}.txt"}
  sum: {template: "cam_{detector:02d}_sum_c{campaign:04d}a{attempt:02d}.txt"}
"""
PIPELINE = """\
pipeline: counting
version: "1.0"
stages:
  count:
    per: [exposure, detector]
    inputs:
      frame: {type: raw_science}
    steps:
      - name: flatten
        argv: ["cp", "{inputs.frame}", "{outputs.flat}"]
        inputs: [frame]
        outputs:
          flat: {type: image, to: none}
      - name: measure
        argv: ["sh", "-c", "test {unit.exposure} != 3 && wc -c < $0 > $1", "{inputs.flat}", "{outputs.count}"]
        inputs: [flat]
        outputs:
          count: {type: count}
  add:
    per: [detector]
    when: any
    inputs:
      counts: {type: count, source: {stage: count}, min: 1, max: null}
    steps:
      - name: add
        argv: ["sh", "-c", "cat \\"$@\\" > {outputs.sum}", "sh", "{inputs.counts}"]
        inputs: [counts]
        outputs:
          sum: {type: sum, calibration: {set: sums, maturity: draft}}
"""
CAMPAIGN = """\
campaign: first
pipeline: pipeline.yaml
where: night == 20260110
overrides:
  stages:
    count:
      inputs:
        frame: {where: exposure < 9}
"""
SUM = "cam_01_sum_c0001a01.txt"
COUNT = "cam_0001_01_count_c0001a01.txt"


@pytest.fixture
def campaign(each_folder: Path, tmp_path: Path, nightmill: Nightmill) -> Path:
    """Give a site on which a campaign of two stages ran; the job of exposure 3 failed."""
    describe(each_folder, TYPES, PIPELINE, CAMPAIGN)
    take_in(nightmill, tmp_path / "night", 3)
    as_mask = ("--type", "mask", "--origin", "manual", "--provenance", "by hand")
    assert nightmill("ingest", tmp_path / "night" / "cam_0001.fits", *as_mask).code == 0
    with open_site(each_folder) as site:
        run_campaign(site, each_folder / "first.yaml")
    return each_folder


@pytest.mark.req("B22", "B36", "B13")
def test_the_whole_story_of_a_campaign(campaign: Path, nightmill: Nightmill) -> None:
    found = {each["name"]: each for each in nightmill("find", "--json").json}
    assert {name: each["origin"] for name, each in found.items()} == {
        **{f"cam_000{number}.fits": "raw" for number in (1, 2, 3)},
        "cam_0001_m001.fits": "manual",
        **{f"cam_000{number}_01_{kind}_c0001a01.txt": "batch" for number in (1, 2) for kind in ("image", "count")},
        SUM: "batch",
    }
    flat = found["cam_0001_01_image_c0001a01.txt"]
    assert (flat["copies"], flat["data_id"]["exposure"], flat["sha256"]) == ([], 1, found["cam_0001.fits"]["sha256"])
    logs = [each["name"] for each in nightmill("find", "--type", "log", "--all", "--json").json]
    assert len(logs) == 4
    assert len(nightmill("find", "--type", "log", "--json").json) == 3

    tree = nightmill("lineage", SUM).out.splitlines()
    assert tree[:6] == [
        f"{SUM} (sum, batch)",
        "  made by first/add/detector=1/a01 add",
        f"    counts: {COUNT} (count, batch)",
        "      made by first/count/exposure=1,detector=1/a01 measure",
        "        flat: cam_0001_01_image_c0001a01.txt (image, batch, not kept)",
        "          made by first/count/exposure=1,detector=1/a01 flatten",
    ]
    down = nightmill("lineage", "cam_0003.fits", "--down").out
    assert "used by first/count/exposure=3,detector=1/a01 flatten (succeeded, not the result of its job)" in down

    told = nightmill("why", "cam_0001_01_image_c0001a01.txt").out
    assert "was made by step flatten of first/count/exposure=1,detector=1/a01" in told
    assert "campaign (" in told
    assert "first.yaml:" in told
    assert "It is not kept" in told
    assert "Calibration in set sums, draft" in nightmill("why", SUM).out
    assert nightmill("why", SUM, "--json").json["made_by"]["inputs"][0]["name"] == COUNT
    shown = nightmill("show", SUM, "--json").json
    assert (shown["made_by"], shown["calibrations"]) == ("first/add/detector=1/a01 add", {"sums": "draft"})


def test_a_job_and_its_order(campaign: Path, nightmill: Nightmill) -> None:
    failed = nightmill("show", "first/count/exposure=3,detector=1").out
    assert "step_failed" in failed
    assert "code 1" in failed
    assert "backbone: first/count/counting_count_3-1_c0001a01.log" in failed
    job = nightmill("show", "first/count/exposure=1,detector=1", "--json").json
    assert (job["state"], job["shown"]["number"], len(job["executions"])) == ("done", 1, 2)
    assert job["inputs"][0]["name"] == "cam_0001.fits"
    order = JobOrder.model_validate_json(nightmill("show", "first/count/exposure=1,detector=1/a01", "--order").out)
    assert str(order.attempt) == "first/count/exposure=1,detector=1/a01"
    assert [item.name for item in order.inputs] == ["cam_0001.fits"]
    called = nightmill("show", "first/count/exposure=1,detector=1/a02", "--order")
    assert called.code == 2
    assert "has 1 attempts, and none is a02" in called.err
    called = nightmill("show", "first/count/exposure=1,detector=2")
    assert "no job of campaign 'first' named 'count/exposure=1,detector=2' (did you mean" in called.err


def test_a_campaign(campaign: Path, nightmill: Nightmill) -> None:
    told = nightmill("show", "first").out
    for part in ("counting 1.0", "night == 20260110", "stage count", "done=2, failed=1", "count/exposure=3,detector=1"):
        assert part in told
    plain = nightmill("show", "first", "--json").json
    assert [stage["stage"] for stage in plain["stages"]] == ["count", "add"]
    assert len(plain["jobs"]) == 4
    assert "did you mean 'first'" in nightmill("show", "frist").err


def test_json_has_the_keys_that_the_reference_lists(campaign: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    (tmp_path / "cut.fits").write_bytes(b"cut")
    offered = ("ingest", tmp_path / "cut.fits", "--type", "raw_science", "--origin", "raw")
    job = "first/count/exposure=1,detector=1"
    order = tmp_path / "order.json"
    order.write_text(nightmill("show", job, "--order").out)
    by_hand = (order, "--spool", tmp_path / "spool", "--scratch", tmp_path / "scratch")
    nightmill("calib", "pin", "release", "--set", "sums", "--why", "reviewed")
    printed = {
        "init": ("init", "."),
        "server status": ("server", "status"),
        "ingest": offered,
        "calib list": ("calib", "list"),
        "calib contexts": ("calib", "contexts"),
        "calib report": ("calib", "report", "first"),
        "plan": ("plan", "first.yaml"),
        "rerun --dry-run": ("rerun", "first", "--whole", "--dry-run"),
        "status": ("status",),
        "logs": ("logs", job),
        "find": ("find",),
        "find --refused": ("find", "--refused"),
        "show FILE": ("show", SUM),
        "show CAMPAIGN": ("show", "first"),
        "show JOB": ("show", job),
        "why": ("why", SUM),
        "lineage": ("lineage", SUM),
        "run": ("run", *by_hand),
        "record": ("record",),
        "recover": ("recover",),
        "backup": ("backup", tmp_path / "copy.db"),
        "retain": ("retain", "--dry-run"),
        "ops resources": ("ops", "resources"),
        "acts": ("acts",),
        "limit": ("limit",),
        "limit --store": ("limit", "--store", "backbone", "--transfers", "2", "--why", "slow disks"),
        "doctor": ("doctor",),
    }
    page = Page(REFERENCE / "json.md")
    listed = {
        verb: page.named(link[1])
        for row in page.rows("Verbs")
        for verb in re.findall("`([^`]+)`", row[0])
        if (link := re.search(r"\[(\w+)\]", row[1]))
    }
    found = {}
    for verb, arguments in printed.items():
        told = nightmill(*arguments, "--json").json
        found[verb] = list(told[0] if isinstance(told, list) else told)
    assert found == {verb: listed[verb] for verb in printed}
    elsewhere = {
        "withdraw",
        "retype",
        "exclude add",
        "exclude list",
        "exclude lift",
        "plans list",
        "plans remove",
    }  # which need files that no job reads, or saved plans
    elsewhere |= {"errors add", "errors list", "errors try"}  # test_errors.py
    elsewhere |= {"capsule run", "capsule diff"}  # which need a capsule
    elsewhere |= {"pause", "resume", "cancel", "hold", "release"}  # test_steering.py
    elsewhere |= {"priority", "limit CAMPAIGN", "sign-off"}
    elsewhere |= {"bring-home", "ops transfers"}  # test_shipping.py
    elsewhere |= {"ops inputs", "verify"}  # test_known.py, tests/spine/test_sealed.py
    elsewhere |= {"ship-logs"}  # test_ship_logs.py
    elsewhere |= {"compare", "regress", "ops software"}  # test_software.py
    elsewhere |= {"runner start", "runner stop", "runner status"}  # test_pool.py, tests/flows
    assert set(listed) - set(printed) - elsewhere == {"submit", "rerun", "server start", "server stop"}  # need a server
