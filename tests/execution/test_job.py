"""One job, as it should go: what lies in its scratch, what it publishes, what its journal tells."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest

from nightmill.errors import RequestRefused
from nightmill.execution.bundles import BundleCache
from nightmill.execution.context import JobContext
from nightmill.execution.host import Host
from nightmill.execution.jobs import run_jobs
from nightmill.execution.journal import JournalWriter, journals
from nightmill.model.fate import Fate
from nightmill.model.journal import Checked, Done, Publishing, SoftwareSeen, StepBegan, StepEnded
from nightmill.model.order import OrderStep
from nightmill.model.pipeline import Resources
from nightmill.model.report import fold, stacks
from nightmill.model.states import AttemptState
from tests.support.orders import BEGINS, ENDS, Bench, fits_bytes, output, python, shell

LISTING = "cd .. && find . -type f | sort && for f in inputs/*; do sha256sum < $f; done"


def log_of(bench: Bench) -> str:
    (path,) = (bench.root / "stores" / "backbone" / "logs").iterdir()
    return path.read_text()


@pytest.mark.req("B01")
def test_the_scratch_begins_empty_and_holds_exactly_the_pre_flight_list(bench: Bench) -> None:
    frame = bench.put("frame.fits", fits_bytes())
    bias = bench.put("bias.fits", fits_bytes(exposure=1), role="bias")
    bench.put("other.fits", fits_bytes(exposure=2))
    report = bench.run_one(bench.order(shell("look", LISTING), inputs=(frame, bias)))
    assert report.state is AttemptState.PUBLISHED
    lines = log_of(bench).splitlines()[1:]
    assert lines == [
        "./index.json", "./inputs/bias.fits", "./inputs/frame.fits", "./log", "./order.json",
        f"{bias.sha256}  -", f"{frame.sha256}  -",
    ]  # fmt: skip


def test_each_job_has_a_scratch_of_its_own_which_is_gone_afterwards(bench: Bench) -> None:
    orders = [bench.order(shell("look", "pwd; ls .. ../work"), unit=f"exposure={number}") for number in (1, 2)]
    assert [report.fate for report in bench.run(*orders)] == [Fate.PUBLISHED] * 2
    assert bench.leftovers() == []
    logs = [path.read_text() for path in (bench.root / "stores/backbone/logs").iterdir()]
    assert len({text.splitlines()[1] for text in logs}) == 2


@pytest.mark.req("B09", "B11")
def test_names_in_scratch_are_the_names_in_the_store(bench: Bench) -> None:
    first = output("catalog", "DECam_12_03_cat_c0001a01.txt")
    second = output("summary", "DECam_12_03_sum_c0001a01.txt")
    report = bench.run_one(
        bench.order(
            shell("detect", "echo stars > DECam_12_03_cat_c0001a01.txt; ls", first),
            shell("sum", "ls ../outputs; cat ../outputs/* > DECam_12_03_sum_c0001a01.txt", second, inputs=first.names),
        )
    )
    assert report.fate is Fate.PUBLISHED
    seen_in_scratch = {line for line in log_of(bench).splitlines() if line.endswith(".txt")}
    assert seen_in_scratch == {"DECam_12_03_cat_c0001a01.txt"}
    assert set(bench.stored()) - {report.order.log_name} == {*first.names, *second.names}
    assert [file.produced_name for file in report.made] == ["", ""]
    assert [type(entry).__name__ for entry in bench.entries()] == [
        "Started", "Staged", "SoftwareSeen", "StepBegan", "StepEnded", "StepObserved", "Checked",
            "StepBegan", "StepEnded", "StepObserved", "Checked", "Publishing", "Done",
        ]  # fmt: skip


def test_a_step_with_names_of_its_own_is_renamed_after_it_and_both_names_told(bench: Bench) -> None:
    cats = output("cats", "cat_1.txt", "cat_2.txt", "cat_3.txt", produces="*.cat", min=1)
    report = bench.run_one(bench.order(shell("sex", "echo b > b.cat; echo a > a.cat; mkdir c.cat", cats)))
    assert report.fate is Fate.PUBLISHED
    assert [(file.name, file.produced_name) for file in report.made] == [("cat_1.txt", "a.cat"), ("cat_2.txt", "b.cat")]
    assert (bench.root / "stores/backbone/products/cat_2.txt").read_text() == "b\n"


@pytest.mark.req("B10")
def test_the_real_program_and_arguments_are_on_record(bench: Bench) -> None:
    report = bench.run_one(bench.order(python("say", "import sys; print(sys.argv)"), shell("list", "ls -l")))
    assert [step.argv for step in report.steps] == [
        (sys.executable, "-c", "import sys; print(sys.argv)"),
        ("sh", "-c", "ls -l"),
    ]
    assert log_of(bench).splitlines()[0].startswith(f"== say: {sys.executable} -c 'import sys")


@pytest.mark.req("B03")
def test_command_lines_and_python_functions_are_steps_alike(bench: Bench, tmp_path: Path) -> None:
    package = tmp_path / "code"
    package.mkdir()
    (package / "my_steps.py").write_text(
        "from pathlib import Path\n"
        "def double(source, target, times):\n"
        "    Path(target).write_text(Path(source).read_text() * times)\n"
    )
    frame = bench.put("frame.txt", b"abc", type="text")
    arguments = json.dumps({"source": "../outputs/one.txt", "target": "two.txt", "times": 2})
    call = OrderStep(
        name="double",
        argv=("{python}", "-m", "nightmill.execution.call", "my_steps:double", arguments),
        inputs=("one.txt",),
        outputs=(output("two", "two.txt"),),
        environment={"PYTHONPATH": f"{package}{os.pathsep}{Path(__file__).parents[2]}"},
    )
    copy = OrderStep(
        name="copy",
        argv=("cp", "../inputs/frame.txt", "one.txt"),
        inputs=("frame.txt",),
        outputs=(output("one", "one.txt"),),
    )
    report = bench.run_one(bench.order(copy, call, inputs=(frame,)))
    assert (report.fate, report.evidence) == (Fate.PUBLISHED, "")
    assert (bench.root / "stores/backbone/products/two.txt").read_text() == "abcabc"
    assert all(step.cost is not None and step.exit_code == 0 for step in report.steps)


@pytest.mark.req("B06")
def test_outputs_go_to_the_backbone_or_to_a_working_area(bench: Bench) -> None:
    kept = output("image", "kept.txt")
    quick = output("preview", "quick.txt", store="quicklook", directory="night1")
    report = bench.run_one(bench.order(shell("make", "echo 1 > kept.txt; echo 22 > quick.txt", kept, quick)))
    assert [(file.name, file.store, file.path) for file in report.published if file.step] == [
        ("kept.txt", "backbone", "products/kept.txt"),
        ("quick.txt", "quicklook", "night1/quick.txt"),
    ]
    assert (bench.root / "stores/quicklook/night1/quick.txt").read_text() == "22\n"
    assert bench.stored() == [report.order.log_name, "kept.txt"]


@pytest.mark.req("B44")
def test_what_a_step_did_not_declare_is_seen_by_no_later_step(bench: Bench) -> None:
    declared = output("one", "one.txt")
    report = bench.run_one(
        bench.order(
            shell("one", "echo 1 > one.txt; echo secret > junk.txt; mkdir more; echo x > more/junk2.txt", declared),
            shell("two", "ls -A . ../outputs ../inputs; test ! -e junk.txt && test ! -e more", inputs=("one.txt",)),
        )
    )
    assert report.fate is Fate.PUBLISHED
    assert "junk" not in log_of(bench).partition("== two")[2].partition("\n")[2]
    assert bench.stored() == [report.order.log_name, "one.txt"]


def test_intermediate_files_are_known_and_not_kept(bench: Bench) -> None:
    middle = output("flat_fielded", "middle.fits", type="image", store="")
    final = output("catalog", "final.txt")
    frame = bench.put("frame.fits", fits_bytes(AIRMASS=1.25))
    report = bench.run_one(
        bench.order(
            shell("flatten", "cp ../inputs/frame.fits middle.fits", middle, inputs=("frame.fits",)),
            shell("detect", "wc -c < ../outputs/middle.fits > final.txt", final, inputs=("middle.fits",)),
            inputs=(frame,),
        )
    )
    assert report.fate is Fate.PUBLISHED
    intermediate = report.made[0]
    assert (intermediate.name, intermediate.store, intermediate.sha256) == ("middle.fits", "", frame.sha256)
    assert intermediate.metadata == {"airmass": 1.25}
    assert bench.stored() == [report.order.log_name, "final.txt"]


def test_what_the_gate_found_of_a_fits_output_is_told(bench: Bench) -> None:
    frame = bench.put("frame.fits", fits_bytes(AIRMASS=1.5))
    made = output("image", "image.fits", type="image")
    report = bench.run_one(bench.order(shell("copy", "cp ../inputs/frame.fits image.fits", made), inputs=(frame,)))
    image = report.published[0]
    assert (image.size_bytes, image.sha256) == (frame.size_bytes, frame.sha256)
    assert image.data_id == {"exposure": 12, "detector": 3}
    assert (image.metadata, image.begins_at, image.ends_at) == ({"airmass": 1.5}, BEGINS, ENDS)


def test_the_execution_record_of_a_step(bench: Bench) -> None:
    step = shell(
        "spend", "echo $FLAVOUR; sleep 0.2", environment={"FLAVOUR": "vanilla"}, software={"sh": ("echo", "sh 9")}
    )
    report = bench.run_one(bench.order(step, python("py", "print(1)")))
    first, second = report.steps
    assert report.host == socket.gethostname()
    assert first.ended_at is not None
    assert report.ended_at is not None
    assert report.began_at <= first.began_at < first.ended_at <= second.began_at < report.ended_at
    assert first.cost is not None
    assert first.cost.wall_seconds == pytest.approx((first.ended_at - first.began_at).total_seconds(), abs=0.1)
    assert first.cost.wall_seconds >= 0.2
    assert first.cost.max_rss_bytes > 0
    assert first.cost.read_bytes > 0
    known = stacks(bench.entries())
    assert known[first.software].programs["sh"] == "sh 9"
    assert "astropy" not in known[first.software].distributions
    assert known[second.software].distributions["astropy"]
    assert known[second.software].interpreter["version"] == ".".join(map(str, sys.version_info[:3]))
    assert first.environment["FLAVOUR"] == "vanilla"
    assert {"PATH", "NIGHTMILL_CORES"} <= second.environment.keys()
    assert "vanilla" in log_of(bench)


def test_only_what_an_order_or_nightmill_sets_is_in_a_steps_environment(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTMILL_PASSWORD", "secret")
    bench.run_one(bench.order(shell("env", "env", environment={"FLAVOUR": "vanilla"})))
    names = {line.partition("=")[0] for line in log_of(bench).splitlines()[1:]}
    always = {"HOME", "TMPDIR", "TZ", "NIGHTMILL_CORES", "NIGHTMILL_SCRATCH", "OMP_NUM_THREADS", "PATH", "FLAVOUR"}
    always |= {"PYTHONDONTWRITEBYTECODE", "NIGHTMILL_INDEX", "NIGHTMILL_SIDECAR"}
    assert always <= names
    of_the_shell = {"PWD", "OLDPWD", "_"}
    inherited = {"LANG", "LC_ALL", "LD_LIBRARY_PATH", "VIRTUAL_ENV"}
    assert names <= always | of_the_shell | inherited


SECRETS = ("PREFECT_API_AUTH_STRING", "PREFECT_API_KEY", "PREFECT_SERVER_API_AUTH_STRING", "NIGHTMILL_DB", "PGPASSWORD")


def test_no_secret_of_nightmills_own_reaches_a_step_or_its_record(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither those of Prefect's API, nor what a site's configuration fills in from the environment."""
    for name in SECRETS:
        monkeypatch.setenv(name, "hidden-from-steps")
    ask = {
        "one": ("sh", "-c", "env | grep -c hidden-"),
        "two": ("sh", "-c", "cat /proc/self/environ | grep -ac hidden"),
    }
    bench.run_one(bench.order(shell("env", "env", software=ask), python("py", "import os; print(os.environ)")))
    assert "hidden-from-steps" not in log_of(bench)
    assert [path for path in journals(bench.spool) if "hidden-from-steps" in path.read_text()] == []
    programs = [entry.seen.programs for entry in bench.entries() if isinstance(entry, SoftwareSeen)]
    assert [(each["one"], each["two"]) for each in programs[:1]] == [("0", "0")]


