"""``nightmill calib report``: of a campaign on record and of a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.config.campaign import load_campaign
from nightmill.operations.site import open_site
from nightmill.operations.submit import submit
from tests.cli.conftest import Nightmill, describe
from tests.support.observatory import deliver

TYPES = """
  flat:
    format: fits
    metadata:
      exposure: {keywords: [EXPNUM], type: int}
      detector: {keywords: [CCDNUM], type: int}
      begins_at: {keywords: [DATE-OBS], type: time}
    calibration: {set: flats, valid_days_before: 1, valid_days_after: 9, maturity: certified}
  divided: {template: "cam_{exposure:04d}_{detector}_c{campaign:04d}a{attempt:02d}.fits"}
"""
PIPELINE = """\
pipeline: dividing
version: "1.0"
stages:
  divide:
    per: [exposure, detector]
    inputs:
      frame: {type: raw_science}
      flat:
        type: flat
        source: {calibrations: [flats]}
        lookup: [{strategy: nearest, max_days: 2}, {strategy: nearest, max_days: 90}]
        missing: hold
    steps:
      - name: divide
        argv: ["cp", "{inputs.frame}", "{outputs.divided}"]
        inputs: [frame, flat]
        outputs: {divided: {type: divided}}
"""


@pytest.fixture
def site(folder: Path, nightmill: Nightmill, tmp_path: Path) -> Path:
    """Give a site with a good flat of detector 1, an old one of detector 2, and none of detector 3."""
    describe(folder, TYPES, PIPELINE)
    for detector in (1, 2, 3):
        for path in deliver(tmp_path / "raw", 2, CCDNUM=detector):
            path.rename(path.with_name(f"d{detector}_{path.name}"))
    for detector, day in ((1, "2026-01-10"), (2, "2025-12-01")):
        for path in deliver(tmp_path / "flats", 1, CCDNUM=detector, DATE_OBS=f"{day}T20:00:00"):
            path.rename(path.with_name(f"flat{detector}.fits"))
    for kind, where in (("raw_science", "raw"), ("flat", "flats")):
        called = nightmill("ingest", tmp_path / where, "--type", kind, "--origin", "raw")
        assert called.code == 0, called.err
    return folder


TOLD = """\
its units need 6 calibrations: 2 are lacking, 2 are poorer than the best level, 2 are over 30 d away

input\ttype\tunits\tlack\tunits by level\tmedian days\tworst days\tfiles\tmost used
divide/flat\tflat\t6\t2\t1: 2, 2: 2\t20.3\t40.3\t2\tflat1.fits serves 2

to ask for, the most wanted first:
type\tof\tlack\tpoorer\tover 30 d\tworst days\tfor
flat\tdetector=3\t2\t0\t0\t\tnight 20260110
flat\tdetector=2\t0\t2\t2\t40.3\tnight 20260110
"""


def test_a_file_and_what_is_on_record_are_told_alike(site: Path, nightmill: Nightmill) -> None:
    assert nightmill("calib", "report", "first.yaml").out == f"campaign first, as it would be planned now\n{TOLD}"
    planned = nightmill("calib", "report", "first.yaml", "--json").json
    with open_site(site) as opened:
        submit(opened, load_campaign(site / "first.yaml"))
    assert nightmill("calib", "report", "first").out == f"campaign first, as its jobs are sealed\n{TOLD}"
    sealed = nightmill("calib", "report", "first", "--json").json
    assert (planned.pop("on_record"), sealed.pop("on_record")) == (False, True)
    assert sealed == planned
    assert planned["inputs"][0]["most_used"] == [{"file": "flat1.fits", "units": 2}, {"file": "flat2.fits", "units": 2}]
    assert planned["wanted"][0]["of"] == {"detector": "3"}


def test_what_has_come_since_is_not_asked_for(site: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    with open_site(site) as opened:
        submit(opened, load_campaign(site / "first.yaml"))
    [path] = deliver(tmp_path / "more", 1, CCDNUM=3)
    path.rename(path.with_name("flat3.fits"))
    assert nightmill("ingest", tmp_path / "more", "--type", "flat", "--origin", "raw").code == 0
    assert [each["of"] for each in nightmill("calib", "report", "first", "--json").json["wanted"]] == [
        {"detector": "2"}
    ]


def test_another_strategy_is_tried_before_anything_is_submitted(site: Path, nightmill: Nightmill) -> None:
    lookup = "pipeline.stages.divide.inputs.flat.lookup"
    report = ("calib", "report", "first.yaml", "--json")
    usual = nightmill(*report).json["inputs"][0]
    called = nightmill(*report, "--set", f"{lookup}=[{{strategy: valid}}]")
    assert called.code == 0, called.err
    valid = called.json["inputs"][0]
    assert (usual["lacking"], usual["levels"]) == (2, {"1": 2, "2": 2})
    assert (valid["lacking"], valid["levels"], valid["files"]) == (4, {"1": 2}, 1)


def test_nothing_to_ask_for_is_said_and_limits_and_mistakes_too(site: Path, nightmill: Nightmill) -> None:
    assert "... and 1 more: --limit 0 shows all" in nightmill("calib", "report", "first.yaml", "--limit", 1).out
    alone = nightmill("calib", "report", "first.yaml", "--set", "where=detector == 1")
    assert alone.out.endswith("\nnothing to ask for: each is of the best level, and at most 30 d away\n")
    near = nightmill("calib", "report", "first.yaml", "--set", "where=detector == 1", "--older-than", "0.1")
    assert "flat\tdetector=1\t0\t0\t2\t0.3\tnight 20260110" in near.out
    assert "no campaign named 'fist'" in nightmill("calib", "report", "fist").err
    never = nightmill("calib", "report", "first.yaml", "--older-than", "inf")
    assert (never.code, "--older-than inf is not a number of days; write 30, or 0.5" in never.err) == (2, True)
    refused = nightmill("calib", "report", "first", "--set", "where=detector == 1")
    assert refused.code == 2
    assert "first is on record, and not changed by --set and --override; give the file of a campaign" in refused.err
    empty = nightmill("calib", "report", "first.yaml", "--set", "where=detector == 9")
    assert "its plan has problems (1): 'nightmill plan' tells them" in empty.out
    assert "no calibration is looked up for its units" in empty.out
