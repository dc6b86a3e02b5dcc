"""Each benchmark, at a tiny size, prints the object that it promises. No time is ever asserted."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmarks.__main__ import NAMES, main
from benchmarks.figures import Result, alternately, figure, kept
from benchmarks.page import PAGE, line, page
from benchmarks.parts import PARTS, spent_by_part
from benchmarks.peers import has_snakemake

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def told(name: str, size: int) -> dict[str, Any]:
    done = run(name, "--json", "--size", str(size), "--repeats", "1")
    assert done.returncode == 0, done.stderr
    [printed] = done.stdout.splitlines()
    answer: dict[str, Any] = json.loads(printed)
    assert Result.model_validate(answer).name == name
    return answer


def test_a_trivial_job_beside_the_bare_loop() -> None:
    answer = told("job_overhead", 3)
    assert answer["unit"] == "ms per job"
    assert answer["ratio"] == pytest.approx(answer["value"] / answer["floor"], rel=0.02)
    assert "floor: a loop" in answer["compared"]
    assert answer["command"] == "python -m benchmarks job_overhead --json"
    assert ("beside Snakemake" in answer["also"]) == has_snakemake()


def test_two_slices_beside_one_and_where_their_time_goes() -> None:
    answer = told("two_slices", 5)
    assert answer["counts"] == {"jobs": 4, "processes": 2}, "as many in each"
    assert "SQLite, one slice" in answer["also"]
    assert {"two_over_one_wall (SQLite)", "two_over_one_cpu (SQLite)"} <= answer["extra"].keys()
    assert answer["parts"].keys() == {*PARTS, "the steps themselves", "the rest"}, "each is called on the way of a job"
    assert all(milliseconds > 0 for part, milliseconds in answer["parts"].items() if part in PARTS)


def test_a_part_is_measured_without_the_parts_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def burn(seconds: float) -> None:
        start = time.thread_time()
        while time.thread_time() - start < seconds:
            pass

    def whole() -> None:
        of_module["within"]()
        burn(0.02)
        with pytest.raises(ZeroDivisionError):
            of_module["fails"]()

    module = ModuleType("parts_of_a_test")
    of_module = vars(module)
    of_module.update(whole=whole, within=lambda: burn(0.06), fails=lambda: 1 / 0)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    before = dict(of_module)
    parts = {name: [f"{module.__name__}:{name}"] for name in ("whole", "within", "fails")}
    with spent_by_part(parts) as spent:
        of_module["whole"]()
    assert of_module == before, "everything is as it was"
    assert spent["within"] >= 0.06
    assert 0.02 <= spent["whole"] < 0.05
    assert 0 <= spent["fails"] < 0.01


def test_a_rate_beside_its_floor_and_a_peer() -> None:
    answer = told("ingest", 5)
    assert answer["unit"] == "files per second"
    assert answer["ratio"] == pytest.approx(answer["floor"] / answer["value"], rel=0.02)
    assert list(answer["also"]) == ["beside astropy.io.fits.getheader"]


def test_a_plan_beside_its_queries_with_its_memory() -> None:
    answer = told("plan_100k", 20)
    assert answer["unit"] == "s"
    assert answer["ratio"] == pytest.approx(answer["value"] / answer["floor"], rel=0.02)
    assert answer["counts"] == {"jobs": 20}
    assert answer["extra"]["peak_rss_megabytes"] > 0


def test_a_million_jobs_beside_a_tenth_of_them() -> None:
    answer = told("plan_1m", 20)
    assert answer["counts"] == {"jobs": 20}
    assert answer["extra"]["peak_rss_megabytes"] > 0
    assert answer["extra"]["times_the_time_a_job_of_a_tenth"] > 0


def test_units_of_rows_beside_a_bare_loop() -> None:
    answer = told("plan_memberships", 60)
    assert answer["counts"] == {"rows": 60, "units": 6}
    assert answer["extra"]["peak_rss_megabytes"] > 0


def test_what_changes_of_a_plan_beside_the_plan_alone() -> None:
    answer = told("plan_compare", 20)
    assert answer["counts"] == {"units": 20}
    assert answer["ratio"] == pytest.approx(answer["value"] / answer["floor"], rel=0.02)


def test_footprints_and_tiles_beside_distances_alone() -> None:
    answer = told("overlaps", 50)
    assert answer["counts"]["tiles"] == 10_000
    assert answer["counts"]["pairs"] >= 50


def test_transfers_beside_the_bare_client_and_a_folder() -> None:
    answer = told("transfers", 2)
    assert answer["unit"] == "ms per file"
    assert answer["ratio"] == pytest.approx(answer["value"] / answer["floor"], rel=0.02)
    assert list(answer["also"]) == [
        "4 at a time",
        "one of 2 MiB",
        "by a job, 4 inputs and outputs",
        "the same, each answer 10 ms later",
        "in a folder",
        "in a folder, one of 2 MiB",
    ]


def test_warm_steps_beside_bare_forks_and_steps_that_import() -> None:
    answer = told("warm_steps", 2)
    assert answer["counts"] == {"jobs": 2}
    assert list(answer["also"]) == ["beside steps that import"]
    assert "floor: forks of one process" in answer["compared"]


def test_a_huge_log_beside_a_plain_file() -> None:
    answer = told("huge_log", 300)
    assert answer["counts"] == {"published": 1, "both ends kept": 1}
    assert 60 < answer["extra"]["log_megabytes"] < 70
    assert answer["extra"]["most_room_megabytes"] > 60


def test_what_truth_costs_beside_the_same_jobs_without_it() -> None:
    answer = told("truth_overhead", 2)
    assert answer["counts"] == {"jobs": 2}
    assert answer["ratio"] == pytest.approx(answer["value"] / answer["floor"], rel=0.02)
    assert "floor: the same jobs with all that switched off" in answer["compared"]
    assert "milliseconds_on_top_of_the_floor" in answer["extra"]


def test_an_unknown_benchmark_is_refused_by_name() -> None:
    done = run("job_overheads")
    assert done.returncode == 2
    assert f"no benchmark is called job_overheads; there is {', '.join(NAMES)}" in done.stderr


def test_the_documentation_never_gets_a_tiny_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["ingest", "--size", "5", "--write-docs"])
    assert "--write-docs wants the full size, and" in capsys.readouterr().err


def test_the_page_is_what_the_kept_results_give() -> None:
    results = kept()
    assert {result.name for result in results} <= set(NAMES)
    assert PAGE.read_text() == page(results)


def test_the_page_tells_where_the_time_goes() -> None:
    [told] = [each for each in kept() if each.name == "ingest"]
    shown = page([told.model_copy(update={"parts": {"reading": 1.0, "writing": 3.0}})])
    assert "| writing | 3.00 | 75% |\n| reading | 1.00 | 25% |\n| together | 4.00 | 100% |\n" in shown
    assert "Where its CPU time goes" not in page([told])


def test_a_result_is_kept_and_read_again(tmp_path: Path) -> None:
    result = kept()[0]
    result.keep(tmp_path)
    assert kept(tmp_path) == [result]
    assert result.name in line(result)


def test_a_figure_is_of_medians_and_its_ratio_a_cost() -> None:
    cost = figure([3.0, 1.0, 8.0], [2.0, 2.0, 1.0])
    assert (cost.value, cost.floor, cost.ratio, cost.spread) == (3.0, 2.0, 1.5, (1.0, 8.0))
    rate = figure([50.0], [100.0], rate=True)
    assert rate.ratio == 2.0


def test_measurements_alternate() -> None:
    order: list[str] = []

    def measured(name: str) -> float:
        order.append(name)
        return float(len(order))

    assert alternately(2, lambda: measured("own"), lambda: measured("floor")) == [[1.0, 3.0], [2.0, 4.0]]
    assert order == ["own", "floor", "own", "floor"]


def test_a_job_on_each_engine_beside_an_empty_one_of_its_own() -> None:
    answer = told("engines", 4)
    assert answer["unit"] == "ms per job"
    assert {"threads, one a dispatch", "dask, one a dispatch", "dask, in chunks of 50"} <= set(answer["also"])
    assert answer["ratio"] == pytest.approx(answer["value"] / answer["floor"], rel=0.02)
