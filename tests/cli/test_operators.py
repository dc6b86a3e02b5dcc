"""Verbs that change a site: for its operators alone where it names them, and each act on record."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from nightmill.cli import VERBS
from nightmill.operations.site import open_site
from tests.cli.conftest import Nightmill, describe
from tests.examples.campaigns import run_again, run_campaign
from tests.support.observatory import deliver, stored

PIPELINE = """\
pipeline: copying
version: "1.0"
stages:
  copy:
    per: [exposure]
    inputs:
      frame: {type: raw_science}
    steps:
      - name: copy
        argv: ["cp", "{inputs.frame}", "{outputs.copy}"]
        inputs: [frame]
        outputs:
          copy: {type: copy}
"""
TYPES = '  copy: {template: "cam_{exposure:04d}_copy_c{campaign:04d}a{attempt:02d}.fits"}\n'
OF_SET = ("--set", "ccd", "--why", "looked at it")
SPAN = ("--from", "2026-01-01", "--until", "2026-02-01")
ACTS = {
    "init": ("init", "."),
    "ingest": ("ingest", "../night", "--type", "raw_science", "--origin", "raw"),
    "retype": ("retype", "cam_0001.fits", "--type", "raw_bias", "--why", "the shutter was shut"),
    "withdraw": ("withdraw", "cam_0001.fits", "--why", "of another telescope"),
    "exclude add": ("exclude", "add", "--exposure", "9", "--why", "clouds"),
    "exclude lift": ("exclude", "lift", "1", "--why", "the other night"),
    "errors add": ("errors", "add", "errors.yaml", "--why", "seen twice"),
    "errors on": ("errors", "on", "cloudy", "--why", "tried it"),
    "errors off": ("errors", "off", "cloudy", "--why", "names too much"),
    "plans remove": ("plans", "remove", "0a1b2c", "--why", "the night was bad"),
    "submit": ("submit", "first.yaml"),
    "rerun": ("rerun", "first"),
    "pause": ("pause", "first", "--why", "clouds"),
    "resume": ("resume", "first", "--why", "clear"),
    "hold": ("hold", "first", "--why", "look at it"),
    "release": ("release", "first", "--why", "looked at it"),
    "priority": ("priority", "first", "3", "--why", "the telescope waits"),
    "limit": ("limit", "first", "--jobs", "2", "--avoid-host", "node3*", "--why", "its disk fails"),
    "sign-off": ("sign-off", "first", "--why", "it looks right"),
    "cancel": ("cancel", "first", "--why", "the wrong night"),
    "recover": ("recover", "--yes", "--why", "the disk failed"),
    "backup": ("backup", "../copy.db"),
    "retain": ("retain",),
    "regress": ("regress", "cam_0001.fits"),
    "bring-home": ("bring-home",),
    "calib add": ("calib", "add", "cam_0001.fits", *OF_SET, *SPAN),
    "calib certify": ("calib", "certify", "cam_0001.fits", *OF_SET),
    "calib withdraw": ("calib", "withdraw", "cam_0001.fits", *OF_SET),
    "calib pin": ("calib", "pin", "release-1", *OF_SET),
}
LIMIT_STORE = ("limit", "--store", "backbone", "--transfers", "2", "--why", "its disks are slow")
"""Another act of a verb that has one."""
FOR_ALL = {
    "verify",
    "ops",
    "acts",
    "logs",
    "plan",
    "status",
    "find",
    "show",
    "why",
    "lineage",
    "compare",
    "sql",
    "doctor",
    "schema",
    "capsule",
    "ship-logs",
}
"""Ask, and change nothing."""
OF_PROCESSES = {"server", "runner", "run", "record", "demo"}
"""Start and stop processes, do what was submitted, or make a site of their own."""


@pytest.fixture
def site(each_folder: Path, nightmill: Nightmill, tmp_path: Path) -> Path:
    describe(each_folder, TYPES, PIPELINE)
    (each_folder / "errors.yaml").write_text("errors: {cloudy: {says: cloud, explanation: It was cloudy}}\n")
    deliver(tmp_path / "night", 1)
    return each_folder


def test_every_verb_is_for_operators_or_for_all() -> None:
    writing = {verb.split()[0] for verb in ACTS}
    assert sorted([*writing, *FOR_ALL, *OF_PROCESSES]) == sorted(VERBS)


@pytest.mark.req("B20")
def test_every_act_is_for_operators_alone(site: Path, nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch) -> None:
    config = (site / "nightmill.yaml").read_text()
    (site / "nightmill.yaml").write_text(f"{config}\noperators: [grace]\n")
    me = getpass.getuser()
    monkeypatch.setenv("LOGNAME", "grace")  # what a shell says of its user proves nothing
    count = ("sql", "SELECT (SELECT count(*) FROM audit) AS acts, (SELECT count(*) FROM file) AS files", "--json")
    before = nightmill(*count).json
    for verb, arguments in {**ACTS, "limit --store": LIMIT_STORE}.items():
        called = nightmill(*arguments)
        assert (called.code, called.out) == (2, "")
        assert called.err == (
            f"nightmill: 'nightmill {verb}' is for the operators of site 'site',"
            f" and {me!r} is none of them; 'operators' in nightmill.yaml names them\n"
        )
    assert nightmill(*count).json == before
    assert stored(site) == {}
    assert nightmill("status").code == 0


@pytest.mark.req("B20")
def test_every_act_leaves_a_row(site: Path, nightmill: Nightmill) -> None:
    me = getpass.getuser()
    config = (site / "nightmill.yaml").read_text()
    (site / "nightmill.yaml").write_text(f"{config}\noperators: [{me}]\n")
    for verb in ("init", "ingest", "calib add", "calib certify", "calib withdraw", "exclude add", "exclude lift"):
        assert nightmill(*ACTS[verb]).code == 0
    for verb in ("errors add", "errors on", "errors off"):
        assert nightmill(*ACTS[verb]).code == 0
    with open_site(site) as opened:
        run_campaign(opened, site / "first.yaml")
        run_again(opened, "first")
    deliver(Path("../more"), 2)
    assert nightmill("ingest", "../more/cam_0002.fits", "--type", "raw_science", "--origin", "raw").code == 0
    for verb in ("retype", "withdraw"):
        assert nightmill(*[each.replace("0001", "0002") for each in ACTS[verb]]).code == 0
    acts = nightmill("sql", "SELECT who, verb, subject, why, at FROM audit ORDER BY id", "--json").json
    assert [(act["who"], act["verb"], act["subject"], act["why"]) for act in acts] == [
        (me, "init", str(site), ""),
        (me, "init", str(site), ""),
        (me, "ingest", "../night", ""),
        (me, "calib add", "ccd", "looked at it"),
        (me, "calib certify", "ccd", "looked at it"),
        (me, "calib withdraw", "ccd", "looked at it"),
        (me, "exclude add", "--exposure 9", "clouds"),
        (me, "exclude lift", "1", "the other night"),
        (me, "errors add", "cloudy", "seen twice"),
        (me, "errors on", "cloudy", "tried it"),
        (me, "errors off", "cloudy", "names too much"),
        ("tester", "submit", "first", ""),
        ("tester", "rerun", "first", "mended"),
        (me, "ingest", "../more/cam_0002.fits", ""),
        (me, "retype", "cam_0002.fits", "the shutter was shut"),
        (me, "withdraw", "cam_0002.fits", "of another telescope"),
    ]
    assert all(act["at"] for act in acts)
