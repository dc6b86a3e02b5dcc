"""Campaigns are steered from the command line, and the words of several operators stand in the record."""

from __future__ import annotations

import getpass
import socket
import threading
from pathlib import Path

import pytest

from nightmill.config.campaign import load_campaign
from nightmill.errors import RequestRefused
from nightmill.operations.holding import Which, hold, release
from nightmill.operations.site import Site, open_site
from nightmill.operations.slice_work import SliceWork
from nightmill.operations.steering import cancel
from nightmill.operations.submit import submit
from tests.cli.conftest import Nightmill, describe, take_in
from tests.cli.test_operators import PIPELINE, TYPES
from tests.examples.campaigns import conduct

ME = getpass.getuser()
NO_LIMITS = {"jobs": 0, "use_hosts": [], "avoid_hosts": [], "who": "", "why": ""}


@pytest.fixture
def site(each_folder: Path, nightmill: Nightmill, tmp_path: Path) -> Path:
    """Give a site with a campaign of three jobs that nobody conducts yet."""
    describe(each_folder, TYPES, PIPELINE)
    take_in(nightmill, tmp_path / "night", 3)
    with open_site(each_folder) as opened:
        submit(opened, load_campaign(each_folder / "first.yaml"), who="ada")
    return each_folder


def carry_out(folder: Path) -> None:
    with open_site(folder) as opened:
        conduct(opened, "first")


@pytest.mark.req("X20", "REQ-0021", "F46")
def test_a_campaign_is_paused_resumed_and_cancelled_and_each_word_is_an_act(site: Path, nightmill: Nightmill) -> None:
    assert nightmill("pause", "first").err == (
        "nightmill: --why is empty; say why, in words: it is kept with the act\n"
    )
    paused = nightmill("pause", "first", "--why", "clouds")
    assert (paused.code, paused.out) == (0, f"campaign first is paused by {ME}: clouds\n")
    carry_out(site)
    assert f"paused by {ME}: clouds" in nightmill("status", "first").out
    [campaign] = nightmill("status", "first", "--json").json
    assert campaign["steering"] == {"course": "paused", "who": ME, "why": "clouds", "priority": 0, "limits": NO_LIMITS}
    assert campaign["stages"][0]["planned"] == 3, "no job began"
    assert nightmill("pause", "first", "--why", "wind").out == f"campaign first was already paused by {ME}: clouds\n"

    resumed = nightmill("resume", "first", "--why", "clear")
    assert (resumed.code, resumed.out) == (3, f"campaign first is going on by {ME}: clear\n")
    assert "it goes on as soon as that is back" in resumed.err
    cancelled = nightmill("cancel", "first", "--why", "the wrong night", "--json")
    assert cancelled.code == 0
    assert (cancelled.json["steering"]["course"], cancelled.json["jobs"], cancelled.json["active"]) == (
        "cancelled",
        3,
        0,
    )
    carry_out(site)
    for verb in ("resume", "pause"):
        refused = nightmill(verb, "first", "--why", "no")
        assert (refused.code, refused.err) == (
            2,
            f"nightmill: campaign 'first' is cancelled by {ME}: the wrong night;"
            " take it up with 'nightmill rerun first'\n",
        )
    [campaign] = nightmill("status", "first", "--json").json
    assert campaign["stages"][0]["cancelled"] == 3, "no job began"
    acts = nightmill("sql", "SELECT verb, why FROM audit WHERE verb NOT IN ('init', 'ingest') ORDER BY id", "--json")
    assert [(act["verb"], act["why"]) for act in acts.json] == [
        ("submit", ""),
        ("pause", "clouds"),
        ("resume", "clear"),
        ("cancel", "the wrong night"),
    ]
    assert nightmill("pause", "frist", "--why", "no").err == (
        "nightmill: no campaign named 'frist' (did you mean 'first'?); see 'nightmill status' for the campaigns\n"
    )


