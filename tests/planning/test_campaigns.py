from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from nightmill.backbone.work import campaigns
from nightmill.backbone.work.news import has_news
from nightmill.backbone.work.saved_plans import number_of
from nightmill.backbone.work.slices import slices
from nightmill.errors import RequestRefused, UnknownName
from nightmill.model.campaign import Campaign
from nightmill.model.states import JobState
from tests.planning.world import BIAS, NIGHT, SCIENCE, World, make_campaign


def test_a_campaign_is_on_record_as_it_was_submitted(world: World) -> None:
    campaign = make_campaign(BIAS, where="night == 20260110", parameters={"sigma": 3.0})
    world.submit(campaign)
    with world.database.reading() as session:
        row = campaigns.campaign_named(session, "night1")
    assert Campaign.model_validate(row.definition) == campaign
    assert (row.pipeline, row.pipeline_version, row.submitted_by, row.submitted_at) == ("ccd", "1.0", "observer", NIGHT)


def test_the_first_input_stays_the_first(world: World) -> None:
    inputs = {"frames": {"type": "raw_flat", "max": None}, "bias": {"type": "raw_bias", "max": None}}
    stage = {**BIAS, "inputs": inputs}
    world.submit(make_campaign(stage))
    with world.database.reading() as session:
        kept = Campaign.model_validate(campaigns.campaign_named(session, "night1").definition)
    assert list(kept.pipeline.stages[0].inputs) == ["frames", "bias"]
    assert kept.pipeline.stages[0].making == "frames"


def test_submitting_it_again_finds_it_and_may_change_how_it_is_carried_out(world: World) -> None:
    first = world.submit(make_campaign(BIAS))
    again = make_campaign(BIAS, execution={"threads": 1}, description="on one core")
    assert world.submit(again) == first
    with world.database.reading() as session:
        row = campaigns.campaign_named(session, "night1")
    assert Campaign.model_validate(row.definition) == again


def test_another_campaign_cannot_take_a_name_and_hears_what_differs(world: World) -> None:
    world.submit(make_campaign(BIAS))
    step = {**BIAS["steps"][0], "wall_seconds": 60.0}
    with pytest.raises(RequestRefused) as refused:
        world.submit(make_campaign({**BIAS, "steps": [step]}, where="night == 20260111"))
    assert str(refused.value) == (
        "campaign 'night1' was submitted on 2026-01-10 20:00 UTC by observer with another definition; it differs in"
        " pipeline.stages.bias.steps.combine.wall_seconds, where; give the new one a name of its own, so that both stay"
        " on record"
    )


def test_two_submissions_at_a_time_are_one_campaign(world: World) -> None:
    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(lambda _: world.submit(make_campaign(BIAS)), range(4)))
    assert len(set(numbers)) == 1


def test_numbers_are_those_of_the_names(world: World) -> None:
    with world.database.reading() as session:
        assert number_of(session, "night1") == 1
    number = world.submit(make_campaign(BIAS))
    with world.database.reading() as session:
        assert number_of(session, "night1") == number
        assert number_of(session, "night2") == number + 1
        assert (campaigns.exists(session, "night1"), campaigns.exists(session, "night2")) == (True, False)
        with pytest.raises(UnknownName, match=r"no campaign named 'night2' \(did you mean 'night1'\?\); see"):
            campaigns.campaign_named(session, "night2")


def test_progress_and_listings(world: World) -> None:
    world.add_raw("raw_bias", [1, 2], [1, 2, 3])
    campaign = make_campaign(BIAS, SCIENCE, execution={"jobs_per_slice": 2})
    number = world.submit(campaign)
    world.seal(campaign, "bias")
    done, failed = world.issue("bias")
    world.end(done)
    world.end(failed, published=False)
    with world.database.reading() as session:
        bias, science = campaigns.progress(session, number)
        assert (bias.stage, bias.position, bias.revisions, bias.total, bias.stale) == ("bias", 0, 1, 3, 0)
        assert bias.counts == {JobState.DONE: 1, JobState.FAILED: 1, JobState.PLANNED: 1}
        assert (science.stage, science.position, science.revisions, science.total) == ("science", 1, 0, 0)
        found = [(each.number, each.jobs, each.done) for each in slices(session, number, stage="bias")]
        assert found == [(0, 2, 1), (1, 1, 0)]
        assert slices(session, number, stage="science") == []
        lines = list(campaigns.jobs(session, number))
        assert [(line.name, line.state, line.attempts, line.fate) for line in lines] == [
            ("bias/instrument=nmcam,detector=1", JobState.DONE, 1, "published"),
            ("bias/instrument=nmcam,detector=2", JobState.FAILED, 1, "step_failed"),
            ("bias/instrument=nmcam,detector=3", JobState.PLANNED, 0, ""),
        ]
        assert list(campaigns.jobs(session, number, states=[JobState.FAILED])) == [lines[1]]
        assert list(campaigns.jobs(session, number, stage="bias", limit=1)) == [lines[0]]
        assert [row.name for row in campaigns.campaigns(session)] == ["night1"]


def test_news_are_what_a_stage_before_published_since(world: World) -> None:
    world.add_raw("raw_bias", [1, 2], [1, 2])
    world.add_raw("raw_science", [7])
    after = {"type": "master_bias", "source": {"stage": "bias"}}
    campaign = make_campaign(BIAS, {**SCIENCE, "inputs": {**SCIENCE["inputs"], "bias": after}})
    world.seal(campaign, "bias")
    first, second = world.issue("bias")

    def is_news() -> bool:
        with world.database.reading() as session:
            number = number_of(session, "night1")
            return has_news(session, number, "science", upstream=["bias"])

    world.end(first)
    assert is_news()
    world.seal(campaign, "science")
    assert not is_news()
    world.end(second)
    assert is_news()
    world.seal(campaign, "science")
    assert not is_news()
