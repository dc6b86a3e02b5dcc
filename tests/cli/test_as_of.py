"""A plan is had again as it was at a time: what came later is not in it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from nightmill.config.campaign import load_campaign
from nightmill.library import Site
from nightmill.operations.site import open_site
from nightmill.operations.submit import submit
from tests.cli.conftest import Nightmill
from tests.examples.campaigns import conduct
from tests.support.observatory import deliver, frame

TYPES = """
  masked: {template: "cam_{exposure:04d}_{role}_c{campaign:04d}a{attempt:02d}.fits"}
"""
PIPELINE = """\
pipeline: masking
version: "1.0"
stages:
  mask:
    per: [exposure]
    inputs:
      frame: {type: raw_science}
      mask: {type: mask, source: {calibrations: [masks]}, lookup: {strategy: valid}, missing: skip}
    steps:
      - name: mask
        argv: ["cp", "{inputs.frame}", "{outputs.held}"]
        inputs: [frame, mask]
        outputs: {held: {type: masked}}
"""
PINNED = """\
  again:
    per: [exposure]
    inputs:
      frame: {type: raw_science}
      mask: {type: mask, source: {calibrations: [masks], context: release}, lookup: {strategy: valid}}
    steps:
      - name: mask
        argv: ["cp", "{inputs.frame}", "{outputs.pinned}"]
        inputs: [frame, mask]
        outputs: {pinned: {type: masked}}
