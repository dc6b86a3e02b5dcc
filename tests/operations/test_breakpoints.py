"""Breakpoints: after a stage, or a sample of one, the rest waits for a sign-off that is on record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select

from nightmill.backbone.schema import AuditRow, SignOffRow
from nightmill.errors import ConfigErrors, RequestRefused, UnknownName
from nightmill.operations.holding import Which, release
from nightmill.operations.rerun import rerun
from nightmill.operations.sign_off import sign_off
from nightmill.operations.site import Site
from tests.examples.campaigns import conduct
from tests.support.observatory import Observatory

PILOT = "breakpoints=[{pilot: {stage: science, units: 2}}, {after: science}]"


@dataclass
class Campaign:
    observatory: Observatory
    site: Site

    def submit(self, *settings: str, name: str = "night1") -> None:
        self.observatory.submit(name, 1, *settings)

    def conduct(self, name: str = "night1") -> dict[str, Counter[str]]:
        """Carry out what may be, and return how the jobs of each stage stand."""
        conduct(self.site, name)
        found: dict[str, Counter[str]] = {}
        for job, state in self.observatory.states(name).items():
            found.setdefault(job.partition("/")[0], Counter())[state] += 1
        return found

    def held(self) -> set[str]:
        return {name for name, state in self.observatory.states("night1").items() if state == "held"}


@pytest.fixture
def campaign(database_url: str, tmp_path: Path) -> Iterator[Campaign]:
    observatory = Observatory.build(tmp_path / "site", database_url)
    observatory.observe(1, ["seconds 0"] * 5)
    with observatory.open() as site:
        yield Campaign(observatory, site)


@pytest.mark.req("X18")
def test_a_campaign_waits_after_a_sample_and_after_a_stage_until_each_is_signed_off(campaign: Campaign) -> None:
    campaign.submit(PILOT)
    with pytest.raises(RequestRefused, match="'pilot of science' is reached when 2 more jobs have ended"):
        sign_off(campaign.site, "night1", why="early")
    assert campaign.conduct() == {"science": {"done": 2, "held": 3}}
    assert campaign.conduct() == {"science": {"done": 2, "held": 3}}, "it waits"
    with pytest.raises(RequestRefused, match="--why is empty"):
        sign_off(campaign.site, "night1", why="")
    signed = sign_off(campaign.site, "night1", why="the pilot looks right", who="mara")
    assert (signed.breakpoints, signed.accepted, signed.jobs) == (("pilot of science",), True, 3)
    assert campaign.conduct() == {"science": {"done": 5}, "summary": {"held": 1}}
    with pytest.raises(UnknownName, match="no breakpoint of campaign 'night1' named 'after scince'"):
        sign_off(campaign.site, "night1", why="look", breakpoint="after scince")
    with pytest.raises(RequestRefused, match="does not wait at breakpoint 'pilot of science': no job is held there"):
        sign_off(campaign.site, "night1", why="again", breakpoint="pilot of science")
    assert sign_off(campaign.site, "night1", why="all of it", who="otto").breakpoints == ("after science",)
    assert campaign.conduct() == {"science": {"done": 5}, "summary": {"done": 1}}
    with campaign.site.database.reading() as session:
        signs = select(SignOffRow.breakpoint, SignOffRow.accepted, SignOffRow.who, SignOffRow.why)
        assert [tuple(row) for row in session.execute(signs.order_by(SignOffRow.id))] == [
            ("pilot of science", True, "mara", "the pilot looks right"),
            ("after science", True, "otto", "all of it"),
        ]
        acts = select(AuditRow.who, AuditRow.detail).where(AuditRow.verb == "sign-off").order_by(AuditRow.id)
        assert [tuple(row) for row in session.execute(acts)] == [
            ("mara", {"breakpoints": ["pilot of science"], "reject": False}),
            ("otto", {"breakpoints": ["after science"], "reject": False}),
        ]


@pytest.mark.req("X18")
def test_what_is_rejected_is_cancelled_and_waits_again_where_it_is_taken_up(campaign: Campaign) -> None:
    campaign.submit(PILOT)
    campaign.conduct()
    waiting = campaign.held()
    rejected = sign_off(campaign.site, "night1", why="the sky is not flat", who="mara", reject=True)
    assert (rejected.breakpoints, rejected.accepted, rejected.jobs) == (("pilot of science",), False, 3)
    assert campaign.conduct() == {"science": {"done": 2, "cancelled": 3}}
    with pytest.raises(RequestRefused, match="is cancelled by mara: the sky is not flat"):
        sign_off(campaign.site, "night1", why="after all")
    rerun(campaign.site, "night1")
    assert campaign.held() == waiting
    assert sign_off(campaign.site, "night1", why="after all").jobs == 3


def test_a_sample_has_units_of_each_group_and_is_the_same_each_time(campaign: Campaign) -> None:
    campaign.observatory.observe(2, ["seconds 0"] * 4)
    settings = ["where=night in [1, 2]", "breakpoints=[{pilot: {stage: science, units: 1, per: [night]}}]"]
    campaign.submit(*settings)
    first = campaign.held()
    assert len(first) == 7
    kept = set(campaign.observatory.states("night1")) - first
    assert {name.partition("=")[2][0] for name in kept} == {"1", "2"}
    campaign.submit(*settings, name="again")
    again = campaign.observatory.states("again")
    assert {name for name, state in again.items() if state == "held"} == first
    with pytest.raises(UnknownName, match="no key of units of stage 'science' named 'nihgt'"):
        campaign.submit("breakpoints=[{pilot: {stage: science, units: 1, per: [nihgt]}}]", name="wrong")
    with pytest.raises(UnknownName, match="no campaign named 'wrong'"):
        campaign.observatory.states("wrong")


def test_single_jobs_are_released_without_a_sign_off(campaign: Campaign) -> None:
    campaign.submit(PILOT)
    campaign.conduct()
    one = min(campaign.held())
    assert release(campaign.site, "night1", Which((one,)), why="this one first").jobs == 1
    assert campaign.conduct() == {"science": {"done": 3, "held": 2}}


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("[{after: scince}]", "the pipeline has no stage 'scince' (did you mean 'science'?)"),
        ("[{after: science}, {after: science}]", "breakpoint 'after science' stands there twice"),
        ("[{}]", "a breakpoint with either 'after' or 'pilot'"),
        (
            "[{after: science, pilot: {stage: science, units: 1}}]",
            "a breakpoint with either 'after' or 'pilot'",
        ),
        ("[{pilot: {stage: science, units: 0}}]", "units"),
    ],
)
def test_a_breakpoint_that_cannot_be_is_refused_with_its_place(tmp_path: Path, setting: str, told: str) -> None:
    observatory = Observatory.build(tmp_path / "site")
    with pytest.raises(ConfigErrors) as refused:
        observatory.submit("night1", 1, f"breakpoints={setting}")
    assert told in str(refused.value)
