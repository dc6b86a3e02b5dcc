"""Jobs that fail are tried again by what their stage says of their fate: how often, when, and with how much memory."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from nightmill.backbone.schema import AttemptRow, FileRow
from nightmill.execution.host import this_host
from nightmill.execution.launch import watch
from nightmill.planning.again import issued_orders, next_order
from tests.operations.failing import Failing, conduct
from tests.support import step
from tests.support.cgroups import first_version
from tests.support.forks import forked
from tests.support.observatory import Observatory

RETRIES = "pipeline.stages.science.retries"
MEMORY = "pipeline.stages.science.resources.memory_bytes"


@pytest.fixture
def kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the file in which the kernel counts its kills, as the worker sees it."""
    counts = tmp_path / "vmstat"
    counts.write_text("oom_kill 7\n")
    monkeypatch.setattr(watch, "KERNEL_COUNTS", counts)
    return counts


@pytest.mark.req("REQ-0032", "REQ-0033", "F25")
def test_a_fate_and_an_exit_code_say_how_often_a_job_is_tried(tmp_path: Path, database_url: str) -> None:
    texts = ["exit 75 busy", "exit 3 no star", f"killed-once {tmp_path / 'flag'}", "seconds 0"]
    said = '{step_failed: {exit: {"75": {tries: 2}}}, step_killed: {tries: 1}}'
    failing = Failing.build(tmp_path, database_url, texts, f"{RETRIES}={said}")
    failing.conduct()
    assert failing.tries() == [3, 1, 2, 1]
    states = failing.observatory.states("night1")
    assert [state for name, state in states.items() if name.startswith("science")] == [
        "failed",
        "failed",
        "done",
        "done",
    ]
    with failing.observatory.open() as site, site.database.reading() as session:
        query = select(FileRow.type, AttemptRow.number).join(AttemptRow, AttemptRow.id == FileRow.attempt_id)
        made = Counter(session.execute(query).tuples())
    assert made == {("log", 1): 4, ("log", 2): 2, ("log", 3): 1, ("product", 1): 1, ("product", 2): 1}
    assert [attempt.fate for attempt in failing.attempts()].count("step_failed") == 4
    failing.conduct()
    assert failing.tries() == [6, 2, 2, 1], "what failed is tried again by whoever takes up the slice"


def test_a_try_with_more_memory_is_had_again(tmp_path: Path, database_url: str, kills: Path) -> None:
    said = "{out_of_memory: {tries: 2, memory_factor: 2}}"
    failing = Failing.build(tmp_path, database_url, [f"memory {kills}"], f"{RETRIES}={said}", f"{MEMORY}=1000000")
    reports = failing.conduct()
    wanted = [report.order.resources.memory_bytes for report in reports]
    assert wanted == [1_000_000, 2_000_000, 4_000_000]
    attempts = failing.attempts()
    assert [attempt.memory_bytes for attempt in attempts] == [None, 2_000_000, 4_000_000]
    assert {attempt.fate for attempt in attempts} == {"out_of_memory"}
    assert "'detect' was killed by the kernel for lack of memory; it was seen with" in (attempts[0].evidence or "")
    with failing.observatory.open() as site, site.database.reading() as session:
        again = list(issued_orders(session, [attempt.id for attempt in attempts]))
        following = next_order(session, "night1", "science", reports[0].attempt.unit)
    assert again == [report.order for report in reports]
    assert following.resources.memory_bytes == 8_000_000, "a rerun goes on from there"


def test_a_step_that_its_control_group_ended_has_more_memory_the_next_time(tmp_path: Path) -> None:
    with first_version() as cgroup:
        said = "{out_of_memory: {tries: 2, memory_factor: 2}}"
        failing = Failing.build(tmp_path, "", ["take 100000000"], f"{RETRIES}={said}", f"{MEMORY}=64000000")
        site = failing.observatory.directory / "nightmill.yaml"
        confinement = f"confinement: {{cgroup: {cgroup}, reads: [{Path(step.__file__).parent}]}}"
        site.write_text(re.sub("(?m)^confinement:.*$", confinement, site.read_text()))
        reports = failing.conduct()
    assert [report.fate for report in reports] == ["out_of_memory", "published"]
    evidence = failing.attempts()[0].evidence or ""
    assert "'detect' was killed by the kernel, as it came to the 64 MB of memory that its job asks for" in evidence
    assert reports[1].order.resources.memory_bytes == 128_000_000


