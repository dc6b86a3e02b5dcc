"""Units that lack an input are held, and released by themselves when it comes."""

from __future__ import annotations

import pytest

from flows.hosting.conductor import PrefectConductor
from nightmill.config.campaign import load_campaign
from nightmill.operations.submit import submit
from tests.flows.conftest import Campaign, Conductor, Observe, until, written


def start(campaign: Campaign) -> str:
    """Have a campaign conducted whose exposures want a flat each."""
    site = campaign.conductor.site
    pipeline = (site / "pipeline.yaml").read_text()
    wants_flat = "inputs:\n      raw: {type: raw}\n      flat: {type: flat, missing: hold}\n"
    text = pipeline.replace("inputs:\n      raw: {type: raw}\n", wants_flat).replace("[raw]", "[raw, flat]")
    (site / "flat.yaml").write_text(text)
    night = int(campaign.name[1:])
    file = site / f"{campaign.name}.yaml"
    file.write_text(f"campaign: {campaign.name}\npipeline: flat.yaml\nwhere: night == {night}\n")
    with campaign.conductor.observatory.open() as opened:
        submit(opened, load_campaign(file, ()), who="observer", conductor=PrefectConductor(opened))
    return str(campaign.run().id)


def give_flats(campaign: Campaign, *numbers: int) -> None:
    for number in numbers:
        campaign.conductor.observatory.observe(int(campaign.name[1:]), [f"flat {number}\n"], type="flat", first=number)


@pytest.mark.req("X03", "F44")
def test_a_campaign_with_held_units_left_ends_held_and_goes_on_when_their_input_comes(
    observe: Observe, conductor: Conductor
) -> None:
    campaign = observe("", "", "")
    give_flats(campaign, 0)
    run = start(campaign)
    ended = campaign.wait()
    assert (ended.type, ended.name) == ("COMPLETED", "Held")
    assert ended.message.startswith("2 jobs done; 2 units held; stage 'science', input 'flat': at least 1 flat needed")
    assert "held until it comes" in ended.message

    with conductor.observatory.open() as site:
        seen = PrefectConductor(site).reconcile(None, [run])  # as every quarter of an hour, and at every status
        assert seen.states[run].name == "Held"
    give_flats(campaign, 2)
    with conductor.observatory.open() as site:
        assert PrefectConductor(site).reconcile(campaign.name, [run]).states[run].type == "SCHEDULED"
    until(lambda: campaign.states().get(campaign.exposure(2)) == "done", 60, "the job that was released")
    until(lambda: campaign.state().ended, 60, "the end")
    assert (campaign.state().name, campaign.state().message.partition(";")[0]) == ("Held", "3 jobs done")
    assert campaign.exposure(1) not in campaign.states()
    assert str(campaign.run().id) == run
    assert campaign.times_run() == {f"{100 * int(campaign.name[1:]) + number:04d}": 1 for number in (0, 2)}

    give_flats(campaign, 1)
    with conductor.observatory.open() as site:
        PrefectConductor(site).reconcile(None, [run])
    until(lambda: campaign.state().name == "Completed", 60, "the end without held units")
    assert campaign.done() == 4


@pytest.mark.req("X03")
def test_what_comes_while_a_campaign_is_under_way_is_taken_up_by_it(observe: Observe) -> None:
    campaign = observe("until FLAG", "")
    give_flats(campaign, 0)
    start(campaign)
    until(lambda: written(campaign.notes), 30, "the first job")
    give_flats(campaign, 1)
    campaign.flag.touch()
    ended = campaign.wait()
    assert (ended.type, ended.name, campaign.done()) == ("COMPLETED", "Completed", 3)
