"""Exit codes that rules of the site accept: what goes on, and everything that does not."""

from __future__ import annotations

import signal
import time

import pytest
from pydantic import ValidationError

from nightmill.model.fate import Fate
from nightmill.model.fit import misfit
from nightmill.model.journal import StepEnded
from nightmill.model.order import ErrorName, OrderRule
from nightmill.model.report import JobReport, stacks
from tests.execution.failing import FIRST, SECOND, must_fail
from tests.support.orders import Bench, shell

FEW = ErrorName(error="few-stars", version=2)


def rule(*exit: int, says: str = "", accepts: bool = True, error: ErrorName = FEW) -> OrderRule:
    return OrderRule(called=error, exit=exit, says=says, accepts=accepts)


def accepted(report: JobReport) -> list[ErrorName | None]:
    return [step.accepted for step in report.steps]


def test_a_step_that_exits_with_a_code_that_is_accepted_counts_as_good(bench: Bench) -> None:
    one = shell("one", "echo few stars; echo 1 > first.txt; exit 4", FIRST, rules=(rule(3, 4, says="^few"),))
    order = bench.order(one, shell("two", "cat ../outputs/first.txt > second.txt", SECOND, inputs=("first.txt",)))
    [report] = bench.run(order)
    assert report.fate is Fate.PUBLISHED, report.evidence
    assert (accepted(report), report.steps[0].exit_code) == ([FEW, None], 4)
    assert [entry.accepted for entry in bench.entries() if isinstance(entry, StepEnded)] == [FEW, None]
    assert {"first.txt", "second.txt"} < set(bench.stored())
    log = (bench.root / "stores/backbone" / order.log_path).read_text()
    assert "few stars\n== step 'one' exited with code 4; accepted as few-stars (version 2)\n== two: " in log
    told = stacks(bench.entries())
    assert misfit(report, told) == ""
    forged = report.steps[1].model_copy(update={"accepted": FEW, "exit_code": 4})
    assert misfit(report.model_copy(update={"steps": (report.steps[0], forged)}), told) == (
        "step 'two' is told as accepted by few-stars (version 2), which its order does not say"
    )


def test_an_exit_code_is_accepted_and_what_is_not_made_or_bad_is_not(bench: Bench) -> None:
    order = bench.order(shell("s", "echo few; exit 4", FIRST, rules=(rule(4),)))
    told = (
        "step 's' exited with code 4, accepted as few-stars (version 2), and did not make first (text) first.txt"
        " (its folder holds"
    )
    report = must_fail(bench, order, Fate.MISSING_OUTPUT, told)
    assert accepted(report) == [FEW]
    mangled = bench.order(shell("s", "echo 1 > first.txt; rm -r ../log; exit 4", FIRST, rules=(rule(4),)), number=2)
    must_fail(bench, mangled, Fate.BAD_OUTPUT, "step 's' removed or replaced ../log")


@pytest.mark.parametrize(
    ("script", "fate"),
    [
        (f"kill -{int(signal.SIGTERM)} $$", Fate.STEP_KILLED),
        (f"kill -{int(signal.SIGKILL)} $$", Fate.STEP_KILLED),
        ("trap 'exit 15' TERM; while :; do :; done", Fate.WALL_LIMIT),
        ("exit 16", Fate.STEP_FAILED),
    ],
)
def test_what_is_not_an_exit_of_its_own_with_such_a_code_is_not_accepted(bench: Bench, script: str, fate: Fate) -> None:
    codes = rule(int(signal.SIGTERM), int(signal.SIGKILL))
    step = shell("s", f"echo 1 > first.txt; {script}", FIRST, wall_seconds=0.4, rules=(codes,))
    report = must_fail(bench, bench.order(step), fate, "step 's' ")
    assert accepted(report) == [None]


def test_the_log_of_the_step_itself_decides_and_its_last_part_alone(bench: Bench) -> None:
    few = (rule(4, says="few stars"),)
    order = bench.order(shell("one", "echo few stars"), shell("two", "echo none; exit 4", rules=few))
    must_fail(bench, order, Fate.STEP_FAILED, "step 'two' exited with code 4: none")
    told_early = "echo few stars; yes 0123456789 | head -c 2000000; echo; exit 4"
    must_fail(bench, bench.order(shell("s", told_early, rules=few), number=2), Fate.STEP_FAILED, "exited with code 4")
    by_itself = (rule(4, says="step 's' exited with code 4: none"),)
    assert bench.run_one(bench.order(shell("s", "echo none; exit 4", rules=by_itself), number=3)).fate is Fate.PUBLISHED


def test_the_first_rule_that_fits_counts_and_one_that_does_not_accept_leaves_the_step_failed(bench: Bench) -> None:
    corrupt = rule(says="corrupt", accepts=False, error=ErrorName(error="corrupt", version=1))
    rules = (rule(9), corrupt, rule(4))
    bad = bench.order(shell("s", "echo corrupt; exit 4", rules=rules))
    assert accepted(must_fail(bench, bad, Fate.STEP_FAILED, "exited with code 4: corrupt")) == [None]
    good = bench.run_one(bench.order(shell("s", "echo fine; exit 4", rules=rules), number=2))
    assert (good.fate, accepted(good)) == (Fate.PUBLISHED, [FEW])


def test_what_is_accepted_is_good_also_where_the_job_would_go_on_without_it(bench: Bench) -> None:
    plot = FIRST.model_copy(update={"required": False})
    script = "echo 1 > first.txt; exit {}"
    steps = [shell("s", script.format(code), plot, on_failure="continue", rules=(rule(4),)) for code in (4, 5)]
    good = bench.run_one(bench.order(steps[0]))
    assert ([file.name for file in good.made], accepted(good)) == (["first.txt"], [FEW])
    left = bench.run_one(bench.order(steps[1], number=2))
    assert (left.fate, left.made, accepted(left)) == (Fate.PUBLISHED, (), [None])


def test_a_pattern_takes_no_longer_than_a_log_is_long_and_has_to_be_one(bench: Bench) -> None:
    evil = rule(4, says=r"^(a|aa)+$|(a*)*[#]$|(.{1,9}){1,90}#$")
    began_at = time.monotonic()
    order = bench.order(shell("s", "head -c 2000000 /dev/zero | tr '\\0' a; exit 4", rules=(evil,)))
    assert accepted(bench.run_one(order)) == [FEW]
    assert time.monotonic() - began_at < 60
    with pytest.raises(ValidationError, match="a regular expression of RE2: invalid perl operator"):
        rule(4, says="(?=a)")