def test_a_pipeline_may_name_any_variable_and_its_value(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "hidden-from-steps")
    bench.run_one(bench.order(shell("env", "env", environment={"PREFECT_API_AUTH_STRING": "its own"})))
    assert "PREFECT_API_AUTH_STRING=its own" in log_of(bench).splitlines()


@pytest.mark.parametrize(("asked", "told"), [(1, "1 1"), (3, "3 3"), (100, "4 4")])
def test_a_step_is_told_how_many_cores_are_its_own(bench: Bench, asked: int, told: str) -> None:
    order = bench.order(shell("cores", "echo $NIGHTMILL_CORES $OMP_NUM_THREADS"))
    order = order.model_copy(update={"resources": Resources(cores=asked)})
    bench.run_one(order, host=Host("node", cores=4, memory_bytes=10**9))
    assert log_of(bench).splitlines()[1:] == [told]


def test_a_steps_own_environment_has_the_last_word(bench: Bench) -> None:
    bench.run_one(bench.order(shell("cores", "echo $OMP_NUM_THREADS", environment={"OMP_NUM_THREADS": "7"})))
    assert log_of(bench).splitlines()[1:] == ["7"]


def test_a_steps_copy_of_an_input_is_no_way_into_the_store(bench: Bench) -> None:
    frame = bench.put("frame.txt", b"archive", type="text")
    bench.run_one(
        bench.order(
            shell("vandal", "chmod u+w ../inputs/*; echo x > ../inputs/frame.txt; rm ../inputs/*"), inputs=(frame,)
        )
    )
    assert (bench.root / "stores/backbone/raw/frame.txt").read_bytes() == b"archive"