def test_memory_that_is_not_asked_for_grows_from_what_was_seen(tmp_path: Path, kills: Path) -> None:
    said = "{out_of_memory: {tries: 1, memory_factor: 3}}"
    failing = Failing.build(tmp_path, "", [f"memory {kills}"], f"{RETRIES}={said}")
    first, second = failing.conduct()
    [cost] = [step.cost for step in first.steps]
    assert cost is not None
    assert first.order.resources.memory_bytes is None
    assert second.order.resources.memory_bytes == min(3 * cost.max_rss_bytes, this_host().memory_bytes)


def test_a_job_that_had_all_memory_of_the_host_is_not_tried_again(tmp_path: Path, kills: Path) -> None:
    memory = this_host().memory_bytes
    said = "{out_of_memory: {tries: 9, memory_factor: 2}}"
    failing = Failing.build(tmp_path, "", [f"memory {kills}"], f"{RETRIES}={said}", f"{MEMORY}={memory * 2 // 3}")
    failing.conduct()
    attempts = failing.attempts()
    assert [attempt.memory_bytes for attempt in attempts] == [None, memory]
    assert f"not tried again: it had {memory} bytes of memory, and host" in (attempts[-1].evidence or "")


def test_a_kill_that_the_kernel_did_not_count_is_not_for_lack_of_memory(tmp_path: Path, kills: Path) -> None:
    said = "{out_of_memory: {tries: 9}}"
    failing = Failing.build(tmp_path, "", [f"killed-once {tmp_path / 'flag'}"], f"{RETRIES}={said}")
    assert [report.fate for report in failing.conduct()] == ["step_killed"]
    assert kills.read_text() == "oom_kill 7\n"


def test_a_job_that_waits_lets_others_go_first_and_outlives_its_slice(tmp_path: Path, database_url: str) -> None:
    notes = tmp_path / "notes"
    texts = [f"note {notes}\nexit 75 busy", *[f"note {notes}\nseconds 0"] * 2]
    said = '{step_failed: {exit: {"75": {tries: 1, wait_seconds: 6}}}}'
    failing = Failing.build(tmp_path, database_url, texts, f"{RETRIES}={said}")
    with failing.observatory.open() as site:
        with failing.work(site) as work:
            for order in work.issue(1):
                work.record(list(work.worker.run([order])))
        with failing.work(site) as work:
            assert [order.attempt.number for order in work.issue(9)] == [1, 1], (
                "another process does not begin it early"
            )
            assert 0 < (work.seconds_to_wait() or 0) <= 6
    failing.conduct()
    assert failing.tries() == [3, 2, 2]
    first, *_, second, _third = [each for each in failing.attempts() if each.job_id == failing.attempts()[0].job_id]
    assert first.ended_at is not None
    assert second.issued_at >= first.ended_at + timedelta(seconds=6)


def test_a_slice_waits_for_a_store_as_its_stage_says_before_it_halts(tmp_path: Path) -> None:
    said = "{store_error: {tries: 1, wait_seconds: 5}, input_missing: {tries: 1}}"
    failing = Failing.build(tmp_path, "", ["seconds 0"] * 5, f"{RETRIES}={said}")
    store = tmp_path / "site" / "stores" / "backbone"
    with failing.observatory.open() as site, failing.work(site) as work:
        aside = store.rename(tmp_path / "aside")
        store.write_text("not a folder")
        for _ in range(3):
            [order] = work.issue(1)
            [report] = work.worker.run([order])
            assert report.fate == "store_error"
            work.heed(report)
            work.record([report])
        assert work.issue(1) == []
        assert not work.halted
        assert 0 < (work.seconds_to_wait() or 0) <= 5
        store.unlink()
        aside.rename(store)
        assert {report.state for report in conduct(work)} == {"published"}
    assert failing.tries() == [2, 2, 2, 1, 1]


def die_with_a_job(directory: Path) -> None:
    """Take the job of a slice, and end by SIGKILL."""
    failing = Failing(Observatory(directory))
    with failing.observatory.open() as site, failing.work(site) as work:
        assert len(work.issue(1)) == 1
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.req("F25")
def test_a_slice_goes_on_with_what_another_process_of_it_died_over(tmp_path: Path, database_url: str) -> None:
    failing = Failing.build(tmp_path, database_url, ["seconds 0"], f"{RETRIES}=1")
    with failing.observatory.open() as site, failing.work(site) as work:
        assert forked(die_with_a_job, failing.observatory.directory) == -signal.SIGKILL
        assert conduct(work) == [], "the other has it"
        assert work.others_active(), "it died, and the job may be tried again"
        assert [report.attempt.number for report in conduct(work)] == [2]
        assert not work.others_active()
    assert failing.tries() == [2]
