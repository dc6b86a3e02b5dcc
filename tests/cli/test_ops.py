"""What jobs asked for and took is told, and better values are proposed, which can be submitted as they are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nightmill.clock import utc_now
from nightmill.errors import RequestRefused
from nightmill.model.fate import Fate
from nightmill.model.journal import Cost
from nightmill.model.order import JobOrder
from nightmill.model.pipeline import Stage, Step
from nightmill.model.report import JobReport, StepReport
from nightmill.model.software import Stack
from nightmill.operations.failures import verdicts
from nightmill.operations.resources import needs_of, override, percentile, rounded_up
from nightmill.operations.site import Site
from nightmill.operations.slice_work import SliceWork
from provenance.record import record
from provenance.statistics import PlannedStage, Run
from tests.cli.conftest import Nightmill
from tests.operations.failing import Failing

MB = 1_000_000
STACK = "0" * 64
Took = tuple[Fate, float, int]
"""How an attempt ended, after so many seconds, with so many MB."""
WELL = [(Fate.PUBLISHED, float(number), 100 + number) for number in range(1, 21)]
JOBS: list[list[Took]] = [
    *([each] for each in WELL),
    [(Fate.OUT_OF_MEMORY, 2.0, 900), (Fate.PUBLISHED, 4.0, 400)],
    [(Fate.OUT_OF_MEMORY, 2.0, 700), (Fate.OUT_OF_MEMORY, 3.0, 650)],
    [(Fate.OUT_OF_MEMORY, 2.0, 450)],
    [(Fate.WALL_LIMIT, 3600.0, 5000)],
    [(Fate.WALL_LIMIT, 3600.0, 5000), (Fate.PUBLISHED, 35.0, 120)],
    [(Fate.STEP_FAILED, 9000.0, 9000)],
]
"""What the attempts at each job took, one after the other."""


def ended(order: JobOrder, fate: Fate, wall_seconds: float, megabytes: int) -> JobReport:
    """Report an attempt that ended so."""
    now = utc_now()
    cost = Cost(
        wall_seconds=wall_seconds,
        user_seconds=1.2 * wall_seconds,
        system_seconds=0.3 * wall_seconds,
        max_rss_bytes=megabytes * MB,
        read_bytes=3 * MB,
        written_bytes=0,
    )
    code = 0 if fate is Fate.PUBLISHED else 1
    [step] = order.steps
    ran = StepReport(
        name=step.name, argv=step.argv, began_at=now, ended_at=now, exit_code=code, cost=cost, software=STACK
    )
    return JobReport(
        attempt=order.attempt,
        order=order,
        state=fate.attempt_state,
        fate=fate,
        host="node1",
        began_at=now,
        ended_at=now + timedelta(seconds=wall_seconds),
        steps=(ran,),
        failed_step="" if code == 0 else step.name,
    )


def carry_out(site: Site, work: SliceWork, jobs: Sequence[Sequence[Took]]) -> None:
    """Issue and record the attempts of each job, as a slice does."""
    for round_ in range(max(map(len, jobs))):
        reports = []
        for order in work.issue(len(jobs)):
            took = jobs[int(order.attempt.unit.removeprefix("exposure=")) - 100]
            if round_ < len(took):
                reports.append(ended(order, *took[round_]))
        told = partial(record, reports=reports, stacks={STACK: Stack()}, verdicts=verdicts(site, reports))
        site.database.write(partial(told, now=utc_now()))


@pytest.fixture
def failing(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Failing:
    """Give a site of which a campaign ran, and make it the working folder."""
    asked = ("pipeline.stages.science.resources={memory_bytes: 2000000000, cores: 4, scratch_bytes: 1000000}",)
    made = Failing.build(tmp_path, database_url, ["seconds 0"] * len(JOBS), *asked)
    with made.observatory.open() as site, made.work(site) as work:
        carry_out(site, work, JOBS)
    monkeypatch.chdir(made.observatory.directory)
    return made


def of(found: Sequence[Any], step: str | None, resource: str) -> dict[str, Any]:
    [need] = [each for each in found if (each["stage"], each["step"], each["resource"]) == ("science", step, resource)]
    return {key: value for key, value in need.items() if key not in ("pipeline", "stage", "step", "resource")}


def test_what_jobs_took_is_told_and_better_values_proposed(failing: Failing, nightmill: Nightmill) -> None:
    found = nightmill("ops", "resources", "--json").json
    assert {each["pipeline"] for each in found} == {"survey"}
    memory = {"asked": 2e9, "jobs": 22, "median": 111e6, "p95": 120e6, "p99": 400e6, "most": 400e6}
    assert of(found, None, "memory_bytes") == memory | {"cut": 2, "proposed": 500_000_000, "short_for": 1, "why": ""}
    wall = {"asked": 3600.0, "jobs": 22, "median": 10.0, "p95": 20.0, "p99": 35.0, "most": 35.0}
    assert of(found, "detect", "wall_seconds") == wall | {"cut": 1, "proposed": 70, "short_for": 1, "why": ""}
    cores = of(found, None, "cores")
    assert cores["most"] == pytest.approx(1.5)
    assert (cores["asked"], cores["proposed"], cores["short_for"]) == (4, 2, 0)
    scratch = of(found, None, "scratch_bytes")
    assert (scratch["asked"], scratch["jobs"], scratch["most"], scratch["proposed"]) == (1e6, 0, None, None)
    assert of(found, "detect", "read_bytes")["most"] == 3e6

    lines = nightmill("ops", "resources", "night1", "--stage", "science").out.splitlines()
    assert lines[0].split("\t")[:5] == ["stage, step", "of", "asked", "jobs", "cut"]
    assert lines[1].split("\t") == [
        *("science", "memory MB", "2,000", "22", "2", "111", "120", "400", "400", "500", "1"),
    ]


def test_what_is_proposed_goes_over_a_campaign_as_it_is(failing: Failing, nightmill: Nightmill) -> None:
    proposed = nightmill("ops", "resources", "--pipeline", "survey", "--yaml")
    Path("better.yaml").write_text(proposed.out)
    assert proposed.out == (
        "why: what up to 22 jobs of each stage of survey took\n"
        "overrides:\n"
        "  stages:\n"
        "    science:\n"
        "      resources: {memory_bytes: 500000000, cores: 2}\n"
        "      steps:\n"
        "        detect: {wall_seconds: 70}\n"
    )
    Path("again.yaml").write_text(Path("night1.yaml").read_text().replace("night1", "again"))
    for key, value in (("resources.memory_bytes", "500000000"), ("steps.detect.wall_seconds", "70.0")):
        explained = nightmill(
            *("plan", "again.yaml", "--override", "better.yaml", "--explain", f"pipeline.stages.science.{key}")
        )
        assert explained.code == 0, explained.err
        assert explained.out.splitlines()[-1].split("\t")[1:3] == ["*", value]


def test_nothing_is_proposed_from_few_jobs(failing: Failing, nightmill: Nightmill) -> None:
    told = nightmill("ops", "resources", "--least", "23", "--json").json
    assert {each["proposed"] for each in told} == {None}
    assert of(told, None, "memory_bytes")["why"] == "fewer than 23 jobs ended well"
    assert of(told, "detect", "read_bytes")["why"] == ""
    told = "nothing is proposed for science, science/detect: fewer than 23 jobs ended well (--least)"
    assert told in nightmill("ops", "resources", "--least", "23").err.splitlines()
    refused = nightmill("ops", "resources", "--least", "23", "--yaml")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        "nightmill: there is nothing to propose: fewer than 23 jobs ended well; propose from fewer jobs with --least\n"
    )


def test_names_that_nobody_knows_are_refused_with_a_guess(failing: Failing, nightmill: Nightmill) -> None:
    for arguments, guess in (
        (("nigth1",), "no campaign named 'nigth1' (did you mean 'night1'"),
        (("--pipeline", "survy"), "no pipeline with a plan named 'survy' (did you mean 'survey'"),
        (("--stage", "sience"), "no stage with a plan named 'sience' (did you mean 'science'"),
        (("--yaml", "--json"), "--yaml and --json exclude each other"),
    ):
        called = nightmill("ops", "resources", *arguments)
        assert called.code == 2
        assert guess in called.err


def test_a_site_where_nothing_ran_has_nothing_to_tell(folder: Path, nightmill: Nightmill) -> None:
    assert nightmill("ops", "resources", "--json").json == []
    assert "nothing to propose: no stage was planned" in nightmill("ops", "resources", "--yaml").err


STAGE = Stage(name="reduce", per=(), inputs={}, steps=(Step(name="flatten"), Step(name="detect")))
RUNS = [
    Run(1, "flatten", None, 10.0, 10.0, 800, 0, 0),
    Run(1, "detect", None, 90.0, 360.0, 200, 0, 0),
    Run(2, "flatten", None, 10.0, 10.0, 500, 0, 0),
    Run(2, "detect", Fate.OUT_OF_MEMORY, 20.0, 20.0, 1000, 0, 0),
    Run(3, "detect", None, 0.0, 0.0, 0, None, None),
]


def test_a_job_needs_what_the_largest_of_its_steps_needs() -> None:
    found = {(need.step, need.resource): need for need in needs_of(PlannedStage("p", STAGE), RUNS, least=1)}
    memory, cores = found["", "memory_bytes"], found["", "cores"]
    assert (memory.jobs, memory.most, memory.cut, memory.proposed, memory.short_for) == (1, 800, 1, 1000, 1)
    assert (cores.jobs, cores.most, cores.proposed) == (1, 4.0, 4)
    assert [found["flatten", "memory_bytes"].jobs, found["detect", "memory_bytes"].jobs] == [2, 1]
    assert (found["detect", "wall_seconds"].jobs, found["detect", "wall_seconds"].proposed) == (2, 180)
    one, other = needs_of(PlannedStage("p", STAGE), RUNS, least=1), needs_of(PlannedStage("q", STAGE), RUNS, least=1)
    with pytest.raises(RequestRefused, match="one file cannot be for several pipelines: p, q; say which with"):
        override([*one, *other])


def test_percentiles_and_roundings() -> None:
    ordered = [float(number) for number in range(1, 201)]
    assert [percentile(ordered, share) for share in (50, 95, 99, 100)] == [100, 190, 198, 200]
    assert [percentile([7.0], share) for share in (50, 99)] == [7, 7]
    assert [rounded_up(value) for value in (0.4, 9.2, 10, 101, 1.9e9, 1.91e9)] == [
        *(1, 10, 10, 110, 1_900_000_000, 2_000_000_000)
    ]
