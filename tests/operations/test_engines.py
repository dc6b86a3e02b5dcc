"""A slice whose jobs are carried out by worker processes of their own: what is on record agrees with what happened."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from nightmill.backbone.schema import AttemptRow, ExecutionRow, FileRow, JobRow, LeaseRow
from nightmill.errors import PlanRefused, UnknownName
from nightmill.execution.claims import CLAIMS
from nightmill.execution.concluding import journal_of
from nightmill.execution.dispatches import DISPATCHED, Dispatched, dispatches
from nightmill.execution.journal import Journal, journals, recorded_journals
from nightmill.execution.recover import read_to_its_end
from nightmill.model.report import JobReport
from nightmill.operations import drain as drain_module
from nightmill.operations import slice_work
from nightmill.operations.alone import alone
from nightmill.operations.audit import PARTS, Ground
from nightmill.operations.drain import drain
from nightmill.operations.lost_hosts import declare_lost
from nightmill.operations.site import Site
from nightmill.operations.slice_work import SliceWork
from nightmill.operations.steering import Steered, cancel, pause
from tests.flows.conftest import until
from tests.support.forks import forked
from tests.support.observatory import Observatory

ENGINES = """
engines:
  workers: {kind: processes, workers: 2}
  cluster: {kind: dask, workers: 1, keep_seconds: 2}
