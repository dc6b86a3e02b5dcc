"""Rules that accept exit codes: heard at issue, kept with the attempt, recorded with its end."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import select, text

from nightmill.backbone.schema import AttemptRow, ErrorRuleRow, ExecutionRow
from nightmill.model.error_rule import ErrorRule
from nightmill.model.fate import Fate
from nightmill.model.order import ErrorName, canonical
from nightmill.model.report import JobReport
from nightmill.operations import errors
from nightmill.operations.capsule import write_capsule
from nightmill.operations.drain import drain
from nightmill.operations.site import Site
from nightmill.planning.again import issued_orders, next_order
from tests.operations.failing import Failing

FEW = ErrorRule(name="few", step="det*", exit=(4,), says="few stars", explanation="It is fine", action="accept")
FEW_1 = ErrorName(error="few", version=1)
WARN = "warn 4 few stars"


def teach(site: Site, *rules: ErrorRule) -> None:
    """Put rules on record, and switch them on."""
    errors.add(site, rules, why="seen")
    for rule in rules:
        errors.switch(site, rule.name, is_on=True, why="tried")


def build(folder: Path, url: str, texts: Sequence[str], *rules: ErrorRule) -> Failing:
    failing = Failing.build(folder, url, texts)
    with failing.observatory.open() as site:
        teach(site, *rules)
    return failing


def accepted(reports: Sequence[JobReport]) -> list[ErrorName | None]:
    return [step.accepted for report in reports for step in report.steps]


def again(failing: Failing) -> list[bytes]:
    """Return the orders of all attempts, had again."""
    with failing.observatory.open() as site, site.database.reading() as session:
        ids = list(session.scalars(select(AttemptRow.id).order_by(AttemptRow.id)))
        return [canonical(order) for order in issued_orders(session, ids)]


def test_an_order_is_had_again_whatever_became_of_its_rules(tmp_path: Path, database_url: str) -> None:
    corrupt = ErrorRule(name="corrupt", says="corrupt", explanation="x", action="fail", priority=1)
    elsewhere = ErrorRule(name="elsewhere", step="join", exit=(4,), explanation="x", action="accept", priority=2)
    later = ErrorRule(name="later", step="detect", explanation="x")
    bug = ErrorRule(name="bug", fate=(Fate.LOST,), explanation="x", priority=1)
    failing = build(tmp_path, database_url, [WARN, "seconds 0"], FEW, corrupt, elsewhere, later, bug)
    reports = failing.conduct()
    assert accepted(reports) == [FEW_1, None]
    [step] = reports[0].order.steps
    assert [(rule.called.error, rule.accepts) for rule in step.rules] == [("corrupt", False), ("few", True)]
    first = [canonical(report.order) for report in reports]
    assert again(failing) == first
    with failing.observatory.open() as site:
        teach(site, FEW.model_copy(update={"exit": (4, 5), "priority": 0}))
        errors.switch(site, "corrupt", is_on=False, why="wrong")
        with site.database.reading() as session:
            rules = dict(session.execute(select(ErrorRuleRow.name, ErrorRuleRow.id)).tuples().all())
            [kept] = {tuple(ids) for ids in session.scalars(select(AttemptRow.rule_ids))}
            following = next_order(session, "night1", "science", reports[0].attempt.unit)
    assert len(kept) == 2
    assert rules["corrupt"] in kept
    assert [rule.called.version for rule in following.steps[0].rules] == [2]
    assert again(failing) == first


def test_orders_of_a_site_without_such_rules_stay_as_they_were(tmp_path: Path, database_url: str) -> None:
    plain = ErrorRule(name="few", step="det*", exit=(4,), explanation="It is fine", action="fail")
    other = FEW.model_copy(update={"name": "other", "stage": "summary"})
    failing = build(tmp_path, database_url, [WARN, "seconds 0"], plain, other)
    reports = failing.conduct()
    assert [report.fate for report in reports] == [Fate.STEP_FAILED, Fate.PUBLISHED]
    assert not any(b"rules" in canonical(report.order) for report in reports)
    with failing.observatory.open() as site, site.database.reading() as session:
        assert session.scalar(text("SELECT count(*) FROM attempt WHERE rule_ids IS NOT NULL")) == 0


def test_a_rule_is_heard_at_the_next_issue_and_holds_for_what_was_issued(tmp_path: Path, database_url: str) -> None:
    failing = Failing.build(tmp_path, database_url, [WARN, WARN, WARN, "warn 4 no model"])
    with failing.observatory.open() as site, failing.work(site) as work:

        def carry_out() -> list[JobReport]:
            reports = list(work.worker.run(work.issue(1)))
            work.record(reports)
            return reports

        before = carry_out()
        teach(site, FEW)
        [order] = work.issue(1)
        errors.switch(site, "few", is_on=False, why="it hides too much")
        during = list(work.worker.run([order]))
        after = list(work.worker.run(work.issue(1)))  # which reads that it is off
        work.record([*during, *after])
    assert [report.fate for report in (*before, *during, *after)] == ["step_failed", "published", "step_failed"]
    with failing.observatory.open() as site, site.database.reading() as session:
        [few] = session.scalars(select(ErrorRuleRow.id))
        ran = list(session.execute(select(ExecutionRow.state, ExecutionRow.accepted_id).order_by(ExecutionRow.id)))
    assert ran == [("failed", None), ("succeeded", few), ("failed", None)]
    attempts = failing.attempts()
    assert [attempt.error_id for attempt in attempts] == [None, few, None]
    assert [attempt.result for attempt in attempts] == [False, True, False]


def test_a_failure_that_is_accepted_from_now_on_is_named_and_left_to_its_stage(tmp_path: Path) -> None:
    failing = Failing.build(tmp_path, "", [WARN], "pipeline.stages.science.retries={step_failed: {tries: 1}}")
    with failing.observatory.open() as site, failing.work(site) as work:
        [order] = work.issue(1)
        teach(site, FEW)
        assert work.issue(1) == []  # it has the rules by now
        work.record(list(work.worker.run([order])))
        work.record(list(work.worker.run(work.issue(1))))
    first, second = failing.attempts()
    assert first.error_id == second.error_id is not None
    assert (first.fate, second.fate) == ("step_failed", "published")


def test_a_drain_records_what_a_dead_slice_accepted(tmp_path: Path, database_url: str) -> None:
    failing = build(tmp_path, database_url, [WARN], FEW)
    with failing.observatory.open() as site:
        work = failing.work(site)
        with pytest.raises(KeyboardInterrupt), work:
            list(work.worker.run(work.issue(1)))
            work._end = lambda: None  # type: ignore[method-assign]  # killed: nothing is recorded, nothing given back
            raise KeyboardInterrupt
        assert drain(site).quarantined == []
    [attempt] = failing.attempts()
    assert (attempt.fate, attempt.result) == ("published", True)
    assert attempt.error_id is not None


def test_a_capsule_accepts_as_its_site_did(tmp_path: Path) -> None:
    failing = build(tmp_path, "", [WARN], FEW)
    [report] = failing.conduct()
    folder = tmp_path / "capsule"
    with failing.observatory.open() as site:
        written = write_capsule(site, ("night1", "science", report.attempt.unit), folder)
    assert written.recorded is not None
    assert accepted([written.recorded]) == [FEW_1]
    environment = {"PATH": "/usr/bin:/bin", "NIGHTMILL_PYTHON": sys.executable}
    ran = subprocess.run([folder / "run"], env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    again = json.loads((folder / "runs" / "1" / "report.json").read_text())
    assert (again["fate"], again["steps"][0]["accepted"]) == ("published", {"error": "few", "version": 1})


def test_a_step_that_was_accepted_and_made_nothing_is_named_by_what_it_printed(tmp_path: Path) -> None:
    nothing = ErrorRule(name="nothing", fate=(Fate.MISSING_OUTPUT,), says="^few stars", explanation="x", action="fail")
    failing = build(tmp_path, "", ["exit 4 few stars"], FEW, nothing)
    [report] = failing.conduct()
    assert (report.fate, accepted([report])) == (Fate.MISSING_OUTPUT, [FEW_1])
    [job] = [line for line in failing.observatory.jobs("night1").values() if line.stage == "science"]
    assert (str(job.state), job.called) == ("failed", "nothing")
