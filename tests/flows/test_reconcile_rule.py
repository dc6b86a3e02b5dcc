"""The rule of reconciliation, by itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from flows.hosting.reconcile import CANCELLING_LIMIT, PENDING_LIMIT, RUNNING_LIMIT, Evidence, agreed
from nightmill.backbone.work.steering import Steering
from nightmill.model.conducting import RunState
from nightmill.model.states import Course

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)
BEGAN = NOW - timedelta(seconds=30)


def _decided(state: str, evidence: Evidence, at: datetime = BEGAN) -> str | None:
    decided = agreed(RunState(state, at=at), evidence, NOW)
    return None if decided is None else f"{decided['type']}: {decided['message']}"


def _work(done: int, *, owner_alive: bool | None = None, since: datetime | None = None) -> Evidence:
    owner = "7 on host" if since else ""
    return Evidence(jobs=4, done=done, complete=done == 4, owner=owner, owner_alive=owner_alive, since=since)


PAUSED = "paused by mara: clouds"
AFTER = BEGAN + timedelta(seconds=1)
BEFORE = BEGAN - timedelta(seconds=1)


@pytest.mark.parametrize(
    ("state", "evidence", "decided"),
    [
        ("RUNNING", _work(2, owner_alive=True, since=AFTER), None),
        ("RUNNING", _work(2, owner_alive=None, since=AFTER), None),  # on another host
        ("RUNNING", _work(2, owner_alive=False, since=AFTER), "CRASHED: its process (7 on host) is dead"),
        ("RUNNING", _work(2, owner_alive=False, since=BEFORE), None),  # its new process has not begun yet
        ("RUNNING", _work(2), None),
        ("RUNNING", _work(2, owner_alive=True, since=BEFORE), None),
        ("PENDING", _work(2, owner_alive=False, since=BEFORE), None),
        ("CANCELLING", _work(2, owner_alive=True, since=BEFORE), None),
        (
            "CANCELLING",
            _work(2, owner_alive=False, since=BEFORE),
            "CANCELLED: on request; its process (7 on host) is gone",
        ),
        ("SCHEDULED", _work(4), None),
        ("CANCELLED", _work(4), None),
        ("COMPLETED", _work(4), None),
        ("COMPLETED", _work(3), "FAILED: 1 of 4 jobs not done, as the backbone says"),
        ("FAILED", _work(3), None),
        ("FAILED", _work(4), "COMPLETED: 4 jobs done, as the backbone says"),
        ("CRASHED", _work(4), "COMPLETED: 4 jobs done, as the backbone says"),
        ("CRASHED", _work(0), None),
    ],
)
def test_states_follow_the_backbone(state: str, evidence: Evidence, decided: str | None) -> None:
    assert _decided(state, evidence) == decided


@pytest.mark.parametrize(("state", "limit"), [("PENDING", PENDING_LIMIT), ("RUNNING", RUNNING_LIMIT)])
def test_what_nobody_took_in_hand_for_long_has_crashed(state: str, limit: timedelta) -> None:
    assert _decided(state, _work(1), at=NOW - limit) is None
    late = _decided(state, _work(1), at=NOW - limit - timedelta(seconds=1))
    assert late is not None
    assert late.startswith("CRASHED")
    assert late.endswith("and no process took it in hand")


def test_what_a_living_process_has_in_hand_is_left_to_it_however_the_clocks_of_hosts_differ() -> None:
    evidence = _work(1, owner_alive=True, since=BEFORE)
    assert _decided("RUNNING", evidence, at=NOW - RUNNING_LIMIT - timedelta(hours=1)) is None


def test_what_was_to_be_cancelled_does_not_stay_so_for_ever() -> None:
    for evidence in (_work(1), _work(1, owner_alive=None, since=BEFORE)):
        assert _decided("CANCELLING", evidence, at=NOW - CANCELLING_LIMIT) is None
        late = _decided("CANCELLING", evidence, at=NOW - CANCELLING_LIMIT - timedelta(seconds=1))
        assert (late or "").startswith("CANCELLED: on request; nothing was heard since ")
    alive = _work(1, owner_alive=True, since=BEFORE)
    assert _decided("CANCELLING", alive, at=NOW - CANCELLING_LIMIT - timedelta(hours=1)) is None


def test_a_campaign_whose_stages_were_not_all_planned_is_not_complete() -> None:
    decided = _decided("COMPLETED", Evidence(jobs=4, done=4, complete=False))
    assert decided == "FAILED: some of its stages were not carried out, as the backbone says"


@pytest.mark.parametrize(
    ("state", "course", "evidence", "decided"),
    [
        ("SCHEDULED", Course.PAUSED, _work(2), f"PAUSED: its campaign is {PAUSED}"),
        ("SCHEDULED", Course.STOPPED, _work(2), f"PAUSED: its campaign is {PAUSED}"),
        ("RUNNING", Course.PAUSED, _work(2, owner_alive=True, since=AFTER), None),
        ("RUNNING", Course.PAUSED, _work(2, owner_alive=False, since=BEFORE), None),
        ("RUNNING", Course.PAUSED, _work(2, owner_alive=False, since=AFTER), f"PAUSED: its campaign is {PAUSED}"),
        ("PAUSED", Course.PAUSED, _work(2), None),
        ("FAILED", Course.PAUSED, _work(2), None),
        ("PAUSED", Course.GOES_ON, _work(2), "SCHEDULED: its campaign is going on by mara: clouds"),
        ("PAUSED", Course.PAUSED, _work(4), "COMPLETED: 4 jobs done, as the backbone says"),
        ("SCHEDULED", Course.CANCELLED, _work(2), "CANCELLED: its campaign is cancelled by mara: clouds"),
        ("PAUSED", Course.CANCELLED, _work(2), "CANCELLED: its campaign is cancelled by mara: clouds"),
        ("FAILED", Course.CANCELLED, _work(2), "CANCELLED: its campaign is cancelled by mara: clouds"),
        ("RUNNING", Course.CANCELLED, _work(2, owner_alive=True, since=AFTER), None),
        ("CANCELLED", Course.CANCELLED, _work(2), None),
        ("CANCELLED", Course.GOES_ON, _work(2), None),
        ("COMPLETED", Course.GOES_ON, replace(_work(2), waits=True), None),
    ],
)
def test_states_follow_the_course_of_a_campaign(
    state: str, course: Course, evidence: Evidence, decided: str | None
) -> None:
    assert _decided(state, replace(evidence, steering=Steering(course, "mara", "clouds"))) == decided


def test_what_ended_held_is_scheduled_when_something_of_it_was_released() -> None:
    held = RunState("COMPLETED", "Held", at=BEGAN)
    assert agreed(held, replace(_work(2), waits=True), NOW) is None
    decided = agreed(held, _work(2), NOW)
    assert decided is not None
    assert (decided["type"], decided["message"]) == ("SCHEDULED", "its campaign is going on")
