"""Chunks of short jobs: as long as their run times and the cost of a chunk ask for, wherever they are carried out."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from nightmill.model.report import JobReport, pace_of
from nightmill.operations.pace import LITTLE, MOST_JOBS, Pace
from nightmill.operations.slice_work import SliceWork
from tests.support.observatory import Observatory


def carried_out(folder: Path, *changes: str) -> tuple[list[JobReport], SliceWork]:
    """Carry out two jobs together, as the flow of their slice does, and return what it knows then."""
    observatory = Observatory.build(folder)
    with (folder / "nightmill.yaml").open("a") as file:
        file.write("engines:\n  workers: {kind: processes, workers: 2}\n")
    observatory.observe(1, ["seconds 0", "seconds 0"])
    observatory.submit("night1", 1, *changes)
    with observatory.open() as site, SliceWork(site, "night1", "science", 0) as work:
        assert work.jobs_per_task in (1, 7), "nothing is known of them yet"
        reports = list(work.place.run(work.issue(2)))
        work.record(reports)
        assert [report.failed_step for report in reports] == ["", ""]
        return reports, work


@pytest.mark.req("REQ-0012")
def test_a_chunk_is_so_long_that_what_it_costs_is_little(tmp_path: Path) -> None:
    sizes: dict[str, int] = {}
    costs: dict[str, float] = {}
    for engine in ("threads", "workers"):
        reports, work = carried_out(tmp_path / engine, f"execution.engine={engine}", "execution.threads=1")
        sizes[engine], costs[engine] = work.jobs_per_task, work.place.chunk_costs_seconds
        assert costs[engine] <= LITTLE * pace_of(reports) * sizes[engine]
        assert work.jobs_per_issue == sizes[engine], "for the one chunk at a time"
        assert len({report.attempt for report in reports}) == 2, "each is told of, though they went together"
    assert costs["workers"] >= 0.5 + costs["threads"], "a process starts for each chunk"


def test_who_says_how_many_jobs_go_together_is_obeyed(tmp_path: Path) -> None:
    _, work = carried_out(tmp_path, "execution.jobs_per_task=7", "execution.threads=1")
    assert work.jobs_per_task == 7


@pytest.mark.parametrize(
    ("seconds_a_job", "chunk_costs", "jobs"),
    [
        (0.05, 0.02, 100),  # as many as there may be
        (0.004, 0.02, 100),
        (0.001, 0.02, 400),  # or they would take too little time for what they cost
        (0.5, 0.02, 10),  # five seconds
        (0.5, 1.0, 40),  # twenty
        (0.004, 1.0, 5000),
        (60.0, 0.02, 1),
        (60.0, 1.0, 1),
    ],
)
def test_how_many_go_together(reported: JobReport, seconds_a_job: float, chunk_costs: float, jobs: int) -> None:
    pace = Pace()
    assert pace.jobs_together(chunk_costs) == 1, "nothing is known yet"
    pace.measure([_lasting(reported, seconds_a_job)])
    together = pace.jobs_together(chunk_costs)
    assert together == jobs
    assert chunk_costs <= LITTLE * together * seconds_a_job * 1.001
    assert together <= MOST_JOBS or chunk_costs > LITTLE * (together - 1) * seconds_a_job


def test_the_newest_jobs_count_for_a_fifth(reported: JobReport) -> None:
    pace = Pace()
    for seconds in (1.0, 6.0):
        pace.measure([_lasting(reported, seconds)])
    assert pace.jobs_together(0.0) == int(5 / 2)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> JobReport:
    """Give the report of a job that was carried out."""
    return carried_out(tmp_path_factory.mktemp("reported") / "site")[0][0]


def _lasting(report: JobReport, seconds: float) -> JobReport:
    return report.model_copy(update={"ended_at": report.began_at + timedelta(seconds=seconds)})