def test_a_kept_scratch_stays_with_everything_in_it(bench: Bench) -> None:
    order = bench.order(shell("one", "echo 1 > one.txt; echo 2 > junk", output("one", "one.txt")))
    bench.run_one(order, keep_scratch=True)
    (scratch,) = bench.scratch.iterdir()
    files = sorted(path.relative_to(scratch).as_posix() for path in scratch.rglob("*") if path.is_file())
    assert files == ["index.json", "left/one/junk", "log", "made.json", "order.json", "outputs/one.txt"]
    assert json.loads((scratch / "order.json").read_text())["attempt"]["unit"] == order.attempt.unit
    assert json.loads((scratch / "made.json").read_text()) == {"steps": ["one"], "made": {"one": ["one.txt"]}}


def test_a_step_that_closes_its_folders_does_not_keep_its_scratch(bench: Bench) -> None:
    closed = "mkdir -p a/b/c; touch a/b/c/d; chmod 0 a/b/c a/b a; chmod 0 ../tmp"
    assert bench.run_one(bench.order(shell("close", closed))).fate is Fate.PUBLISHED
    assert bench.leftovers() == []


# --------------------------------------------------------------------------------------------- many jobs


def test_jobs_are_reported_in_their_order_and_failures_are_reports(bench: Bench) -> None:
    orders = [bench.order(shell("s", f"exit {number % 3}"), unit=f"exposure={number}") for number in range(40)]
    reports = bench.run(*orders)
    assert [report.attempt for report in reports] == [order.attempt for order in orders]
    assert [report.state is AttemptState.PUBLISHED for report in reports] == [n % 3 == 0 for n in range(40)]
    assert fold(bench.entries()) == {report.attempt: report for report in reports}


