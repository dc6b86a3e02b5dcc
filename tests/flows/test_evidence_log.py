"""What of failures goes into the log of a run in Prefect; no server is needed for it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import tasks.jobs
from tasks.jobs import EvidenceLog
from tests.support.orders import Bench, shell


def test_a_slice_logs_so_many_lines_and_then_where_the_rest_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks.jobs, "get_run_logger", lambda: logging.getLogger("run"))
    bench = Bench(tmp_path)
    report = bench.run_one(bench.order(shell("s", "seq 20; exit 1")))
    single = bench.run_one(bench.order(shell("s", "echo 20; exit 1"), number=2))
    evidence = EvidenceLog(2 * 7 + 3)
    for each in (single, report, report, report, report):
        evidence.tell(each)
    job = "night1/science/exposure=12,detector=3"
    whole = f"{report.evidence}\nthe whole log: nightmill logs {job}"
    assert whole.count("\n") == 6
    assert caplog.messages == [
        whole,
        whole,
        f"no more evidence of this slice is logged here: nightmill logs JOB, as {job}",
    ]
