"""Files are excluded from the command line, and what that comes to is told before and after."""

from __future__ import annotations

import getpass
from pathlib import Path

import pytest

from nightmill.operations.site import open_site
from tests.cli.conftest import Nightmill, describe, take_in
from tests.cli.test_operators import PIPELINE, TYPES
from tests.examples.campaigns import conduct, run_again, run_campaign

ME = getpass.getuser()
NIGHT = "night == 20260110"


@pytest.fixture
def site(each_folder: Path, nightmill: Nightmill, tmp_path: Path) -> Path:
    """Give a site with three exposures and a campaign that copies them; it is the working folder."""
    return _with_night(each_folder, nightmill, tmp_path)


@pytest.fixture
def lite(folder: Path, nightmill: Nightmill, tmp_path: Path) -> Path:
    """Give it on SQLite."""
    return _with_night(folder, nightmill, tmp_path)


def _with_night(folder: Path, nightmill: Nightmill, tmp_path: Path) -> Path:
    describe(folder, TYPES, PIPELINE)
    take_in(nightmill, tmp_path / "night", 3)
    return folder


@pytest.mark.req("B16", "B17", "REQ-0007")
def test_one_command_excludes_and_one_lifts(site: Path, nightmill: Nightmill) -> None:
    add = ("exclude", "add", "cam_0002.fits", "cam_0003.fits", "--ticket", "OPS-12", "--until", "2999-01-01")
    foreseen = nightmill(*add, "--dry-run", "--plan", "first.yaml")
    assert foreseen.out.splitlines() == [
        "would exclude: cam_0002.fits cam_0003.fits: 2 raw_science",
        "plan of first, stage copy: 3 units now, 1 then",
        "  without: exposure=2, exposure=3",
        "nothing was done",
    ]
    assert nightmill("exclude", "list", "--json").json == []
    assert nightmill(*add, "--why", "clouds").out == "exclusion 1: cam_0002.fits cam_0003.fits: 2 raw_science\n"
    [held] = nightmill("exclude", "list", "--json").json
    assert {key: held[key] for key in ("number", "campaign", "expression", "who", "why", "ticket", "expires_at")} == {
        "number": 1,
        "campaign": "",
        "expression": "name in ['cam_0002.fits', 'cam_0003.fits']",
        "who": ME,
        "why": "clouds",
        "ticket": "OPS-12",
        "expires_at": "2999-01-01T00:00:00+00:00",
    }
    planned = nightmill("plan", "first.yaml")
    assert (
        f"input 'frame': 2 files excluded (exclusion 1 by {ME}: cam_0002.fits cam_0003.fits; clouds):"
        " cam_0002.fits, cam_0003.fits; 2 units are not there for it: exposure=2, exposure=3"
    ) in planned.out
    told = nightmill("plan", "first.yaml", "--json").json["stages"][0]
    assert [job["unit"] for job in told["jobs"]] == ["exposure=1"]
    assert [(each["number"], each["names"]) for each in told["excluded"]] == [(1, ["cam_0002.fits", "cam_0003.fits"])]
    assert nightmill("exclude", "lift", "1", "--why", "the other night").out == "exclusion 1 lifted\n"
    assert len(nightmill("plan", "first.yaml", "--json").json["stages"][0]["jobs"]) == 3
    assert nightmill("exclude", "list").out.splitlines()[1:] == []
    assert f"by {ME}: the other night" in nightmill("exclude", "list", "--all").out
    [act, lifted] = nightmill("sql", "SELECT detail FROM audit WHERE verb LIKE 'exclude%' ORDER BY id", "--json").json
    assert "name in ['cam_0002.fits', 'cam_0003.fits']" in str(act["detail"])
    assert "name in" in str(lifted["detail"])


@pytest.mark.req("B16", "REQ-0007")
def test_a_rule_for_one_plan_and_one_submission(lite: Path, nightmill: Nightmill) -> None:
    options = ("--exclude", "exposure == 1", "--exclude", "FILE cam_0002.fits")
    planned = nightmill("plan", "first.yaml", *options, "--json").json["stages"][0]
    assert [job["unit"] for job in planned["jobs"]] == ["exposure=3"]
    assert [(each["place"], each["rule"]) for each in planned["excluded"]] == [
        ("exclude of the command line", "exposure == 1"),
        ("exclude of the command line", "name == 'cam_0002.fits'"),
    ]
    wrong = nightmill("plan", "first.yaml", "--exclude", "exposur == 1")
    assert wrong.code == 2
    assert "exclude of the command line: " in wrong.err
    assert "did you mean 'exposure'?" in wrong.err


