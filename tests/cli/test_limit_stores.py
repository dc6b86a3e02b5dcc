"""The transfers with a store are limited from the command line."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from nightmill.execution.host import this_host
from nightmill.execution.transfers import PLACES
from nightmill.operations.site import open_site
from tests.cli.conftest import Nightmill, describe, take_in
from tests.cli.test_operators import PIPELINE, TYPES
from tests.examples.campaigns import run_campaign

ME = getpass.getuser()
LOWER = ("limit", "--store", "backbone", "--transfers", "1", "--why", "its disks are slow")


@pytest.mark.req("X20")
def test_a_store_is_limited_for_all_campaigns_until_its_limit_is_taken_away(
    each_folder: Path, nightmill: Nightmill, tmp_path: Path
) -> None:
    none = "store backbone: no limit, as nightmill.yaml says\nstore quicklook: no limit, as nightmill.yaml says\n"
    assert nightmill("limit").out == none
    told = f"at most 1 transfer at a time from each host, by {ME}: its disks are slow\n"
    assert nightmill(*LOWER).out == f"store backbone: {told}"
    assert nightmill(*LOWER).out == f"store backbone as before: {told}"
    assert nightmill("limit").out.splitlines(keepends=True)[0] == f"store backbone: {told}"
    limit = {"store": "backbone", "transfers": 1, "who": ME, "why": "its disks are slow"}
    assert nightmill(*LOWER, "--json").json == {"limit": limit, "changed": False}
    assert nightmill("limit", "--json").json == [limit, {"store": "quicklook", "transfers": 0, "who": "", "why": ""}]

    describe(each_folder, TYPES, PIPELINE)
    take_in(nightmill, tmp_path / "night", 2)
    with open_site(each_folder) as opened:
        run_campaign(opened, each_folder / "first.yaml")
        assert (opened.config.spool / PLACES / this_host().name / "backbone" / "0").exists()
    assert nightmill("status", "first", "--json").json[0]["stages"][0]["done"] == 2

    away = nightmill("limit", "--store", "backbone", "--transfers", "0", "--why", "new disks")
    assert away.out == "store backbone: no limit, as nightmill.yaml says\n"
    acts = nightmill("acts", "--verb", "limit", "--json").json
    assert [(act["verb"], act["subject"], act["why"]) for act in acts] == [
        ("limit --store", "backbone", "its disks are slow"),
        ("limit --store", "backbone", "new disks"),
    ]
    assert acts[0]["command"] == ["nightmill", *LOWER]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--store arxiv --transfers 2", "no store named 'arxiv'; there are backbone, quicklook"),
        (
            "--store quiklook --transfers 2",
            "no store named 'quiklook' (did you mean 'quicklook'?); there are backbone, quicklook",
        ),
        (
            "--store backbone --transfers -1",
            "--transfers -1 is below 0; give how many run at a time, or 0 for no limit",
        ),
        (
            "--store backbone",
            "nothing is said of how store 'backbone' is to be limited; give --transfers N, or 0 for no limit",
        ),
        ("--transfers 2", "--transfers is about a store; say which with --store NAME"),
        ("first --transfers 2", "--transfers is about a store; say which with --store NAME"),
        ("--jobs 2", "--jobs and hosts are about a campaign; name it"),
        (
            "first --jobs 2 --store backbone --transfers 2",
            "a store is limited for all campaigns on all hosts; limit the store first, and then the campaign",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(folder: Path, nightmill: Nightmill, arguments: str, message: str) -> None:
    called = nightmill("limit", *arguments.split(), "--why", "slow")
    assert (called.code, called.out, called.err) == (2, "", f"nightmill: {message}\n")
    assert not (folder / "spool" / "memory" / "transfers.json").exists()


def test_a_limit_that_is_not_a_number(folder: Path, nightmill: Nightmill) -> None:
    called = nightmill("limit", "--store", "backbone", "--transfers", "two", "--why", "slow")
    assert called.code == 2
    assert "Invalid value for '--transfers': Input should be a valid integer" in called.err
    path = folder / "nightmill.yaml"
    written = path.read_text()
    for value in ("-1", "two"):
        path.write_text(written.replace("  backbone:\n", f"  backbone:\n    transfers: {value}\n"))
        called = nightmill("limit")
        assert called.code == 2
        assert "stores.backbone.transfers" in called.err
