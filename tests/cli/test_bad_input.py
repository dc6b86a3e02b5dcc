"""Bad input, as somebody at the command line meets it: a clear message, an exit code, and nothing half done."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from nightmill.config.campaign import load_campaign
from nightmill.errors import PlanRefused
from nightmill.operations.site import open_site
from nightmill.operations.submit import submit
from tests.cli.conftest import Nightmill, describe, take_in
from tests.examples.campaigns import conduct, run_again
from tests.files.frames import raw_header
from tests.support.observatory import deliver, frame, stored

TYPES = """\
  count: {template: "cam_{exposure:04d}_count_c{campaign:04d}a{attempt:02d}.txt"}
"""
PIPELINE = """\
pipeline: counting
version: "1.0"
stages:
  count:
    per: [exposure]
    inputs:
      frame: {type: raw_science}
    steps:
      - name: measure
        argv: ["sh", "-c", "wc -c < $0 > $1", "{inputs.frame}", "{outputs.count}"]
        inputs: [frame]
        outputs:
          count: {type: count}
"""
CAMPAIGN = """\
campaign: first
pipeline: pipeline.yaml
where: night == 20260110
"""
RAW = ("--type", "raw_science", "--origin", "raw")
NAMED = [f"INSTRUME= '{'cam':8}'", f"EXPNUM  = {5:>20}", f"CCDNUM  = {1:>20}"]


@pytest.fixture
def site(folder: Path, nightmill: Nightmill, tmp_path: Path) -> Path:
    """Give a site with two exposures, and a campaign that counts their bytes."""
    describe(folder, TYPES, PIPELINE, CAMPAIGN)
    take_in(nightmill, tmp_path / "night", 2)
    return folder


def rows(site: Path, *tables: str) -> dict[str, int]:
    with open_site(site) as opened, opened.database.reading() as session:
        return {table: session.scalars(text(f"SELECT count(*) FROM {table}")).one() for table in tables}


# --------------------------------------------------------------------------------------------- documents


@pytest.mark.parametrize(
    ("document", "written", "messages"),
    [
        ("first.yaml", CAMPAIGN + "overides: {}\n", ["first.yaml:4: unknown key overides (did you mean 'overrides'?)"]),
        ("pipeline.yaml", PIPELINE.replace("inputs: [frame]", "input: [frame]"), ["pipeline.yaml:11: ", "'inputs'"]),
        (
            "pipeline.yaml",
            PIPELINE.replace("per: [exposure]", "per: {exposure: 1}"),
            ["pipeline.yaml:5: stages.count.per is a mapping"],
        ),
        ("first.yaml", CAMPAIGN + "execution: {threads: many}\n", ["first.yaml:4: execution.threads is 'many'"]),
        (
            "first.yaml",
            CAMPAIGN + "campaign: second\n",
            ["first.yaml:4: campaign is given twice (first on line 1); keep one of them"],
        ),
        ("first.yaml", CAMPAIGN + "parameters: [unclosed\n", ["first.yaml:5"]),
        ("first.yaml", CAMPAIGN + "# " + "x" * 2**20, ["first.yaml is larger than 1,048,576 bytes"]),
        (
            "first.yaml",
            CAMPAIGN.replace("pipeline.yaml", "pipelin.yaml"),
            ["pipelin.yaml is not there; the folder has: file_types.yaml, first.yaml"],
        ),
    ],
    ids=["typo", "typo in a step", "wrong type", "wrong value", "duplicate key", "no YAML", "huge", "no such file"],
)
def test_a_wrong_document_is_refused_with_its_place(
    site: Path, nightmill: Nightmill, document: str, written: str, messages: list[str]
) -> None:
    (site / document).write_text(written)
    called = nightmill("plan", "first.yaml", "--json")
    assert (called.code, called.out) == (2, "")
    for message in messages:
        assert message in called.err
    assert "Traceback" not in called.err


def test_what_is_wrong_in_two_documents_is_told_at_once(site: Path, nightmill: Nightmill) -> None:
    (site / "first.yaml").write_text(CAMPAIGN + "overides: {}\n")
    (site / "pipeline.yaml").write_text(PIPELINE.replace("version", "vresion"))
    called = nightmill("plan", "first.yaml")
    assert called.code == 2
    assert "first.yaml:4: unknown key overides" in called.err
    assert "pipeline.yaml:2: unknown key vresion" in called.err


@pytest.mark.req("REQ-0006")
def test_nothing_is_begun_of_a_campaign_that_cannot_be_carried_out(
    site: Path, nightmill: Nightmill, tmp_path: Path
) -> None:
    bad = PIPELINE.replace(
        "      frame: {type: raw_science}\n", "      frame: {type: raw_science}\n      mask: {type: mask}\n"
    )
    bad = bad.replace("count: {type: count}", "count: {type: count, to: backbon}")
    (site / "pipeline.yaml").write_text(bad)
    called = nightmill("plan", "first.yaml")
    assert called.code == 2
    assert "campaign 'first' cannot be planned: 2 problems" in called.err
    assert "stage 'count', input 'mask'" in called.err
    assert "no store or working area named 'backbon' (did you mean 'backbone'?)" in called.err
    before = stored(site)
    with open_site(site) as opened, pytest.raises(PlanRefused, match="2 problems"):
        submit(opened, load_campaign(site / "first.yaml"), who="tester")
    assert rows(site, "campaign", "plan", "job", "attempt") == {"campaign": 0, "plan": 0, "job": 0, "attempt": 0}
    assert stored(site) == before
    assert list((site / "scratch").iterdir()) == []


# ------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("content", "reason", "message"),
    [
        (b"", "empty", "is empty"),
        (frame(5)[:-100], "truncated", "is cut off"),
        (frame(5)[:2000], "truncated", ""),
        (b"SIMPLY text", "not_fits", "is not a FITS"),
        (frame(5, EXPNUM=None), "missing_keyword", "has no value for exposure (EXPNUM)"),
        (frame(5, EXPNUM="five"), "bad_value", "exposure"),
        (raw_header("INSTRUME= 'ca\nm'", *NAMED[1:]), "unfit_value", "instrument"),
        (frame(5, INSTRUME="../../etc/cron.d"), "unfit_value", "instrument"),
        (frame(5, INSTRUME="x" * 300), "unfit_value", "instrument"),
        (frame(5, DATE_OBS="19/19/94"), "bad_value", "begins_at"),
    ],
    ids=[
        "empty",
        "truncated",
        "cut header",
        "text",
        "keyword",
        "no number",
        "newline",
        "path",
        "300 characters",
        "date",
    ],
)
def test_a_bad_file_is_refused_by_name_and_reason_and_the_rest_go_in(
    folder: Path, nightmill: Nightmill, tmp_path: Path, content: bytes, reason: str, message: str
) -> None:
    deliver(tmp_path / "night", 1)
    bad = tmp_path / "night" / "cam_0005.fits"
    bad.write_bytes(content)
    called = nightmill("ingest", tmp_path / "night", *RAW, "--json")
    assert called.code == 1
    told = called.json
    assert [each["name"] for each in told["registered"]] == ["cam_0001.fits"]
    [refused] = told["refused"]
    assert (refused["path"], refused["reason"]) == (str(bad), reason)
    assert message in refused["message"]
    assert f"refused ({reason}): {refused['message']}" in called.err
    assert len(called.err.splitlines()) == 1, "no value breaks the line"
    assert list(stored(folder)) == ["raw/20260110/cam_0001.fits"]
    [kept] = nightmill("find", "--refused", "--json").json
    assert (kept["path"], kept["reason"]) == (str(bad), reason)


def test_a_name_is_taken_once(site: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    [same] = deliver(tmp_path / "again", 1)
    [other] = deliver(tmp_path / "other", 1, OBJECT="M 31")
    before = stored(site)
    assert nightmill("ingest", same, *RAW).out == "0 registered, 1 there already, 0 refused\n"
    called = nightmill("ingest", other, *RAW)
    assert (called.code, called.out) == (1, "0 registered, 0 there already, 1 refused\n")
    assert "the name cam_0001.fits is taken: registered already, with other bytes" in called.err
    assert stored(site) == before


def test_a_file_that_vanishes_between_plan_and_stage_in(site: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    with open_site(site) as opened:
        submit(opened, load_campaign(site / "first.yaml"), who="tester")
        gone = site / "stores/backbone/raw/20260110/cam_0002.fits"
        gone.rename(tmp_path / "elsewhere.fits")
        conduct(opened, "first")
    [standing] = nightmill("status", "first", "--json").json
    [failed] = standing["failed"]
    assert (failed["job"], failed["fate"]) == ("count/exposure=2", "input_missing")
    assert "cam_0002.fits is gone" in failed["evidence"]
    made = [each["name"] for each in nightmill("find", "--type", "count", "--json").json]
    assert made == ["cam_0001_count_c0001a01.txt"]
    (tmp_path / "elsewhere.fits").rename(gone)
    with open_site(site) as opened:
        run_again(opened, "first")
    made = [each["name"] for each in nightmill("find", "--type", "count", "--json").json]
    assert made == ["cam_0001_count_c0001a01.txt", "cam_0002_count_c0001a02.txt"]


# ------------------------------------------------------------------------------------------------ orders


def test_an_order_run_by_hand_says_how_it_ended(site: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    with open_site(site) as opened:
        submit(opened, load_campaign(site / "first.yaml"), who="tester")
        conduct(opened, "first")
    issued = nightmill("show", "first/count/exposure=1", "--order").out
    order, folders = tmp_path / "order.json", ("--scratch", tmp_path / "scratch", "--spool", tmp_path / "spool")
    order.write_text(issued)
    called = nightmill("run", order, *folders)
    assert (called.code, "nothing is published without the site's spool" in called.err) == (0, True)
    called = nightmill("run", order)
    assert called.code == 1, "its files are published: they are never overwritten"
    assert (
        "cam_0001_count_c0001a01.txt stands in store 'backbone' already, with the very bytes that were made now: this"
        " order was carried out before, by hand, or before the database was brought back from a backup"
    ) in called.err
    called = nightmill("run", order, *folders, "--json")
    assert (called.code, called.json["state"]) == (0, "published")
    order.write_text(issued.replace('"argv"', '"arvg"'))
    called = nightmill("run", order, *folders)
    assert called.code == 2
    assert "this is not an order: " in called.err
    assert "nightmill show JOB --order" in called.err
    order.write_text(issued.replace("{", '{"level": "audit", "level": "standard",', 1))
    called = nightmill("run", order, *folders)
    assert (called.code, "this is not an order: the key 'level' is given twice; write it" in called.err) == (2, True)
    assert nightmill("run", tmp_path / "none.json", *folders).code == 2
    called = nightmill("run", tmp_path, *folders)
    assert (called.code, called.err) == (2, f"nightmill: {tmp_path}: it cannot be read: Is a directory\n")
