"""What every failure has in common."""

from __future__ import annotations

from typing import Any

from nightmill.model.fate import Fate
from nightmill.model.journal import Done
from nightmill.model.order import JobOrder
from nightmill.model.report import JobReport
from nightmill.model.states import AttemptState
from tests.support.orders import Bench, output

FIRST = output("first", "first.txt")
SECOND = output("second", "second.txt")


def must_fail(
    bench: Bench, order: JobOrder, fate: Fate, message: str, *, log: bool = True, **options: Any
) -> JobReport:
    """Carry out an order that must fail; check everything that each failure has in common."""
    before = bench.stored()
    report = bench.run_one(order, **options)
    assert (report.state, report.fate) == (AttemptState.FAILED, fate), report.evidence
    assert message in report.evidence
    last = [entry for entry in bench.entries() if isinstance(entry, Done)][-1]
    assert (last.attempt, last.fate, last.evidence) == (order.attempt, fate, report.evidence)
    assert [file.name for file in report.published] == ([order.log_name] if log else [])
    assert sorted(set(bench.stored()) - set(before)) == ([order.log_name] if log else [])
    assert bench.leftovers() == []
    return report