@pytest.mark.req("X20")
def test_jobs_are_held_and_released_by_their_units(site: Path, nightmill: Nightmill) -> None:
    held = nightmill("hold", "first", "--where", "exposure == 2", "--why", "a satellite")
    assert (held.code, held.out) == (0, "first: 1 job held\n")
    again = nightmill("hold", "first", "exposure=2", "copy/exposure=3", "--stage", "copy", "--why", "and its next")
    assert again.out == "first: 1 job held\n1 job held: not held\n"
    nothing = nightmill("hold", "first", "--where", "exposure in [2, 3]", "--why", "no")
    assert (nothing.code, nothing.err) == (
        2,
        "nightmill: none of these jobs can be held: 2 held; see 'nightmill status first'\n",
    )
    told = nightmill("status", "first").out
    assert f"held: 1 job: by {ME}: a satellite (waits for its release)" in told
    carry_out(site)
    [campaign] = nightmill("status", "first", "--json").json
    assert (campaign["stages"][0]["done"], campaign["stages"][0]["held"]) == (1, 2)
    refused = nightmill("release", "first", "exposure=1", "--why", "no")
    assert refused.err == ("nightmill: no job that waits for a person is meant: 1 done; see 'nightmill status first'\n")
    released = nightmill("release", "first", "exposure=2", "--why", "none to be seen")
    assert (released.code, released.out) == (3, "first: 1 job released\n")
    assert "it goes on as soon as that is back" in released.err
    carry_out(site)
    [campaign] = nightmill("status", "first", "--json").json
    assert (campaign["stages"][0]["done"], campaign["holds"]) == (
        2,
        [{"by": "operator", "why": f"by {ME}: and its next", "jobs": 1}],
    )
    acts = nightmill("sql", "SELECT verb, detail FROM audit WHERE verb IN ('hold', 'release') ORDER BY id", "--json")
    assert "exposure == 2" in str(acts.json[0]["detail"])
    assert [act["verb"] for act in acts.json] == ["hold", "hold", "release"]


def test_names_that_are_not_known_are_refused_with_a_guess(site: Path, nightmill: Nightmill) -> None:
    del site
    for arguments, told in (
        (("exposure=22",), "no unit of campaign 'first' named 'exposure=22' (did you mean 'exposure=2'?)"),
        (("--stage", "copi"), "no stage of campaign 'first' named 'copi' (did you mean 'copy'?)"),
        (
            ("--where", "exposur == 2"),
            "no key of units of campaign 'first' named 'exposur' (did you mean 'exposure'?)",
        ),
    ):
        called = nightmill("hold", "first", *arguments, "--why", "look")
        assert called.code == 2
        assert called.err.startswith(f"nightmill: {told}"), called.err


@pytest.mark.req("REQ-0016", "REQ-0023")
def test_a_priority_is_given_at_submit_and_later(site: Path, nightmill: Nightmill) -> None:
    del site
    assert nightmill("priority", "first", "7", "--why", "the telescope waits").out == "campaign first has priority 7\n"
    assert nightmill("priority", "first", "7", "--why", "again").out == "campaign first had already priority 7\n"
    assert "priority 7" in nightmill("status", "first").out


def test_a_job_that_runs_is_not_held_and_that_is_told(site: Path, nightmill: Nightmill) -> None:
    with open_site(site) as opened, SliceWork(opened, "first", "copy", 0) as work:
        [order] = work.issue(1)
        held = nightmill("hold", "first", "--why", "look")
        assert held.out == "first: 2 jobs held\n1 job active: not held, as it runs: it goes on to its end\n"
        work.record(list(work.worker.run([order])))
        assert work.issue(5) == []


