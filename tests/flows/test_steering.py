"""Campaigns are steered while Prefect conducts them, and its states say so."""

from __future__ import annotations

import pytest

from flows.hosting.conductor import PrefectConductor
from nightmill.execution.host import this_host
from nightmill.operations.holding import Which, hold, release
from nightmill.operations.limits import limit
from nightmill.operations.rerun import rerun
from nightmill.operations.steering import cancel, pause, resume
from tests.flows.conftest import Campaign, Conductor, Observe, steps, until, written

WHO = "mara"


def states(campaign: Campaign) -> tuple[str, str]:
    return campaign.state().name, campaign.conductor.run_state(str(campaign.slice().id)).name


@pytest.mark.req("X20", "REQ-0021")
def test_a_campaign_under_way_is_paused_resumed_cancelled_and_taken_up_again(
    observe: Observe, conductor: Conductor
) -> None:
    campaign = observe("until FLAG", "unless FLAG", "until FLAG", "until FLAG")
    run = campaign.start("execution.threads=1")
    until(lambda: written(campaign.notes), 30, "the first job")
    with conductor.observatory.open() as site:
        prefect = PrefectConductor(site)

        paused = pause(site, campaign.name, why="clouds", conductor=prefect, who=WHO)
        assert (paused.active > 0, paused.unreached) == (True, ())
        campaign.flag.touch()
        campaign.wait()
        assert states(campaign) == ("Paused", "Paused")
        assert campaign.state().message == "its campaign is paused by mara: clouds"
        begun = len(campaign.times_run())
        assert begun < 4
        assert prefect.reconcile(None, [run]).states[run].name == "Paused", "nobody schedules it meanwhile"

        campaign.flag.unlink()
        resumed = resume(site, campaign.name, why="clear", conductor=prefect, who=WHO)
        assert resumed.run is not None
        assert (resumed.run.flow_run_id, resumed.unreached) == (run, ())
        until(lambda: len(campaign.times_run()) > begun and steps(campaign), 60, "a further job")

        done = cancel(site, campaign.name, why="the wrong night", conductor=prefect, who=WHO)
        assert (done.changed, done.active, done.unreached) == (True, 0, ())
        assert steps(campaign) == []
        assert campaign.state().name == "Cancelled"
        assert campaign.state().message == "its campaign is cancelled by mara: the wrong night"
        until(lambda: states(campaign) == ("Cancelled", "Cancelled"), 60, "the slice to say so")
        assert "active" not in campaign.states().values()
        assert "cancelled" in campaign.states().values()
        assert prefect.reconcile(None, [run]).states[run].name == "Cancelled"

        campaign.flag.touch()
        rerun(site, campaign.name, why="the right night", conductor=prefect, who=WHO)
        until(lambda: campaign.state().name == "Completed", 60, "the end")
    assert set(campaign.states().values()) == {"done"}
    assert str(campaign.run().id) == run


@pytest.mark.req("X20")
def test_a_campaign_with_held_jobs_left_ends_held_and_goes_on_when_they_are_released(
    observe: Observe, conductor: Conductor
) -> None:
    campaign = observe("", "", "")
    conductor.observatory.submit(campaign.name, int(campaign.name[1:]))
    unit = campaign.exposure(1)
    with conductor.observatory.open() as site:
        prefect = PrefectConductor(site)
        hold(site, campaign.name, Which((unit,)), why="a satellite", who=WHO)
        run = prefect.start(campaign.name).flow_run_id
        ended = campaign.wait()
        assert (ended.type, ended.name) == ("COMPLETED", "Held")
        assert ended.message.startswith("1 of 3 jobs not done; 1 of them held")
        assert states(campaign) == ("Held", "Held")
        assert prefect.reconcile(None, [run]).states[run].name == "Held"
        release(site, campaign.name, Which(), why="none to be seen", conductor=prefect, who=WHO)
        until(lambda: campaign.state().name == "Completed", 60, "the end")
    assert campaign.done() == 4


@pytest.mark.req("REQ-0025")
def test_a_slice_on_a_host_to_be_avoided_waits_for_another_and_the_campaign_with_it(
    observe: Observe, conductor: Conductor
) -> None:
    campaign = observe("", "")
    run = campaign.start(f"execution.hosts.avoid=[{this_host().name}]")
    until(lambda: states(campaign) == ("Running", "AwaitingHost"), 60, "the slice")
    told = conductor.run_state(str(campaign.slice().id)).message
    assert told.endswith(f"host {this_host().name} is to be avoided ({this_host().name}), as it was submitted")
    with conductor.observatory.open() as site:
        prefect = PrefectConductor(site)
        assert prefect.reconcile(campaign.name, [run]).states[run].name == "Running"
        assert states(campaign)[1] == "AwaitingHost", "it waits its minute"
        assert campaign.done() == 0
        limit(site, campaign.name, avoid=[], why="mended", who=WHO)
        resume(site, campaign.name, why="at once", conductor=prefect, who=WHO)
        until(lambda: campaign.state().name == "Completed", 60, "the end")
    assert set(campaign.states().values()) == {"done"}


def test_what_is_said_while_the_server_is_away_is_followed_and_shown_when_it_is_back(
    observe: Observe, conductor: Conductor
) -> None:
    from flows.hosting import service

    campaign = observe("until FLAG", "")
    run = campaign.start("execution.threads=1")
    until(lambda: written(campaign.notes), 30, "the first job")
    service.stop(conductor.site)
    with conductor.observatory.open() as site:
        prefect = PrefectConductor(site)
        done = cancel(site, campaign.name, why="the wrong night", conductor=prefect, who=WHO)
        assert done.active == 0
        [told] = done.unreached
        assert "Prefect does not say so yet (its server is stopped)" in told
        assert set(campaign.states().values()) == {"cancelled"}
        conductor.start()
        assert cancel(site, campaign.name, why="again", conductor=prefect, who=WHO).unreached == ()
        assert prefect.state(run).name == "Cancelled"
