"""Plans are kept as they were seen, and submitted as they were seen or not at all."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.schema import ExecutionRow, PlanRow
from nightmill.config.campaign import load_campaign
from nightmill.errors import PlanDiffers
from nightmill.operations.saved_plans import FOLDER, find
from nightmill.operations.site import open_site
from nightmill.operations.submit import Submitted, submit
from tests.cli.conftest import Nightmill, describe, take_in
from tests.cli.test_operators import PIPELINE, TYPES
from tests.cli.test_recover import copy
from tests.examples.campaigns import run_campaign


@pytest.fixture
def site(each_folder: Path, nightmill: Nightmill, tmp_path: Path) -> Path:
    """Give a site with three exposures and two campaigns that copy them; it is the working folder."""
    return _with_night(each_folder, nightmill, tmp_path)


@pytest.fixture
def lite(folder: Path, nightmill: Nightmill, tmp_path: Path) -> Path:
    """Give it on SQLite."""
    return _with_night(folder, nightmill, tmp_path)


def _with_night(folder: Path, nightmill: Nightmill, tmp_path: Path) -> Path:
    describe(folder, TYPES, PIPELINE, at="pipeline/pipeline.yaml")
    (folder / "second.yaml").write_text("campaign: second\npipeline: pipeline/pipeline.yaml\n")
    take_in(nightmill, tmp_path / "night", 3)
    return folder


def save(nightmill: Nightmill, *arguments: str) -> str:
    saved = nightmill("plan", "first.yaml", "--save", "--json", *arguments)
    assert saved.code == 0, saved.err
    return str(saved.json["digest"])


def submit_seen(folder: Path, prefix: str) -> Submitted:
    with open_site(folder) as opened:
        saved = find(opened, prefix)
        return submit(opened, saved.load(), saved=saved)


@pytest.mark.req("X16")
def test_what_was_seen_is_submitted_and_its_number_kept_for_it(site: Path, nightmill: Nightmill) -> None:
    seen = nightmill("plan", "first.yaml", "--json").json
    digest = save(nightmill)
    assert digest == seen["digest"]
    assert save(nightmill) == digest
    with open_site(site) as opened:
        assert submit(opened, load_campaign(site / "second.yaml")).number == 2
    (site / "first.yaml").write_text("not even YAML: [")  # what was kept counts
    assert (submit_seen(site, digest[:12]).number, submit_seen(site, digest[:12]).resumed) == (1, True)
    sealed = nightmill("sql", "SELECT unit FROM job JOIN campaign ON campaign.id = campaign_id WHERE name = 'first'")
    assert sealed.out.splitlines()[1:] == [f"exposure={number}" for number in (1, 2, 3)]
    assert nightmill("sql", "SELECT count(*) FROM audit WHERE verb = 'plan --save'").out.splitlines()[1] == "1"


@pytest.mark.req("X16", "B17")
def test_what_changed_since_is_told_and_nothing_is_done(site: Path, nightmill: Nightmill) -> None:
    digest = save(nightmill)
    nightmill("exclude", "add", "cam_0002.fits", "--why", "clouds")
    with pytest.raises(PlanDiffers) as refused:
        submit_seen(site, digest)
    told = str(refused.value)
    assert f"campaign 'first' would not be what was saved as plan {digest[:12]}" in told
    assert "stage copy, unit exposure=2: dropped (" in told
    assert "clouds" in told
    assert f"'nightmill plan CAMPAIGN.yaml --against {digest[:12]}' shows all of it" in told
    assert nightmill("status", "--json").json == []
    shown = nightmill("plan", "first.yaml", "--against", digest[:12])
    assert "stage copy: 3 -> 2 units: 1 dropped" in shown.out
    assert "copy\texposure=2\tdropped\t" in shown.out
    nightmill("exclude", "lift", "1", "--why", "the other night")
    assert submit_seen(site, digest).resumed is False


def test_an_edited_pipeline_is_another_plan(lite: Path, nightmill: Nightmill) -> None:
    digest = save(nightmill)
    (lite / "pipeline" / "notes.txt").write_text("new")
    with pytest.raises(PlanDiffers, match=r"bundle: \w{64} -> \w{64}"):
        submit_seen(lite, digest)


def test_a_campaign_that_was_submitted_otherwise_is_not_what_was_seen(lite: Path, nightmill: Nightmill) -> None:
    digest = save(nightmill)
    nightmill("exclude", "add", "cam_0002.fits", "--why", "clouds")
    with open_site(lite) as opened:
        assert submit(opened, load_campaign(lite / "first.yaml")).number == 1
    with pytest.raises(PlanDiffers, match="of another plan\n  - stage copy was sealed otherwise"):
        submit_seen(lite, digest)
    refused = nightmill("plan", "first.yaml", "--save")
    assert (refused.code, "campaign 'first' is on record already: its plan is sealed" in refused.err) == (2, True)


def test_of_several_at_once_one_is_first_and_the_others_take_it_up(site: Path, nightmill: Nightmill) -> None:
    digest = save(nightmill)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: submit_seen(site, digest), range(4)))
    assert {each.number for each in done} == {1}
    jobs = nightmill("sql", "SELECT count(*) FROM job").out.splitlines()[1]
    assert jobs == "3"


def test_a_database_of_before_does_not_give_the_number_away(lite: Path, nightmill: Nightmill, tmp_path: Path) -> None:
    copy(tmp_path / "nightmill.db", tmp_path / "backup.db")
    digest = save(nightmill)
    for name in ("nightmill.db", "nightmill.db-wal", "nightmill.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    copy(tmp_path / "backup.db", tmp_path / "nightmill.db")
    with open_site(lite) as opened:
        assert submit(opened, load_campaign(lite / "second.yaml")).number == 2
    assert submit_seen(lite, digest).number == 1


def test_what_stands_for_no_saved_plan_is_told(lite: Path, nightmill: Nightmill) -> None:
    digest = save(nightmill)
    other = save(nightmill, "--set", "where=exposure > 1")
    for arguments, message in [
        (("submit", "--plan", "0" * 12), "no saved plan named '000000000000'"),
        (("submit",), "submit takes a campaign's YAML file or --plan DIGEST; give one of them"),
        (("submit", "first.yaml", "--plan", digest), "give one of them"),
        (("submit", "--plan", digest, "--set", "where=x"), "--plan submits what was seen"),
        (("plan", "first.yaml", "--against", "nothing"), "no campaign file, campaign on record or saved plan named"),
        (("plan", "first.yaml", "--against", "other.yaml"), "named 'other.yaml'"),
        (("plan", "first.yaml", "--explain", "where", "--save"), "--explain plans nothing"),
    ]:
        called = nightmill(*arguments)
        assert (called.code, message in called.err) == (2, True), called.err
    with open_site(lite) as opened:
        spool = opened.config.spool / FOLDER
    data = (spool / f"{digest}.gz").read_bytes()
    (spool / f"{digest}.gz").write_bytes(data[: len(data) // 2])
    damaged = nightmill("plan", "first.yaml", "--against", digest)
    assert (damaged.code, f"{digest}.gz is damaged" in damaged.err) == (2, True)
    shutil.copy(spool / f"{other}.gz", spool / f"{digest}.gz")
    swapped = nightmill("plan", "first.yaml", "--against", digest)
    assert (swapped.code, "its lines have another digest" in swapped.err) == (2, True)
    (spool / f"{digest}.gz").unlink()
    gone = nightmill("plan", "first.yaml", "--against", digest)
    assert (gone.code, "are not in the spool" in gone.err) == (2, True)


def test_what_a_plan_would_cost_is_told_by_what_results_cost(site: Path, nightmill: Nightmill) -> None:
    unknown = nightmill("plan", "first.yaml", "--json").json["cost"]
    assert (unknown["cpu_seconds"], unknown["wall_seconds"], unknown["ends_at"]) == (None, None, None)
    assert nightmill("plan", "first.yaml").out.splitlines()[-1] == "expected cost: unknown for copy"
    with open_site(site) as opened:
        run_campaign(opened, site / "first.yaml")

        def measured(session: Session) -> None:
            for number, row in enumerate(session.scalars(select(ExecutionRow).order_by(ExecutionRow.id))):
                row.wall_seconds, row.user_seconds, row.system_seconds = (60.0, 3600.0, 90.0)[number], 40.0, 5.0

        opened.database.write(measured)
    cost = nightmill("plan", "second.yaml", "--set", "execution.threads=1", "--json").json["cost"]
    assert (cost["cpu_seconds"], cost["wall_seconds"]) == (3 * 45.0, 3 * 90.0)
    assert cost["stages"] == [
        {"stage": "copy", "results": 3, "at_once": 1, "cpu_seconds": 135.0, "wall_seconds": 270.0}
    ]
    shown = nightmill("plan", "second.yaml", "--set", "execution.threads=1").out.splitlines()[-1]
    assert shown.startswith("expected cost: 2 min of CPU; 4 min on this host alone, until ")


def test_campaigns_at_once_have_the_numbers_that_stand_in_their_names(site: Path) -> None:
    names = [f"at_once_{number}" for number in range(4)]

    def put(name: str) -> int:
        path = site / f"{name}.yaml"
        path.write_text(f"campaign: {name}\npipeline: pipeline/pipeline.yaml\n")
        with open_site(site) as opened:
            return submit(opened, load_campaign(path)).number

    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(put, names))
    with open_site(site) as opened, opened.database.reading() as session:
        rows = session.execute(select(PlanRow.campaign_id, PlanRow.common)).all()
    assert sorted(numbers) == [1, 2, 3, 4]
    assert sorted((number, common["number"]) for number, common in rows) == [(each, each) for each in (1, 2, 3, 4)]


def test_only_operators_save_plans(lite: Path, nightmill: Nightmill) -> None:
    with (lite / "nightmill.yaml").open("a") as file:
        file.write("operators: [grace]\n")
    refused = nightmill("plan", "first.yaml", "--save")
    assert (refused.code, "'nightmill plan --save' is for the operators of site" in refused.err) == (2, True)
    with open_site(lite) as opened:
        assert not (opened.config.spool / FOLDER).exists()
    assert nightmill("plan", "first.yaml").code == 0


def test_saved_plans_are_listed_and_removed(lite: Path, nightmill: Nightmill) -> None:
    first = save(nightmill)
    second = save(nightmill, "--set", "campaign=second")
    with open_site(lite) as opened:
        submit(opened, load_campaign(lite / "first.yaml"))
        spool = opened.config.spool / FOLDER
    (spool / f"{second}.gz").unlink()
    listed = nightmill("plans", "list", "--json").json
    assert [(each["digest"], each["campaign"], each["number"]) for each in listed] == [
        (second, "second", 2),
        (first, "first", 1),
    ]
    assert [each["submitted"] for each in listed] == [False, True]
    assert listed[0]["size_bytes"] is None
    assert listed[1]["size_bytes"] == (spool / f"{first}.gz").stat().st_size
    assert nightmill("plans", "list").out.splitlines()[1].startswith(f"{second[:12]}\tsecond\t2\t")

    for digest, campaign in ((first, "first"), (second, "second")):
        called = nightmill("plans", "remove", digest[:12].upper(), "--why", "seen")
        assert (called.code, called.out) == (0, f"plan {digest[:12]} of campaign {campaign} removed\n"), called.err
    assert list(spool.iterdir()) == []
    assert nightmill("plans", "list", "--json").json == []
    assert nightmill("status", "--json").json[0]["campaign"] == "first"
    again = nightmill("plans", "remove", first, "--json")
    assert (again.code, f"no saved plan named '{first}'" in again.err) == (2, True)
    acts = [each for each in nightmill("acts", "--json").json if each["verb"] == "plans remove"]
    assert [(each["subject"], each["why"]) for each in acts] == [("first", "seen"), ("second", "seen")]
    other = nightmill("plan", "first.yaml", "--set", "campaign=third", "--save", "--json").json
    assert other["number"] == 2  # nobody has it


def test_a_plan_whose_lines_cannot_be_removed_stays(lite: Path, nightmill: Nightmill) -> None:
    digest = save(nightmill)
    with open_site(lite) as opened:
        file = opened.config.spool / FOLDER / f"{digest}.gz"
    file.unlink()
    (file / "x").mkdir(parents=True)
    called = nightmill("plans", "remove", digest)
    assert called.code == 3
    assert f"the lines of saved plan {digest[:12]} cannot be removed: {file}: Is a directory" in called.err
    assert [each["digest"] for each in nightmill("plans", "list", "--json").json] == [digest]
