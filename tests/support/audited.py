"""Steps that are audited."""

from __future__ import annotations

from typing import Any

from nightmill.execution.audit import strace
from nightmill.model.confinement import NodeConfinement, Use
from nightmill.model.observed import Observation
from nightmill.model.order import OrderInput, OrderStep
from nightmill.model.report import JobReport
from tests.support.orders import Bench


def audited(
    bench: Bench,
    *steps: OrderStep,
    inputs: tuple[OrderInput, ...] = (),
    use: Use = Use.TRY,
    number: int = 1,
    **options: Any,
) -> JobReport:
    """Carry out steps at the audit level, confined or not."""
    strace.version()
    bench.confinement = NodeConfinement(use=use)
    order = bench.order(*steps, inputs=inputs, number=number).model_copy(update={"level": "audit"})
    return bench.run_one(order, **options)


def observed(report: JobReport, step: int = 0) -> Observation:
    """Return what is known of a step."""
    found = report.steps[step].observed
    assert found is not None
    return found