"""
WHY = "it rains"


@pytest.fixture
def observatory(tmp_path: Path, database_url: str) -> Observatory:
    return built(tmp_path, database_url)


@pytest.fixture
def lite(tmp_path: Path) -> Observatory:
    return built(tmp_path, "")


def built(folder: Path, url: str) -> Observatory:
    observatory = Observatory.build(folder / "site", url)
    with (folder / "site" / "nightmill.yaml").open("a") as file:
        file.write(ENGINES)
    return observatory


def observe(observatory: Observatory, *texts: str, retries: int = 0) -> None:
    observatory.observe(1, [f"note {observatory.directory / 'notes'}\n{text}\n" for text in texts])
    observatory.submit("night1", 1, "execution.engine=workers", f"overrides.stages.science.retries={retries}")


def slice_of(site: Site) -> SliceWork:
    return SliceWork(site, "night1", "science", 0)


def carry_out(work: SliceWork, *, together: int = 1) -> Iterator[JobReport]:
    """Carry out a slice chunk by chunk, as its flow does."""
    while orders := work.adopted.pop(0) if work.adopted else work.issue(together):
        reports = []
        for report in work.place.run(orders):
            work.heed(report)
            reports.append(report)
            yield report
        work.record(reports)


def conduct(observatory: Observatory, *, together: int = 1) -> list[JobReport]:
    with observatory.open() as site, slice_of(site) as work:
        return list(carry_out(work, together=together))


def die(directory: Path, together: int) -> None:
    """Begin a slice, and end by SIGKILL once a step of it runs."""
    observatory = Observatory(directory)
    with observatory.open() as site, slice_of(site) as work:
        orders = work.issue(together)
        threading.Thread(target=lambda: list(work.place.run(orders)), daemon=True).start()
        until(lambda: "running" in [fate for _, fate, _ in attempts(observatory)], 60, "the row of a running step")
        os.kill(os.getpid(), signal.SIGKILL)


def notes(observatory: Observatory) -> Counter[str]:
    """Return how often which output was begun."""
    path = observatory.directory / "notes"
    return Counter(path.read_text().split()) if path.exists() else Counter()


def attempts(observatory: Observatory) -> list[tuple[str, str, str]]:
    with observatory.open() as site, site.database.reading() as session:
        rows = select(JobRow.state, AttemptRow.state, AttemptRow.fate, AttemptRow.evidence).join(
            AttemptRow, AttemptRow.job_id == JobRow.id
        )
        ordered = session.execute(rows.order_by(AttemptRow.id)).all()
        return [(job, fate or attempt, told or "") for job, attempt, fate, told in ordered]


def leftovers(observatory: Observatory) -> list[str]:
    """Return what stands in the spool of dispatches and claims."""
    folders = [observatory.directory / "spool" / name for name in (DISPATCHED, CLAIMS)]
    return [path.name for folder in folders if folder.exists() for path in folder.iterdir()]


def stored_names(observatory: Observatory) -> list[str]:
    return [path.name for path in (observatory.directory / "stores").rglob("*") if path.is_file()]


def only(observatory: Observatory) -> Dispatched:
    [found] = dispatches(observatory.directory / "spool")
    return found


def test_what_workers_did_is_on_record_and_nothing_is_left_in_the_spool(observatory: Observatory) -> None:
    observe(observatory, "seconds 0", "exit 3", "seconds 0", "seconds 0")
    reports = conduct(observatory)
    assert sorted(str(report.fate) for report in reports) == ["published"] * 3 + ["step_failed"]
    assert sorted(fate for _, fate, _ in attempts(observatory)) == ["published"] * 3 + ["step_failed"]
    assert leftovers(observatory) == []
    spool = observatory.directory / "spool"
    assert list(journals(spool)) == []
    assert len(list(recorded_journals(spool))) == 5, "that of the slice, and those of four workers"
    with observatory.open() as site, site.database.reading() as session:
        assert session.scalars(select(ExecutionRow.state)).all().count("succeeded") == 3
        assert all(session.scalars(select(LeaseRow.released_at)))


def test_records_agree_whichever_engine_carried_the_jobs_out(tmp_path: Path) -> None:
    told = {}
    for engine, at_once in (("threads", 1), ("workers", 2), ("cluster", 2)):
        folder = tmp_path / engine
        observatory = built(folder, "")
        observatory.observe(1, ["seconds 0", "exit 3", "seconds 0"])
        observatory.submit("night1", 1, f"execution.engine={engine}", "overrides.stages.science.retries=0")
        reports = conduct(observatory, together=at_once)
        assert len(reports) == 3
        with observatory.open() as site, site.database.reading() as session:
            files = session.execute(select(FileRow.name, FileRow.size_bytes, FileRow.sha256).order_by(FileRow.name))
            products = [tuple(row) for row in files if row.name.endswith(".txt")]
            steps = session.scalars(select(ExecutionRow.state).order_by(ExecutionRow.attempt_id)).all()
        ends = [(job, fate, why.partition("\n")[0]) for job, fate, why in attempts(observatory)]
        told[engine] = (ends, steps, products, sorted(stored_names(observatory)))
        assert leftovers(observatory) == []
    assert told["workers"] == told["threads"]
    assert told["cluster"] == told["threads"]


def test_running_steps_are_rows_while_they_run(lite: Observatory) -> None:
    gate = lite.directory / "gate"
    observe(lite, f"until {gate}")

    def running() -> bool:
        with lite.open() as site, site.database.reading() as session:
            return session.scalars(select(ExecutionRow.state)).all() == ["running"]

    with lite.open() as site, slice_of(site) as work:
        thread = threading.Thread(target=lambda: list(carry_out(work)))
        thread.start()
        until(running, 30, "the row of a running step")
        gate.touch()
        thread.join()
    assert [fate for _, fate, _ in attempts(lite)] == ["published"]


def test_a_worker_that_is_killed_is_retried_by_policy_with_what_its_engine_says(observatory: Observatory) -> None:
    gate = observatory.directory / "gate"
    observe(observatory, f"until {gate}", "seconds 0", retries=1)
    with observatory.open() as site, slice_of(site) as work:
        thread = threading.Thread(target=lambda: list(carry_out(work, together=2)))
        thread.start()
        until(lambda: notes(observatory), 30, "a step")
        taken = only(observatory).taken
        assert taken is not None
        os.kill(taken.owner.pid, signal.SIGKILL)
        gate.touch()
        thread.join()
    told = attempts(observatory)
    assert Counter(fate for _, fate, _ in told) == {"lost": 2, "published": 2}
    lost = [evidence for _, fate, evidence in told if fate == "lost"]
    assert lost[0].startswith(f"worker process {taken.owner.pid} on {taken.owner.host} was ended by SIGKILL; on ")
    assert lost[1].endswith("was ended by SIGKILL; before the attempt began")
    assert leftovers(observatory) == []


def test_a_killed_driver_is_followed_by_the_next_and_nothing_is_done_twice(observatory: Observatory) -> None:
    gate = observatory.directory / "gate"
    observe(observatory, f"until {gate}", "seconds 0", "seconds 0")
    assert forked(die, observatory.directory, 2) == -signal.SIGKILL
    with observatory.open() as site:
        drained = drain(site)
        found = [str(each) for find in PARTS.values() for each in find(Ground(site))]
    assert len(found) == 1
    assert "2 jobs go on at engine 'workers', and process " in found[0]
    assert drained.lost == 0, "they go on"
    assert [fate for _, fate, _ in attempts(observatory)] == ["running", "issued"]
    with observatory.open() as site, slice_of(site) as work:
        assert [len(orders) for orders in work.adopted] == [2]
        gate.touch()
        reports = list(carry_out(work))
    assert [str(report.fate) for report in reports] == ["published"] * 3
    assert set(notes(observatory).values()) == {1}
    assert len(attempts(observatory)) == 3, "none was issued again"
    assert leftovers(observatory) == []


def test_a_driver_that_stays_dead_is_drained_after_once_its_workers_have_ended(lite: Observatory) -> None:
    gate = lite.directory / "gate"
    observe(lite, f"until {gate}", "seconds 0")
    assert forked(die, lite.directory, 2) == -signal.SIGKILL
    found = only(lite)
    gate.touch()
    until(lambda: found.is_over, 30, "its end")
    with lite.open() as site:
        drain(site)
    assert [fate for _, fate, _ in attempts(lite)] == ["published"] * 2
    assert leftovers(lite) == []
    with lite.open() as site, site.database.reading() as session:
        assert all(session.scalars(select(LeaseRow.released_at)))


def test_what_ended_since_nobody_could_drain_is_recorded_and_tried_again(
    lite: Observatory, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = lite.directory / "gate"
    observe(lite, f"until {gate}\nkilled-once {lite.directory / 'once'}", retries=1)
    assert forked(die, lite.directory, 1) == -signal.SIGKILL
    found = only(lite)
    gate.touch()
    until(lambda: found.is_over, 30, "its end")
    monkeypatch.setattr(slice_work, "PATIENCE_SECONDS", 0.1)
    with lite.open() as site, ExitStack() as stack:
        with alone(site.config.spool):
            work = stack.enter_context(slice_of(site))
        reports = list(carry_out(work))
    assert [str(report.fate) for report in reports] == ["step_killed", "published"]
    assert [fate for _, fate, _ in attempts(lite)] == ["step_killed", "published"]
    assert leftovers(lite) == []


def test_what_a_damaged_journal_may_tell_of_is_not_taken_up(lite: Observatory) -> None:
    gate = lite.directory / "gate"
    observe(lite, f"until {gate}")
    assert forked(die, lite.directory, 1) == -signal.SIGKILL
    found = only(lite)
    gate.touch()
    until(lambda: found.is_over, 30, "its end")
    journal = journal_of(found)
    assert journal is not None
    journal.write_text(journal.read_text().replace('"entry":"done"', '"entry":"do'))
    for _ in range(2):
        with lite.open() as site, slice_of(site) as work:
            assert (work.adopted, list(carry_out(work))) == ([], [])
    assert [job for job, _, _ in attempts(lite)] == ["active"], "its journal is in quarantine"


def test_what_ends_while_the_spool_is_drained_is_not_given_up(
    lite: Observatory, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = lite.directory / "gate"
    observe(lite, f"until {gate}")
    assert forked(die, lite.directory, 1) == -signal.SIGKILL
    found = only(lite)
    taken = found.taken
    assert taken is not None

    def read_and_see_it_end(path: Path, lost_hosts: Mapping[str, datetime]) -> tuple[Journal, bool]:
        read = read_to_its_end(path, lost_hosts)
        if path.stem == taken.journal:
            gate.touch()
            until(lambda: found.is_over, 30, "its end")
        return read

    monkeypatch.setattr(drain_module, "read_to_its_end", read_and_see_it_end)
    with lite.open() as site:
        assert drain(site).lost == 0
        monkeypatch.undo()
        with slice_of(site) as work:
            assert list(carry_out(work)) == []
    assert [fate for _, fate, _ in attempts(lite)] == ["published"]
    assert leftovers(lite) == []


def test_a_worker_that_dies_after_its_driver_is_found_dead(lite: Observatory) -> None:
    observe(lite, f"until {lite.directory / 'never'}", "seconds 0")
    assert forked(die, lite.directory, 2) == -signal.SIGKILL
    taken = only(lite).taken
    assert taken is not None
    os.kill(taken.owner.pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{taken.owner.pid}").exists(), 30, "it to be gone")
    with lite.open() as site:
        assert drain(site).lost == 2
    (job, fate, evidence), never = attempts(lite)
    assert (job, fate) == ("failed", "lost")
    assert evidence.startswith(f"worker process {taken.owner.pid} on {taken.owner.host} died; on ")
    assert never[0] == "ready"
    assert leftovers(lite) == []


@pytest.mark.parametrize("end", [cancel, pause])
def test_who_ends_a_campaign_ends_what_its_workers_run(lite: Observatory, end: Callable[..., Steered]) -> None:
    observe(lite, f"until {lite.directory / 'never'}", "seconds 0")
    reports: list[JobReport] = []
    thread = threading.Thread(target=lambda: reports.extend(conduct(lite, together=2)))
    thread.start()
    until(lambda: notes(lite), 30, "a step")
    begun = time.monotonic()
    with lite.open() as site:
        steered = end(site, "night1", why=WHY, **({"now": True} if end is pause else {}))
    assert (steered.active, steered.unreached) == (0, ())
    assert time.monotonic() - begun < 20
    thread.join()
    assert [str(report.fate) for report in reports] == ["cancelled"]
    assert WHY in reports[0].evidence
    assert [file.role for file in reports[0].published] == ["log"]
    assert sum(notes(lite).values()) == 1


@pytest.mark.parametrize("is_begun", [True, False])
def test_cancel_ends_what_a_dead_driver_sent_out(lite: Observatory, is_begun: bool) -> None:
    observe(lite, f"until {lite.directory / 'never'}", "seconds 0")
    assert forked(die, lite.directory, 1) == -signal.SIGKILL
    found = only(lite)
    assert found.taken is not None
    if not is_begun:
        os.kill(found.taken.owner.pid, signal.SIGKILL)
        (found.folder / "taken").unlink()
    with lite.open() as site:
        steered = cancel(site, "night1", why=WHY)
    assert (steered.active, steered.unreached) == (0, ())
    assert leftovers(lite) == []


def test_a_host_that_an_operator_says_is_lost_ends_its_dispatches(lite: Observatory) -> None:
    gate = lite.directory / "gate"
    observe(lite, f"until {gate}")
    assert forked(die, lite.directory, 1) == -signal.SIGKILL
    found = only(lite)
    taken = found.taken
    assert taken is not None
    far = taken.model_copy(update={"owner": taken.owner.model_copy(update={"host": "far"})})
    (found.folder / "taken").write_text(far.model_dump_json())
    [journal] = [path for path in journals(found.spool) if path.stem == taken.journal]
    first, _, rest = journal.read_text().partition("\n")
    journal.write_text(first.replace(f'"host":"{taken.owner.host}"', '"host":"far"') + "\n" + rest)
    with lite.open() as site:
        assert drain(site).lost == 0
        declare_lost(site, "far", why="it burnt")
        assert drain(site).lost == 1
    [(job, fate, evidence)] = attempts(lite)
    assert (job, fate) == ("failed", "lost")
    assert evidence.startswith(
        f"worker process {taken.owner.pid} on far was lost with its host, as an operator says; on "
    )
    gate.touch()
    until(lambda: not Path(f"/proc/{taken.owner.pid}").exists(), 30, "the worker to be gone")
    assert not [path for path in (lite.directory / "stores").rglob("*product*") if path.is_file()]


def test_an_engine_that_the_site_does_not_have_is_a_problem_of_the_plan(lite: Observatory) -> None:
    lite.observe(1, ["seconds 0"])
    for setting, told in (
        ("execution.engine=worker", "the site has no engine 'worker' (did you mean 'workers'?)"),
        ("execution.engines={science: cloud}", "the site has no engine 'cloud' (it has threads, workers, cluster)"),
    ):
        with pytest.raises(PlanRefused) as refused:
            lite.submit("night1", 1, setting)
        assert told in str(refused.value)
        assert setting.partition("=")[0] in str(refused.value)


def test_an_engine_that_is_gone_since_is_named(lite: Observatory) -> None:
    observe(lite, "seconds 0")
    path = lite.directory / "nightmill.yaml"
    path.write_text(path.read_text().replace("  workers:", "  other:"))
    with lite.open() as site, pytest.raises(UnknownName, match=r"'workers'.*give it back to nightmill.yaml"):
        slice_of(site)
