"""What a pilot made is compared before somebody signs off, and a rule may sign off."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from nightmill.backbone.schema import AttemptRow, AuditRow, CampaignRow, FileRow, JobRow, SignOffRow
from nightmill.backbone.work.products import Product
from nightmill.config.campaign import load_campaign
from nightmill.errors import ConfigErrors, PlanRefused, RequestRefused, UnknownName
from nightmill.model.states import JobState
from nightmill.operations.rerun import rerun
from nightmill.operations.samples import KeyDifference, Ruled, compare, look, sign_by_rule
from nightmill.operations.sign_off import sign_off
from nightmill.operations.site import Site
from nightmill.operations.submit import submit
from tests.examples.campaigns import conduct
from tests.support.observatory import Observatory

PILOT = "{pilot: {stage: science, units: 2}, against: night0%s}"


@pytest.fixture
def observatory(database_url: str, tmp_path: Path) -> Observatory:
    """Give a site with a campaign night0 that is done, and four exposures."""
    made = Observatory.build(tmp_path / "site", database_url)
    made.observe(1, ["seconds 0"] * 4)
    made.submit("night0", 1)
    with made.open() as site:
        conduct(site, "night0")
    return made


@pytest.fixture
def site(observatory: Observatory) -> Iterator[Site]:
    with observatory.open() as opened:
        yield opened


def pilot(observatory: Observatory, site: Site, more: str = "", name: str = "night1") -> None:
    """Submit a campaign with a pilot, and carry that out."""
    observatory.submit(name, 1, f"breakpoints=[{PILOT % more}]")
    conduct(site, name)


def change(site: Site, campaign: str, sha256: str | None, values: list[float]) -> list[str]:
    """Give the products of a campaign another digest, and values in their metadata; return their names."""

    def work(session: Session) -> list[str]:
        files = session.scalars(
            select(FileRow)
            .join(AttemptRow, AttemptRow.id == FileRow.attempt_id)
            .join(JobRow, JobRow.id == AttemptRow.job_id)
            .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
            .where(CampaignRow.name == campaign, FileRow.type == "product")
            .order_by(FileRow.exposure)
        ).all()
        for file, value in zip(files, values, strict=False):
            file.sha256 = sha256 or file.sha256
            file.attributes = {"fwhm": value, "seen": True, "by": "eye"}
        return [file.name for file in files]

    return site.database.write(work)


@pytest.mark.req("X18")
def test_what_a_pilot_made_is_compared_and_nothing_is_signed_off(observatory: Observatory, site: Site) -> None:
    pilot(observatory, site)
    [sample] = look(site, "night1")
    assert (sample.breakpoint, sample.waiting, sample.done, sample.failed) == ("pilot of science", 2, 2, 0)
    assert sample.comparison is not None
    assert (sample.comparison.same, sample.comparison.differing, sample.comparison.missing) == (2, 0, 0)
    ours = change(site, "night1", "f" * 64, [2.0, 2.5])
    change(site, "night0", None, [2.0] * 4)
    [sample] = look(site, "night1", breakpoint="pilot of science")
    assert sample.comparison is not None
    assert (sample.comparison.same, sample.comparison.differing, sample.comparison.missing) == (0, 2, 0)
    assert sample.comparison.keys == (KeyDifference("product", "fwhm", 2, 0.25, 0.5, ours[1]),)
    assert sign_by_rule(site, "night1") == Ruled(), "it has no rule"
    observatory.submit("few", 1, f"where=exposure == {int(ours[0][:4])}")
    conduct(site, "few")
    [sample] = look(site, "night1", against="few")
    assert sample.comparison is not None
    assert (sample.comparison.against, sample.comparison.differing, sample.comparison.missing) == ("few", 1, 1)
    with pytest.raises(RequestRefused, match="campaign 'night1' would be compared with itself"):
        look(site, "night1", against="night1")
    with pytest.raises(UnknownName, match=r"no campaign named 'nihgt0' \(did you mean 'night0'\?\)"):
        look(site, "night1", against="nihgt0")
    assert sign_off(site, "night1", why="it looks right").jobs == 2
    with pytest.raises(RequestRefused, match="does not wait at a breakpoint"):
        look(site, "night1")


@pytest.mark.req("X18")
def test_a_rule_signs_off_once_and_goes_on_record_with_its_values(observatory: Observatory, site: Site) -> None:
    rule = "failed == 0 and differing == 0 and missing == 0"
    observatory.submit("night1", 1, f"breakpoints=[{PILOT % f', rule: {rule!r}'}, {{after: science, rule: done == 4}}]")
    assert sign_by_rule(site, "night1") == Ruled(), "the pilot has not ended"
    conduct(site, "night1")

    def sign(_: int) -> Ruled:
        with observatory.open() as another:
            return sign_by_rule(another, "night1")

    with ThreadPoolExecutor(4) as pool:
        signed = [each for ruled in pool.map(sign, range(4)) for each in ruled.signed]
    assert signed == ["pilot of science"]
    conduct(site, "night1")
    put(site, JobState.DONE, JobState.READY)
    assert sign_by_rule(site, "night1") == Ruled(), "a job of the stage is to run again"
    put(site, JobState.READY, JobState.DONE)
    assert sign_by_rule(site, "night1") == Ruled(("after science",))
    assert sign_by_rule(site, "night1") == Ruled()
    conduct(site, "night1")
    assert set(observatory.states("night1").values()) == {"done"}
    with site.database.reading() as session:
        rows = select(SignOffRow.who, SignOffRow.accepted, SignOffRow.why).order_by(SignOffRow.id)
        assert [tuple(row) for row in session.execute(rows)] == [
            ("rule", True, f"{rule} (done 2, failed 0, same 2, differing 0, missing 0)"),
            ("rule", True, "done == 4 (done 4, failed 0)"),
        ]
        acts = select(AuditRow.who).where(AuditRow.verb == "sign-off")
        assert list(session.scalars(acts)) == ["rule", "rule"]


def put(site: Site, state: JobState, other: JobState) -> None:
    """Put what is in one state of the stage science of the last campaign into another."""

    def work(session: Session) -> None:
        last = select(func.max(CampaignRow.id)).scalar_subquery()
        of_stage = (JobRow.campaign_id == last, JobRow.stage == "science", JobRow.state == state)
        session.execute(update(JobRow).where(*of_stage).values(state=other.value))

    site.database.write(work)


def test_a_rule_that_does_not_hold_or_was_rejected_waits_for_a_person(observatory: Observatory, site: Site) -> None:
    pilot(observatory, site, ", rule: differing == 0")
    change(site, "night1", "f" * 64, [2.0])
    told = "'pilot of science' waits for a person: its rule does not hold: differing == 0 (done 2, failed 0, same 1,"
    [why] = sign_by_rule(site, "night1").waits
    assert told in why
    assert look(site, "night1")[0].holds is False
    sign_off(site, "night1", why="one frame differs", who="mara", reject=True)
    assert sign_by_rule(site, "night1") == Ruled(), "it is cancelled"
    rerun(site, "night1")
    conduct(site, "night1")
    change(site, "night1", look_up(site), [2.0, 2.0])
    assert look(site, "night1")[0].holds
    assert sign_by_rule(site, "night1").waits == (
        "breakpoint 'pilot of science' waits for a person, as one rejected it before",
    )
    assert sign_off(site, "night1", why="after all").jobs == 2


def look_up(site: Site) -> str:
    with site.database.reading() as session:
        return str(session.scalar(select(FileRow.sha256).where(FileRow.name.like("%product_c0001a01%")).limit(1)))


def test_files_that_only_their_steps_tell_apart_are_paired_by_those_names() -> None:
    what = ("exposure=1", "chip", "chips", (("exposure", 1),))

    def chips(prefix: str, *names: str) -> list[Product]:
        return [Product(f"{prefix}{name}", name, name, {"sky": 1 if prefix == "a" else float("nan")}) for name in names]

    found = compare("other", {what: chips("a", "1", "2", "3")}, {what: chips("b", "3", "1")})
    assert (found.same, found.differing, found.missing, found.keys) == (2, 0, 1, ())
    alone = compare("other", {what: chips("a", "1")}, {what: chips("b", "x")})
    assert (alone.same, alone.differing, alone.missing) == (0, 1, 0)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("{after: science, against: night1}", "breakpoint 'after science' is compared with its own campaign"),
        (
            "{after: science, rule: faild == 0}",
            "'faild' is not a count that a rule may ask for (did you mean 'failed'?): it may ask for done,",
        ),
        ("{after: science, rule: night == 0}", "'night' is not a count that a rule may ask for"),
        ("{after: science, rule: missing == 0}", "missing counts files that are compared; say in 'against' with which"),
        ("{after: science, rule: failed ==}", "rule of breakpoint 'after science': "),
    ],
)
def test_a_comparison_or_rule_that_cannot_be_is_refused_with_its_place(tmp_path: Path, setting: str, told: str) -> None:
    observatory = Observatory.build(tmp_path / "site")
    file = observatory.directory / "night1.yaml"
    file.write_text(f"campaign: night1\npipeline: pipeline.yaml\nbreakpoints:\n- {setting}\n")
    with pytest.raises(ConfigErrors) as refused:
        load_campaign(file)
    assert told in str(refused.value)
    assert "night1.yaml:4" in str(refused.value)


def test_a_campaign_to_compare_with_that_is_not_there_is_a_problem_of_the_plan(tmp_path: Path) -> None:
    observatory = Observatory.build(tmp_path / "site")
    observatory.observe(1, ["seconds 0"])
    file = observatory.directory / "night1.yaml"
    file.write_text(f"campaign: night1\npipeline: pipeline.yaml\nbreakpoints:\n- {PILOT % ''}\n")
    with observatory.open() as site, pytest.raises(PlanRefused) as refused:
        submit(site, load_campaign(file), who="mara")
    [problem] = refused.value.problems
    assert problem.startswith("breakpoint 'pilot of science', campaign (")
    assert "night1.yaml:3): against: no campaign named 'night0'" in problem
