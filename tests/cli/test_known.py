"""What is known of steps, as operators see it: lineage, why, show, status, and what became of inputs."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import update

from nightmill.backbone.database import Database
from nightmill.backbone.schema import CampaignRow, FileRow, PlanRow
from nightmill.model.observed import Confined, Consequence, DependsOn, Difference, DifferenceKind, Level, Observation
from tests.cli.conftest import Nightmill
from tests.provenance.observing import CHOOSY, carry_out, stacked
from tests.support.orders import Bench

IMAGE, CATALOG = "image-exposure12a1.fits", "catalog-exposure12a1.txt"
JOB = "night1/science/exposure=12,detector=3"
STACK = CHOOSY.model_copy(
    update={
        "confined": Confined(level=Level.STANDARD, by=("landlock 7", "seccomp"), lacking=("UDP is open",)),
        "reached": ("/data/other.fits",),
        "differences": (
            Difference(kind=DifferenceKind.NEVER_READ, name="f4.fits"),
            Difference(
                kind=DifferenceKind.LIED, name="f2.fits", detail="nobody saw it", consequence=Consequence.WARNED
            ),
        ),
    }
)
DETECT = Observation(told=True, depends=(DependsOn(output=CATALOG, inputs=(IMAGE,)),))


@pytest.fixture
def observed(each_folder: Path, tmp_path: Path, database_url: str) -> Path:
    """Give a site whose record has a job of which something is known, and one of which nothing is."""
    database, bench = Database(database_url), Bench(tmp_path / "bench")
    carry_out(database, bench, stacked(bench), stack=STACK, detect=DETECT)
    other, nothing = Bench(tmp_path / "other"), Observation()
    carry_out(database, other, stacked(other, unit="exposure=13,detector=3"), stack=nothing, detect=nothing)
    with database.writing() as session:
        session.execute(update(FileRow).where(FileRow.name == "f3.fits").values(night=20260110, detector=3))
        stage = {"name": "science", "per": [], "inputs": {}, "steps": [{"name": "stack", "argv": ["sh"]}]}
        session.execute(update(CampaignRow).values(definition={"pipeline": {"stages": [stage]}}))
        session.execute(update(PlanRow).values(common={"stage": stage}))
    database.close()
    return each_folder


@pytest.mark.req("B45")
def test_lineage_is_what_contributed_and_shows_apart_what_did_not(observed: Path, nightmill: Nightmill) -> None:
    run = "night1/science/exposure=12,detector=3/a01"
    assert nightmill("lineage", CATALOG).out == (
        f"{CATALOG} (text, batch)\n"
        f"  made by {run} detect, which told of what\n"
        f"    image: {IMAGE} (image, batch)\n"
        f"      made by {run} stack\n"
        "        left out: frame: f3.fits (image, raw): eliminated: clouds: 0.8 mag\n"
        "        left out: frame: f4.fits (image, raw): not among what the step told that it used\n"
        "        flat: flat.fits (image, raw)\n"
        "        frame: f1.fits (image, raw)\n"
        "        frame: f2.fits (image, raw)\n"
        "        mask: mask.fits (image, raw), never opened\n"
    )
    planned = nightmill("lineage", CATALOG, "--planned").out
    assert "frame: f3.fits (image, raw)\n" in planned
    assert "frame: f4.fits (image, raw), never opened\n" in planned
    assert "left out" not in planned
    opened = nightmill("lineage", CATALOG, "--opened").out
    assert "left out: mask: mask.fits (image, raw): never opened\n" in opened
    assert "frame: f3.fits (image, raw)\n" in opened
    refused = nightmill("lineage", CATALOG, "--opened", "--planned")
    assert (refused.code, "--planned and --opened exclude each other" in refused.err) == (2, True)


@pytest.mark.req("B45")
def test_down_from_what_was_left_out_leads_only_where_it_was_not(observed: Path, nightmill: Nightmill) -> None:
    assert nightmill("lineage", "f3.fits", "--down").out == (
        "f3.fits (image, raw)\n"
        f"  left out by {JOB}/a01 stack: eliminated: clouds: 0.8 mag\n"
        "  used by night1/science/exposure=13,detector=3/a01 stack\n"
        "    image: image-exposure13a1.fits (image, batch)\n"
        "      used by night1/science/exposure=13,detector=3/a01 detect\n"
        "        catalog: catalog-exposure13a1.txt (text, batch)\n"
    )
    [told] = nightmill("lineage", "f3.fits", "--down", "--json").json
    assert [(edge["file"], edge["reason"]) for edge in told["left_out"]] == [("f3.fits", "clouds: 0.8 mag")]
    assert {each["name"] for each in told["files"]} == {
        "f3.fits", "image-exposure13a1.fits", "catalog-exposure13a1.txt",
    }  # fmt: skip
    assert "given to night1" in nightmill("lineage", "mask.fits", "--down").out


@pytest.mark.req("B45", "B47")
def test_why_tells_what_a_file_was_not_made_of(observed: Path, nightmill: Nightmill) -> None:
    said = nightmill("why", CATALOG).out
    assert f"The step tells that of all this it was made of: {IMAGE}.\n" in said
    told = nightmill("why", IMAGE, "--json").json["made_by"]
    assert told["made_of"] is None
    assert (told["execution"]["observed"]["witness"], told["execution"]["observed"]["opened"]) == ("inotify", 4)


@pytest.mark.req("B40", "B45")
def test_show_tells_of_each_step_how_it_was_held_and_what_it_opened_and_told(
    observed: Path, nightmill: Nightmill
) -> None:
    said = nightmill("show", JOB).out
    assert said.endswith(
        "stack: confined (standard, by landlock 7, seccomp); opened 4 of 6 inputs, as inotify saw;"
        " told what it used, and left out 2\n"
        "  not held: UDP is open\n"
        "  tried to reach: /data/other.fits\n"
        "  noted: never read: f4.fits\n"
        "  warned: lied: f2.fits: nobody saw it\n"
        "detect: not confined; nobody saw what it opened; told what it used\n"
    )


@pytest.mark.req("B40", "B46")
def test_a_campaign_tells_how_much_of_it_is_known_and_what_it_warns_of(observed: Path, nightmill: Nightmill) -> None:
    lines = (
        "warning: science/stack: lied (told as used, and never opened): 1 in 1 job, as exposure=12,detector=3\n"
        "known: of 4 runs of steps 1 confined, 1 witnessed, 2 told what they used\n"
    )
    assert lines in nightmill("show", "night1").out
    assert lines in nightmill("status", "night1").out
    [told] = nightmill("status", "night1", "--json").json
    assert told["known"] == {"runs": 4, "confined": 1, "witnessed": 1, "told": 2, "silent": 0}
    assert [each["kind"] for each in told["differences"]] == ["lied"]
    assert nightmill("show", "night1", "--json").json["known"] == told["known"]


@pytest.mark.req("B45", "B40")
def test_operators_are_told_what_is_staged_in_vain_and_what_is_eliminated(observed: Path, nightmill: Nightmill) -> None:
    told = nightmill("ops", "inputs", "--json").json
    in_vain = {each["role"]: (each["files"], each["attempts"], each["staged"]) for each in told["never_opened"]}
    assert in_vain == {"frame": (1, 1, 1), "mask": (1, 1, 1)}
    assert all(each["size_bytes"] == 8640 for each in told["never_opened"])
    assert told["eliminated"] == [
        {
            "campaign": "night1",
            "stage": "science",
            "role": "frame",
            "reason": "clouds: 0.8 mag",
            "night": 20260110,
            "detector": 3,
            "files": 1,
            "jobs": 1,
            "example": "f3.fits",
        }
    ]
    assert [(each["kind"], each["consequence"], each["count"]) for each in told["differences"]] == [
        ("lied", "warned", 1),
        ("never_read", "noted", 1),
    ]
    said = nightmill("ops", "inputs", "night1").out
    assert all(part in said for part in ("staged, and never opened:", "eliminated:", "differences:", "never read"))
    unknown = nightmill("ops", "inputs", "nigth1")
    assert (unknown.code, "night1" in unknown.err) == (2, True)


def test_where_nothing_is_known_nothing_is_reported(each_folder: Path, nightmill: Nightmill) -> None:
    assert "nothing is on record of inputs" in nightmill("ops", "inputs").err


def test_the_views_tell_the_same(observed: Path, nightmill: Nightmill) -> None:
    query = "SELECT step, level, witness, planned_files, opened_files, contributed_files, left_out_files, differences"
    [row] = nightmill("sql", f"{query} FROM step_observed WHERE level = 'standard'", "--json").json
    assert tuple(row.values()) == ("stack", "standard", "inotify", 6, 4, 2, 2, 2)
    query = "SELECT used_file, derived FROM lineage WHERE generated_file = 'catalog-exposure12a1.txt'"
    [row] = nightmill("sql", query, "--json").json
    assert (row["used_file"], bool(row["derived"])) == (IMAGE, True)
    [row] = nightmill("sql", "SELECT kind FROM step_difference WHERE consequence = 'warned'", "--json").json
    assert row == {"kind": "lied"}