def test_of_two_operators_at_once_each_job_is_held_by_one(site: Path) -> None:
    counts: list[int] = []

    def take(opened: Site, who: str) -> None:
        try:
            counts.append(hold(opened, "first", Which(), why="look", who=who).jobs)
        except RequestRefused:
            counts.append(0)

    with open_site(site) as one, open_site(site) as two:
        for _ in range(5):
            threads = [threading.Thread(target=take, args=each) for each in ((one, "ada"), (two, "bob"))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert release(one, "first", Which(), why="looked").jobs == 3
        assert sorted(counts) == [0] * 5 + [3] * 5
        assert cancel(one, "first", why="enough").jobs == 3


@pytest.mark.req("X20", "REQ-0024", "REQ-0025")
def test_a_campaign_is_limited_in_jobs_and_hosts_and_its_status_says_so(site: Path, nightmill: Nightmill) -> None:
    host = socket.gethostname()
    said = ("--jobs", "2", "--avoid-host", host, "--avoid-host", "node3*", "--why", "bad disks")
    limited = nightmill("limit", "first", *said)
    told = f"at most 2 jobs at a time; avoids hosts {host}, node3*, by {ME}: bad disks"
    assert (limited.code, limited.out) == (0, f"campaign first: {told}\n")
    assert "warning: no host that ever carried out a job of this site matches 'node3*'\n" in limited.err
    assert nightmill("limit", "first", *said).out == f"campaign first as before: {told}\n"
    assert f"limits: {told}" in nightmill("status", "first").out
    carry_out(site)
    [campaign] = nightmill("status", "first", "--json").json
    assert campaign["stages"][0]["planned"] == 3, "no job began"
    limits = {"jobs": 2, "use_hosts": [], "avoid_hosts": [host, "node3*"], "who": ME, "why": "bad disks"}
    assert campaign["steering"]["limits"] == limits

    only = nightmill("limit", "first", "--any-host", "--use-host", host, "--why", "this one alone", "--json")
    limits = {"jobs": 2, "use_hosts": [host], "avoid_hosts": [], "who": ME, "why": "this one alone"}
    assert only.json == {"campaign": "first", "limits": limits, "changed": True, "unknown_hosts": []}
    carry_out(site)
    [campaign] = nightmill("status", "first", "--json").json
    assert campaign["stages"][0]["done"] == 3
    nothing = nightmill("limit", "first", "--why", "no")
    assert (nothing.code, nothing.err) == (
        2,
        "nightmill: nothing is said of how campaign 'first' is to be limited;"
        " give --jobs, --use-host, --avoid-host or --any-host\n",
    )
    acts = nightmill("acts", "--json")
    assert [act["verb"] for act in acts.json].count("limit") == 2


@pytest.mark.req("X18")
def test_a_pilot_is_looked_at_beside_another_campaign_before_it_is_signed_off(site: Path, nightmill: Nightmill) -> None:
    carry_out(site)
    pilot = "{pilot: {stage: copy, units: 1}, against: first, rule: done > 1 and missing == 0}"
    (site / "second.yaml").write_text(f"campaign: second\npipeline: pipeline.yaml\nbreakpoints: [{pilot}]\n")
    with open_site(site) as opened:
        submit(opened, load_campaign(site / "second.yaml"), who="ada")
        conduct(opened, "second")
    waits = "held: 2 jobs: pilot of copy (waits for 'nightmill sign-off', whose --show tells what was made)"
    assert waits in nightmill("status", "second").out
    [sample] = nightmill("sign-off", "second", "--show", "--json").json
    keys = sample["comparison"].pop("keys")
    assert sample == {
        "breakpoint": "pilot of copy",
        "waiting": 2,
        "done": 1,
        "failed": 0,
        "comparison": {"against": "first", "same": 1, "differing": 0, "missing": 0},
        "rule": "done > 1 and missing == 0",
        "holds": False,
    }
    shown = nightmill("sign-off", "second", "--show", "--against", "first").out
    assert shown.splitlines()[:2] == [
        "pilot of copy: 1 done, 0 failed; 2 jobs wait",
        "files beside those of first: 1 the same, 0 differing, 0 without a counterpart",
    ]
    assert len(shown.splitlines()) == 3 + len(keys) + bool(keys)
    assert shown.splitlines()[-1] == (
        "its rule does not hold: done > 1 and missing == 0 (done 1, failed 0, same 1, differing 0, missing 0)"
    )
    for arguments in (("--show", "--why", "right"), ("--show", "--reject"), ("--against", "first", "--why", "right")):
        refused = nightmill("sign-off", "second", *arguments)
        assert (refused.code, "nothing off; look first, then sign off without" in refused.err) == (2, True)
    assert (
        nightmill("sign-off", "second", "--why", "right").out == "second: pilot of copy: signed off, 2 jobs released\n"
    )
