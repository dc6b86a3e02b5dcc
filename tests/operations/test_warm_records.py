"""What is on record of warm steps is what is of any others."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.operations.failing import Failing
from tests.support.records import differences, record_of


@pytest.mark.req("X32")
def test_the_record_of_warm_steps_is_that_of_any_other(tmp_path: Path) -> None:
    records = []
    for modules in ((), ("decimal",)):
        warm = f"pipeline.stages.science.steps.detect.warm=[{','.join(modules)}]"
        texts = ["seconds 0", "exit 3 no star", "warn 0 well"]
        failing = Failing.build(tmp_path / f"{len(modules)}", "", texts, "pipeline.stages.science.retries=1", warm)
        assert {report.order.steps[0].warm for report in failing.conduct()} == {modules}
        with failing.observatory.open() as site:
            records.append(record_of(site))
    assert differences(*records) == []