def test_no_file_appears_before_its_intent_is_durable(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync = JournalWriter.sync
    reveal = type(bench.stagers["backbone"]).reveal

    def spy_sync(self: JournalWriter) -> None:
        sync(self)
        order.append("synced")

    def spy_reveal(self: Any, path: str, *, attempt: str) -> None:
        order.append("revealed")
        reveal(self, path, attempt=attempt)

    monkeypatch.setattr(JournalWriter, "sync", spy_sync)
    monkeypatch.setattr(type(bench.stagers["backbone"]), "reveal", spy_reveal)
    orders = [bench.order(shell("s", ":"), unit=f"exposure={number}") for number in range(3)]
    bench.run(*orders, listener=lambda entry: order.append(type(entry).__name__))
    told = [word for word in order if word in ("Publishing", "synced", "revealed", "Done")]
    assert told[: told.index("Done")] == ["Publishing"] * 3 + ["synced"] + ["revealed"] * 3


def test_a_long_job_does_not_wait_for_its_group(bench: Bench) -> None:
    orders = [bench.order(shell("s", "sleep 0.3"), unit=f"exposure={number}") for number in range(2)]
    bench.run(*orders)
    kinds = [type(entry) for entry in bench.entries() if isinstance(entry, Publishing | Done | StepBegan)]
    assert kinds == [StepBegan, Publishing, Done] * 2


def test_what_ran_is_published_though_nobody_wants_the_reports(bench: Bench) -> None:
    orders = [bench.order(shell("s", ":"), unit=f"exposure={number}") for number in range(3)]

    def refuses_the_last() -> Any:
        yield from orders[:2]
        raise RuntimeError("no more orders")

    with JournalWriter(bench.spool) as journal:
        context = JobContext(bench.stagers, bench.scratch, journal, BundleCache(bench.root / "cache"))
        with pytest.raises(RuntimeError, match="no more orders"):
            list(run_jobs(refuses_the_last(), context))
    assert bench.stored() == [order.log_name for order in orders[:2]]
    assert [entry.state for entry in bench.entries() if isinstance(entry, Done)] == [AttemptState.PUBLISHED] * 2
    assert bench.leftovers() == []


def test_an_attempt_does_not_run_twice_at_the_same_time(bench: Bench) -> None:
    order = bench.order(shell("s", ":"))
    bench.run_one(order, keep_scratch=True)
    with pytest.raises(RequestRefused, match=r"^attempt night1/science/exposure=12,detector=3/a01 is carried out by"):
        bench.run_one(order.model_copy(update={"log_name": "other.log"}))
    rmtree(bench.spool / "claims")
    with pytest.raises(
        RequestRefused, match=r"the scratch .* exists: attempt night1/science/exposure=12,detector=3/a01"
    ):
        bench.run_one(order.model_copy(update={"log_name": "other.log"}))
    assert len([entry for entry in bench.entries() if isinstance(entry, StepEnded | Checked)]) == 2
