"""Limits of a campaign: how many of its jobs run at a time over all its slices, and on which hosts."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import null, select

from nightmill.backbone.schema import AuditRow, CampaignRow
from nightmill.errors import RequestRefused
from nightmill.execution.host import this_host
from nightmill.operations import follower, slice_work
from nightmill.operations.limits import limit
from nightmill.operations.site import Site
from nightmill.operations.slice_work import SliceWork
from tests.flows.conftest import until
from tests.operations.test_slices import Slice, carry_out

HOST = this_host().name


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "FOLLOW_SECONDS", 0.05)


def two_slices(site: Site, slice_: Slice, *settings: str) -> tuple[SliceWork, SliceWork]:
    slice_.observatory.submit("wide", 1, "execution.jobs_per_slice=4", *settings)
    one, other = (SliceWork(site, "wide", "science", number) for number in (0, 1))
    return one, other


@pytest.mark.req("X20")
def test_a_limit_counts_the_jobs_of_all_slices_and_what_waits_for_it_neither_ends_nor_spins(
    database_url: str, tmp_path: Path
) -> None:
    slice_ = Slice.of(tmp_path, database_url, *["seconds 0"] * 7)
    with slice_.observatory.open() as site:
        first, second = two_slices(site, slice_, "execution.jobs=3")
        with first, second:
            orders = first.issue(2)
            others = second.issue(5)
            assert (len(orders), len(others)) == (2, 1)
            assert (second.issue(5), second.seconds_to_wait()) == ([], slice_work.LIMIT_SECONDS)
            first.record(list(first.worker.run(orders)))
            assert first.jobs().done == 2
            more = second.issue(5)
            assert len(more) == 2, "room as soon as they have ended"
            limit(site, "wide", jobs=1, why="the archive is slow", who="mara")
            assert first.issue(5) == []
            second.record(list(second.worker.run([*others, *more])))
            assert second.jobs().done == 3, "what was issued goes on to its end"
            assert second.seconds_to_wait() is None
            assert second.issue(5) == [], "it has nothing left, and ends, whatever the limit"
            assert second.seconds_to_wait() is None
            last = first.issue(5)
            assert len(last) == 1
            assert (first.issue(5), first.seconds_to_wait()) == ([], slice_work.LIMIT_SECONDS)
            assert str(first.steering.limits) == "at most 1 job at a time, by mara: the archive is slow"
            limit(site, "wide", jobs=0, why="quick again")
            rest = first.issue(5)
            assert len(rest) == 1
            first.record(list(first.worker.run([*last, *rest])))
            assert first.jobs().done + second.jobs().done == 7


def test_slices_that_issue_at_the_same_moment_keep_to_the_limit_together(database_url: str, tmp_path: Path) -> None:
    slice_ = Slice.of(tmp_path, database_url, *["seconds 0"] * 8)
    with slice_.observatory.open() as site:
        works = two_slices(site, slice_, "execution.jobs=3")
        with works[0], works[1]:
            begin = threading.Barrier(2)
            issued: list[object] = []

            def go(work: SliceWork) -> None:
                begin.wait()
                for _ in range(4):
                    issued.extend(work.issue(1))

            threads = [threading.Thread(target=go, args=(work,)) for work in works]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(issued) == 3


@pytest.mark.req("REQ-0024", "REQ-0025")
def test_a_host_that_may_not_be_used_begins_nothing_and_leaves_the_jobs_to_others(
    database_url: str, tmp_path: Path
) -> None:
    slice_ = Slice.of(tmp_path, database_url, *["seconds 0"] * 3)
    with slice_.observatory.open() as site:
        with slice_.work(site) as work:
            [order, *_] = work.issue(2)
            limited = limit(site, "night1", avoid=[f"{HOST[:2]}*"], why="its disk fails", who="mara")
            assert limited.unknown_hosts == ()
            until(lambda: work.halted, 30, "the follower to hear of it")
            told = f"host {HOST} is to be avoided ({HOST[:2]}*), by mara: its disk fails"
            assert work.barred == work.halted == f"campaign 'night1' may not run here: {told}"
            assert work.issue(5) == []
            assert work.seconds_to_wait() is None
            work.record(list(work.worker.run([order])))
        assert sorted(slice_.observatory.states("night1").values()) == ["done", "planned", "ready"]
        other = limit(site, "night1", use=["node7", "node8"], avoid=[], why="they are idle", who="otto")
        assert other.unknown_hosts == ("node7", "node8")
        with slice_.work(site) as work:
            assert work.issue(5) == []
            assert work.barred.endswith(f"{HOST} is not among those to use (node7, node8), by otto: they are idle")
        again = limit(site, "night1", use=["node7", "node8"], why="once more", who="mara")
        assert (again.changed, again.limits.who) == (False, "otto")
        limit(site, "night1", use=["node7", HOST], why="this one, too")
        with slice_.work(site) as work:
            list(carry_out(work, together=2))
            assert work.jobs().done == 3
        with site.database.reading() as session:
            acts = [row.detail for row in session.scalars(select(AuditRow).where(AuditRow.verb == "limit"))]
    assert len(acts) == 3
    assert acts[1] == {
        "jobs": 0,
        "use": ["node7", "node8"],
        "avoid": [],
        "before": {"jobs": 0, "use": [], "avoid": [f"{HOST[:2]}*"]},
    }


def test_a_campaign_submitted_again_keeps_what_was_said_unless_its_file_says_otherwise(
    database_url: str, tmp_path: Path
) -> None:
    slice_ = Slice.of(tmp_path, database_url, "seconds 0")
    night = ("night1", 1, "execution.threads=1")
    with slice_.observatory.open() as site:

        def limits() -> tuple[object, ...]:
            columns = (CampaignRow.most_jobs, CampaignRow.hosts, CampaignRow.limited_by)
            with site.database.reading() as session:
                return tuple(session.execute(select(*columns)).one())

        assert limits() == (0, None, None)
        with site.database.reading() as session:
            assert session.scalar(select(CampaignRow.id).where(CampaignRow.hosts.is_(null()))), "and no null of JSON"
        limit(site, "night1", jobs=2, why="slow", who="mara")
        slice_.observatory.submit(*night)
        assert limits() == (2, None, "mara")
        slice_.observatory.submit(*night, "execution.hosts.avoid=[node3]")
        assert limits() == (0, {"avoid": ["node3"]}, None)
        limit(site, "night1", jobs=1, why="slow", who="mara")
        assert limits() == (1, {"avoid": ["node3"]}, "mara")
        for nonsense, told in (
            ({}, "nothing is said of how campaign 'night1' is to be limited; give --jobs"),
            ({"jobs": -1}, "--jobs -1 is below 0; give how many run at a time"),
            ({"avoid": [""]}, "a pattern of hosts is empty; give a name"),
        ):
            with pytest.raises(RequestRefused, match=told):
                limit(site, "night1", why="no", **nonsense)
        assert limits() == (1, {"avoid": ["node3"]}, "mara")