@pytest.mark.req("B16")
def test_what_was_sealed_is_told_held_and_goes_on_when_it_is_lifted(site: Path, nightmill: Nightmill) -> None:
    from nightmill.config.campaign import load_campaign
    from nightmill.operations.submit import submit

    with open_site(site) as opened:
        submit(opened, load_campaign(site / "first.yaml"))
    added = nightmill("exclude", "add", "--exposure", 2, "--why", "dome")
    assert added.out.splitlines() == [
        "exclusion 1: --exposure 2: 1 raw_science",
        "1 job planned to read it is held when the turn comes: first/copy/exposure=2",
        "to go on without it, submit first under a new name; to go on with it, lift and rerun",
    ]
    with open_site(site) as opened:
        conduct(opened, "first")
    standing = nightmill("status", "first", "--json").json[0]
    assert (standing["stages"][0]["done"], standing["stages"][0]["held"]) == (2, 1)
    why = f"it reads what exclusion 1 by {getpass.getuser()} excludes: dome"
    assert standing["holds"] == [{"by": "exclusion", "why": why, "jobs": 1}]
    assert f"held: 1 job: {why} (lift the exclusion and rerun" in nightmill("status", "first").out
    assert nightmill("exclude", "lift", 1, "--why", "open").out.splitlines() == [
        "exclusion 1 lifted",
        "jobs of first are held: nightmill rerun first",
    ]
    with open_site(site) as opened:
        run_again(opened, "first")
    assert nightmill("status", "first", "--json").json[0]["stages"][0]["done"] == 3


def test_an_exclusion_of_a_product_leaves_the_job_that_made_it(lite: Path, nightmill: Nightmill) -> None:
    with open_site(lite) as opened:
        run_campaign(opened, lite / "first.yaml")
    added = nightmill("exclude", "add", "--where", "type == 'copy' and exposure == 1", "--why", "bad", "--json").json
    assert (added["files"], added["jobs"]) == ({"copy": 1}, [])


@pytest.mark.req("B16")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "--why x",
            "nothing is said of what to exclude; name files, or say --exposure, --detector, --night or --where",
        ),
        ("cam_0009.fits --why x", "no file named 'cam_0009.fits' (did you mean"),
        ("--exposure 1", "--why is empty"),
        ("--where exposur==1 --why x", "did you mean 'exposure'?"),
        ("--where exposure== --why x", "the expression cannot be read"),
        ("--exposure 1 --type raw_scince --why x", "did you mean 'raw_science'?"),
        ("--exposure 1 --part a,b --why x", "--part 'a,b' cannot name a part of a file"),
        ("cam_0001.fits --up-to copy --why x", "--up-to is for units"),
        (f"--exposure {2**80} --why x", "is not a value that a file can have"),
        ("--where name=='\x00' --why x", "the expression cannot be read"),
        ("--exposure 1 --until 2001-01-01 --why x", "--until 2001-01-01 00:00 UTC is over"),
        ("--exposure 1 --until never --why x", "--until 'never' is not a time"),
        ("--exposure 1 --plan first.yaml --why x", "--plan shows what would differ"),
    ],
)
def test_what_cannot_be_excluded_is_refused(lite: Path, nightmill: Nightmill, arguments: str, message: str) -> None:
    called = nightmill("exclude", "add", *arguments.split())
    assert called.code == 2
    assert message in called.err
    assert nightmill("exclude", "list", "--all", "--json").json == []


def test_what_cannot_be_lifted_is_refused(lite: Path, nightmill: Nightmill) -> None:
    assert "no exclusion named '1'; see 'nightmill exclude list'" in nightmill("exclude", "lift", 1, "--why", "x").err
    assert nightmill("exclude", "lift", 2**80, "--why", "x").code == 2
    nightmill("exclude", "add", "--where", NIGHT, "--campaign", "later", "--why", "x")
    assert nightmill("exclude", "lift", 1, "--why", " ").err.startswith("nightmill: --why is empty")
    assert nightmill("exclude", "lift", 1, "--why", "x").code == 0
    assert f"UTC by {ME}: x; leave it as it is" in nightmill("exclude", "lift", 1, "--why", "y").err


def test_a_campaign_is_told_its_own_exclusions_before_it_is_there(lite: Path, nightmill: Nightmill) -> None:
    nightmill("exclude", "add", "--exposure", 1, "--campaign", "first", "--why", "x")
    nightmill("exclude", "add", "--exposure", 2, "--campaign", "second", "--why", "x")
    assert [each["number"] for each in nightmill("exclude", "list", "--campaign", "first", "--json").json] == [1]
    jobs = nightmill("plan", "first.yaml", "--json").json["stages"][0]["jobs"]
    assert [job["unit"] for job in jobs] == ["exposure=2", "exposure=3"]


def test_exclusions_that_would_be_too_long_for_one_statement_are_refused(lite: Path, nightmill: Nightmill) -> None:
    where = f"exposure in [{', '.join(str(number) for number in range(10_000, 12_400))}]"
    for _ in range(5):
        assert nightmill("exclude", "add", "--where", where, "--why", "x").code == 0
    assert nightmill("plan", "first.yaml").code == 0
    nightmill("exclude", "add", "--where", where, "--why", "x")
    last = nightmill("exclude", "add", "--where", where, "--why", "x")
    assert last.code == 2
    assert "more than 100,000 characters together; join some in one, as --where 'exposure in [12, 13]'" in last.err