"""


@pytest.fixture
def site(each_folder: Path) -> Path:
    """Give a site with two campaigns, once on SQLite and once on PostgreSQL; it is the working folder."""
    return _with_campaigns(each_folder)


@pytest.fixture
def lite(folder: Path) -> Path:
    """Give it on SQLite."""
    return _with_campaigns(folder)


def _with_campaigns(folder: Path) -> Path:
    with (folder / "file_types.yaml").open("a") as file:
        file.write(TYPES)
    for name, stages in (("first", PIPELINE), ("second", PIPELINE + PINNED)):
        (folder / f"{name}-pipeline.yaml").write_text(stages)
        (folder / f"{name}.yaml").write_text(f"campaign: {name}\npipeline: {name}-pipeline.yaml\n")
    return folder


def _acts(folder: Path, nightmill: Nightmill, arrivals: Path) -> Iterator[str]:
    """Do one act after another, and yield each when it is done."""

    def bring(folder: Path, *options: str) -> None:
        assert nightmill("ingest", folder, *options).code == 0

    def mask(name: str, *options: str) -> None:
        (arrivals / name).mkdir()
        (arrivals / name / f"{name}.fits").write_bytes(frame(CCDNUM=1, MASK=name))
        bring(arrivals / name, "--type", "mask", "--origin", "raw")
        span = ("--from", "2020-01-01", "--until", "2030-01-01", "--why", "new")
        assert nightmill("calib", "add", f"{name}.fits", "--set", "masks", *span, *options).code == 0

    deliver(arrivals / "night", 4)
    bring(arrivals / "night", "--type", "raw_science", "--origin", "raw")
    yield "files came"
    mask("one")
    yield "a draft came"
    for act in (
        "calib certify one.fits --set masks --why good",
        "exclude add --exposure 2 --why clouds",
        "calib pin release --set masks --why first",
    ):
        assert nightmill(*act.split()).code == 0
        yield act
    mask("two", "--certified")
    yield "a better one came"
    for act in (
        "withdraw two.fits --why ghost",
        "exclude lift 1 --why mistaken",
        "withdraw cam_0003.fits --why test",
        "retype cam_0004.fits --type mask --why mistaken",
    ):
        called = nightmill(*act.split())
        assert called.code == 0, called.err
        yield act
    with open_site(folder) as opened:
        submit(opened, load_campaign(folder / "first.yaml"))
        yield "first was submitted"
        conduct(opened, "first")
    yield "first ran"
    assert nightmill("calib", "withdraw", "one.fits", "--set", "masks", "--why", "old").code == 0
    yield "no calibration is left"


def _plans(nightmill: Nightmill, *options: str) -> list[Any]:
    return [nightmill("plan", f"{name}.yaml", "--json", *options).json for name in ("first", "second")]


@pytest.mark.req("X17")
def test_each_plan_that_was_ever_made_is_had_again(site: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    then: dict[str, tuple[str, list[Any]]] = {}
    for act in _acts(site, nightmill, tmp_path):
        plans = _plans(nightmill)
        then[act] = (datetime.now(UTC).isoformat(), plans)
    seen = []
    for act, (time, plans) in then.items():
        again = _plans(nightmill, "--as-of", time)
        assert {plan.pop("as_of") for plan in again} == {time}, act
        assert {plan.pop("as_of") for plan in plans} == {None}
        for plan in (*again, *plans):
            del plan["cost"]  # by what was measured until now
        assert again == plans, act
        seen.append(str(plans))
    assert len(set(seen)) >= len(seen) - 2, "hardly an act changes what is planned"
    masks = [
        [job["inputs"]["mask"]["files"][0]["name"] for job in plans[0]["stages"][0]["jobs"]]
        for _, plans in then.values()
    ]
    assert masks[:5] == [[], [], ["one.fits"] * 4, ["one.fits"] * 3, ["one.fits"] * 3]


def test_people_are_told_the_time_and_what_is_not_known(lite: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    before = datetime.now(UTC) - timedelta(days=1)
    early = nightmill("plan", "first.yaml", "--as-of", before.isoformat())
    assert early.code == 2
    assert "the catalogue had no file at" in early.err
    assert "bring files with 'nightmill ingest'" in early.err
    acts = _acts(lite, nightmill, tmp_path)
    next(acts)
    next(acts)
    drafted = datetime.now(UTC)
    next(acts)
    early = nightmill("plan", "first.yaml", "--as-of", f"{before:%Y%m%d}")
    assert early.code == 2
    assert f"the catalogue had no file at {before:%Y-%m-%d} 00:00:00 UTC: its first came at " in early.err
    late = nightmill("plan", "first.yaml", "--as-of", "2999-01-01")
    assert late.code == 2
    assert "2999-01-01 00:00:00 UTC is in the future: it is " in late.err
    for wrong in ("yesterday", "0001-01-01T00:00+05:00", "9999-12-31T23:59-05:00"):
        assert f"--as-of '{wrong}' is not a time" in nightmill("plan", "first.yaml", "--as-of", wrong).err
    for options, why in {
        ("--as-of", "2026-01-10", "--explain", "where"): "--explain plans nothing; leave out ",
        ("--as-of", "2026-01-10", "--save"): "a plan as of then cannot be submitted; leave out --save, or --as-of",
        ("--differences",): "--differences compares the plan as of then with that of now; give it --as-of",
    }.items():
        refused = nightmill("plan", "first.yaml", *options)
        assert (refused.code, why in refused.err) == (2, True)
    now = datetime.now(UTC)
    with Site(lite) as opened:
        assert len(opened.plan("first.yaml", as_of=now.replace(tzinfo=None))) == 8
        assert len(opened.plan("first.yaml", as_of=drafted)) == 0
    told = nightmill("plan", "first.yaml", "--as-of", now.isoformat()).out.splitlines()
    assert told[0] == f"as of {now:%Y-%m-%d %H:%M:%S} UTC: what the catalogue knew then"
    assert "not known of then, and not asked: whether there were copies of the files" in told
    assert "campaign first, number 1: pipeline masking 1.0" in told
    assert nightmill("submit", "first.yaml", "--as-of", now.isoformat()).code == 2


def test_what_differs_since_then(lite: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    acts = _acts(lite, nightmill, tmp_path)
    next(acts)
    came = datetime.now(UTC)
    next(acts)
    next(acts)
    certified = datetime.now(UTC)
    next(acts)
    told = nightmill("plan", "first.yaml", "--as-of", certified.isoformat(), "--differences").out.splitlines()
    assert told[:2] == [
        f"before: campaign first, as of {certified:%Y-%m-%d %H:%M:%S} UTC",
        "after:  campaign first, as it would be submitted now",
    ]
    changes = nightmill("plan", "first.yaml", "--as-of", certified.isoformat(), "--differences", "--json").json
    assert [(each["unit"], each["change"]) for each in changes["units"]] == [("exposure=2", "dropped")]
    early = nightmill("plan", "first.yaml", "--as-of", came.isoformat(), "--differences")
    assert f"campaign 'first' cannot be planned as of {came:%Y-%m-%d %H:%M:%S} UTC: 1 problem" in early.err
