"""Steps in images, by bubblewrap: what they see, what they can do, how they end, and what is on record of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nightmill.execution.journal import journals, read_journal
from nightmill.execution.launch import watch
from nightmill.execution.launch.containers.opened import OpenedContainers
from nightmill.execution.launch.containers.rootfs import digest_of_folder
from nightmill.execution.proc import started_at
from nightmill.model.container import Containers, ImageCopy
from nightmill.model.fate import Fate
from nightmill.model.node import NodeProfile
from nightmill.model.order import OrderStep
from nightmill.model.report import JobReport, stacks
from tests.support.image import make_image, needs_bubblewrap
from tests.support.orders import Bench, output, python, shell
from tests.support.users import ordinary_user


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Give an image: its name, and the folder where it is unpacked."""
    needs_bubblewrap()
    folder = tmp_path_factory.mktemp("images") / "tiny"
    return f"survey/tiny@{make_image(folder)}", folder


@pytest.fixture
def bench(tmp_path: Path, image: tuple[str, Path]) -> Bench:
    name, folder = image
    made = Bench(tmp_path / "a site, ünïcode")
    made.containers = Containers(runtime="bubblewrap", images={name: folder})
    return made


@pytest.fixture
def run(bench: Bench, image: tuple[str, Path]) -> Any:
    """Give a function that runs a script in the image; the bench is its attribute."""

    def run_it(script: str, *outputs: Any, **changes: Any) -> JobReport:
        inputs = changes.pop("inputs", ())
        step = shell("s", script, *outputs, **{"image": image[0], "wall_seconds": 30.0, **changes})
        return bench.run_one(bench.order(step, inputs=inputs))

    return run_it


def log_of(bench: Bench) -> str:
    [log] = (bench.root / "stores/backbone/logs").iterdir()
    return log.read_text().partition("\n")[2]


def ending(report: JobReport) -> tuple[int | None, int | None]:
    [step] = report.steps
    return step.exit_code, step.signal


@pytest.mark.req("X33", "F32", "F33")
def test_a_step_runs_in_its_image(bench: Bench, run: Any) -> None:
    raw = bench.put("a.txt", b"the sky\n", type="text")
    script = "cat /etc/os-release && cat ../inputs/a.txt > out.txt && ! echo x > ../inputs/a.txt && ls -l out.txt && id"
    report = run(script, output("product", "out.txt"), inputs=(raw,))
    assert report.fate is Fate.PUBLISHED, report.evidence
    said = log_of(bench)
    assert said.startswith("NAME=tiny\n")
    assert "Read-only file system" in said
    assert f"uid={os.getuid()}" in said
    assert (bench.root / "stores/backbone/products/out.txt").read_bytes() == b"the sky\n"
    assert (bench.root / "stores/backbone/products/out.txt").stat().st_uid == os.getuid()
    assert bench.leftovers() == []


@pytest.mark.req("F38")
def test_a_step_is_of_the_user_of_its_job_without_any_privilege() -> None:
    needs_bubblewrap()
    with ordinary_user() as folder:
        name = make_image(folder / "image")
        bench = Bench(folder / "site")
        bench.containers = Containers(runtime="bubblewrap", images={name: folder / "image"})
        script = "id > out.txt; cat /proc/self/status; ! cat /proc/1/environ; ! chmod 4755 out.txt || ls -ln out.txt"
        report = bench.run_one(bench.order(shell("s", script, output("product", "out.txt"), image=name)))
        assert report.fate is Fate.PUBLISHED, report.evidence
        made = bench.root / "stores/backbone/products/out.txt"
        assert made.read_text().startswith(f"uid={os.geteuid()}")
        assert os.geteuid() != 0
        assert made.stat().st_uid == os.geteuid()
        assert "CapEff:\t0000000000000000" in log_of(bench)
        assert "NoNewPrivs:\t1" in log_of(bench)


@pytest.mark.req("F40")
def test_the_record_has_the_image_and_its_programs_and_nothing_of_the_host(
    bench: Bench, image: tuple[str, Path]
) -> None:
    step = python("s", "import os", image=image[0], software={"reducer": ("python3", "--version")})
    report = bench.run_one(bench.order(step))
    stack = stacks(bench.entries())[report.steps[0].software]
    assert stack.container["image"] == image[0]
    assert stack.container["container runtime"].startswith("bubblewrap ")
    assert stack.programs == {"reducer": "the python of the image: --version"}
    assert set(stack.sections) == {"distributions", "programs", "container", "kernel", "cpu"}
    assert set(stack.distributions) == {"nightmill"}
    assert report.steps[0].argv == ("python3", "-c", "import os")
    assert log_of(bench) == "the python of the image: -c import os\n"


def test_what_a_step_sees_is_the_image_and_its_scratch(bench: Bench, run: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    report = run(
        f"ls -A {tmp_path} {bench.root.as_posix()!r}; ls -A {bench.spool.as_posix()!r}; cat /host-etc/passwd;"
        " cat /up/os-release; cat /proc/net/dev; ls /sys /root; echo x > /new; echo x > /etc/new; echo x > /tmp/x"
    )
    assert report.fate is Fate.STEP_FAILED or report.fate is Fate.PUBLISHED
    said = log_of(bench)
    assert "secret" not in said
    assert "stores" not in said
    assert "root:" not in said
    assert "eth0" not in said
    assert said.count("NAME=tiny") == 1
    assert said.count("Read-only file system") == 2
    assert "cannot access" in said


def test_the_environment_is_that_of_the_step(bench: Bench, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/host/lib")
    monkeypatch.setenv("DATABASE_PASSWORD", "secret")
    run("env", environment={"FILTER": "r i\nz", "LD_PRELOAD": ""})
    said = log_of(bench)
    assert "FILTER=r i\nz\n" in said
    assert "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n" in said
    assert "LD_LIBRARY_PATH" not in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("script", "ended"),
    [
        ("sleep 0.2; exit 3", (3, None)),
        ("sleep 0.2; exit 137", (137, None)),
        ("sleep 0.2; kill -KILL $$", (None, signal.SIGKILL)),
        ("sleep 0.2; kill -SEGV $$", (None, signal.SIGSEGV)),
        ("exit 3", (3, None)),
        ("kill -TERM $$", (None, signal.SIGTERM)),
    ],
)
def test_codes_and_signals_are_true(run: Any, script: str, ended: tuple[int | None, int | None]) -> None:
    assert ending(run(script)) == ended


def test_what_it_costs(run: Any) -> None:
    report = run("i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done; cat /bin/sh > big; cat big big > bigger")
    [step] = report.steps
    assert step.cost is not None
    assert 0.1 < step.cost.user_seconds < step.cost.wall_seconds
    assert step.cost.max_rss_bytes > 1_000_000
    if os.getuid() == 0:  # nobody else may read it of a process that has ended
        assert step.cost.written_bytes > 300_000


def test_the_wall_limit_asks_first(bench: Bench, run: Any) -> None:
    report = run("trap 'sleep 0.2; echo tidied; exit 7' TERM; while :; do :; done", wall_seconds=0.4)
    assert (report.fate, ending(report)) == (Fate.WALL_LIMIT, (7, None))
    assert log_of(bench) == "tidied\n== failed: step 's' ran longer than its 0.4 s and was ended: tidied\n"


def test_a_step_that_ignores_sigterm_is_killed(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "GRACE_SECONDS", 0.3)
    report = run("trap '' TERM; while :; do sleep 0.05; done", wall_seconds=0.3)
    assert (report.fate, ending(report)) == (Fate.WALL_LIMIT, (None, signal.SIGKILL))


def test_a_kill_for_lack_of_memory_is_told_as_such(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([7, 8])
    monkeypatch.setattr(watch, "_killed_for_memory", lambda: next(counts))
    assert run("sleep 0.2; kill -KILL $$").fate is Fate.OUT_OF_MEMORY


def sleepers(seconds: str) -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        try:
            if f"sleep\0{seconds}\0".encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except (OSError, ValueError):
            continue
    return [pid for pid in found if started_at(pid) is not None]


def gone(seconds: str) -> bool:
    deadline = time.monotonic() + 20
    while sleepers(seconds):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_nothing_outlives_a_step(run: Any) -> None:
    report = run("setsid sleep 7001 & env -i setsid sleep 7001 & (setsid setsid sleep 7001 &); sleep 0.3")
    assert ending(report) == (0, None)
    assert gone("7001")


def test_a_step_that_waits_for_what_it_left_to_others(bench: Bench, run: Any) -> None:
    script = "sleep 0.2; (sleep 0.2 & echo $! > p); read p < p; while kill -0 $p; do sleep 0.05; done; echo gone"
    assert ending(run(script)) == (0, None)
    assert log_of(bench).endswith("gone\n")


def test_a_step_dies_with_its_worker(bench: Bench, image: tuple[str, Path], tmp_path: Path) -> None:
    order = bench.order(shell("s", "setsid sleep 7002 & sleep 7002", image=image[0]))
    (tmp_path / "orders").write_text(order.model_dump_json())
    profile = NodeProfile(scratch=bench.scratch, spool=bench.spool, containers=bench.containers)
    (tmp_path / "profile").write_text(profile.model_dump_json())
    worker = subprocess.Popen(
        [sys.executable, "-m", "nightmill.execution.worker", tmp_path / "orders", "--profile", tmp_path / "profile"],
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while len(sleepers("7002")) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(sleepers("7002")) == 2
    finally:
        worker.kill()
        worker.wait()
    assert gone("7002")


# ---------------------------------------------------------------------------------- what is not there


def test_a_program_that_the_image_lacks(bench: Bench, image: tuple[str, Path]) -> None:
    report = bench.run_one(bench.order(OrderStep(name="s", argv=("gcc", "-v"), image=image[0])))
    assert report.fate is Fate.STEP_NOT_STARTED
    assert f"step 's' cannot be started in image {image[0]}: bwrap: execvp gcc: No such file" in report.evidence
    assert "has the image the program, on its PATH, and all that it needs?" in report.evidence
    assert report.steps == ()


def test_an_image_that_nobody_named_fails_before_anything_ran(bench: Bench) -> None:
    steps = (shell("first", "touch ran"), shell("second", "true", image=f"other@sha256:{'0' * 64}"))
    report = bench.run_one(bench.order(*steps, inputs=(bench.put("a.txt", b"x", type="text"),)))
    assert (report.fate, report.failed_step, report.steps) == (Fate.STEP_NOT_STARTED, "second", ())
    assert "is not on this host: no folder is named for it; unpack it, and name the folder under" in report.evidence
    assert not any(entry.entry == "staged" for entry in bench.entries())


def test_a_host_without_a_runtime(bench: Bench, run: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    report = run("true")
    assert report.fate is Fate.STEP_NOT_STARTED
    assert "the program 'bwrap' is not installed on this host, or not on its PATH; install it, or" in report.evidence
    bench.containers = Containers()
    report = bench.run_one(bench.order(*report.order.steps, number=2))
    assert "this host has no runtime for images: its site names none" in report.evidence


@pytest.mark.req("F51")
def test_the_runtime_none_runs_the_command_as_it_is_and_the_record_says_so(
    bench: Bench, image: tuple[str, Path]
) -> None:
    bench.containers = Containers(runtime="none")
    report = bench.run_one(bench.order(python("s", "print('here')", image=image[0])))
    assert report.fate is Fate.PUBLISHED
    stack = stacks(bench.entries())[report.steps[0].software]
    assert stack.container == {"image": f"{image[0]} (not used)", "container runtime": "none"}
    assert stack.distributions["astropy"]
    assert report.steps[0].argv[0] == sys.executable


@pytest.mark.req("F39")
def test_local_code_takes_the_place_of_the_images(bench: Bench, run: Any, tmp_path: Path) -> None:
    assert ending(run("cat /opt/code/version")) == (0, None)
    assert log_of(bench) == "as in the image\n"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/version").write_text("mine\n")
    shutil.rmtree(bench.root / "stores/backbone/logs")
    bench.containers = bench.containers.model_copy(update={"bind": {"/opt/code": tmp_path / "mine"}})
    step = shell("s", "cat /opt/code/version; echo x > /opt/code/version", image=next(iter(bench.containers.images)))
    report = bench.run_one(bench.order(step, number=2))
    assert log_of(bench).startswith("mine\n")
    assert (tmp_path / "mine/version").read_text() == "mine\n"
    stack = stacks(bench.entries())[report.steps[0].software]
    assert stack.container["in the image at /opt/code"] == str(tmp_path / "mine")


def test_what_is_shown_of_the_host_may_hold_the_scratch(bench: Bench, run: Any) -> None:
    bench.containers = bench.containers.model_copy(update={"bind": {str(bench.root): bench.root}})
    report = run(
        f"ls {str(bench.root)!r} > out.txt; ! echo x > {str(bench.root / 'x')!r}", output("product", "out.txt")
    )
    assert report.fate is Fate.PUBLISHED, report.evidence
    assert "stores" in (bench.root / "stores/backbone/products/out.txt").read_text()
    assert not (bench.root / "x").exists()


# ---------------------------------------------------------------------------------- identity


@pytest.fixture
def copy(image: tuple[str, Path], tmp_path: Path) -> Path:
    """Give a copy of the image that a test may change."""
    shutil.copytree(image[1], tmp_path / "copy", symlinks=True)
    return tmp_path / "copy"


def test_an_image_is_what_its_digest_says_or_is_not_used(bench: Bench, image: tuple[str, Path], copy: Path) -> None:
    bench.containers = Containers(runtime="bubblewrap", images={image[0].partition("@")[2]: copy})
    order = bench.order(shell("s", "true", image=image[0]))
    assert bench.run_one(order).fate is Fate.PUBLISHED
    release = copy / "etc/os-release"
    before = release.stat()
    release.write_text("NAME=tinz\n")
    os.utime(release, ns=(before.st_atime_ns, before.st_mtime_ns))
    report = bench.run_one(bench.order(*order.steps, number=2))
    assert report.fate is Fate.STEP_NOT_STARTED
    assert f"the folder {copy} is not what its digest says: it has {digest_of_folder(copy)}" in report.evidence
    release.write_text("NAME=tiny\n")
    assert bench.run_one(bench.order(*order.steps, number=3)).fate is Fate.PUBLISHED


@pytest.mark.req("F51")
def test_an_image_of_a_registry_is_unpacked_for_a_host_that_has_no_store_of_images(
    bench: Bench, image: tuple[str, Path]
) -> None:
    name, here = f"registry.example.org/tiny@sha256:{'a' * 64}", image[0].partition("@")[2]
    bench.containers = Containers(runtime="bubblewrap", images={name: ImageCopy(path=image[1], digest=here)})
    report = bench.run_one(bench.order(shell("s", "true", image=name)))
    container = stacks(bench.entries())[report.steps[0].software].container
    assert (container["image"], container["image as it lies here"]) == (name, here)


@pytest.mark.parametrize("change", ["mode", "link", "name", "empty folder", "moved bytes"])
def test_everything_of_an_image_counts(copy: Path, change: str) -> None:
    before = digest_of_folder(copy)
    match change:
        case "mode":
            (copy / "bin/sh").chmod(0o700)
        case "link":
            (copy / "up").unlink()
            (copy / "up").symlink_to("../../etc")
        case "name":
            (copy / "etc/os-release").rename(copy / "etc/os\nrelease")
        case "empty folder":
            (copy / "srv").mkdir()
        case _:
            (copy / "opt/code/version").rename(copy / "opt/version")
    assert digest_of_folder(copy) != before


def test_the_digest_is_printed_by_a_command(image: tuple[str, Path], copy: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "nightmill.execution.launch.containers.rootfs", copy],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == f"{image[0].partition('@')[2]}\n"


def test_an_image_is_read_once(image: tuple[str, Path], copy: Path, tmp_path: Path) -> None:
    settings = Containers(runtime="bubblewrap", images={image[0]: copy})
    OpenedContainers(settings, tmp_path / "cache").find(image[0])
    (copy / "bin/sh").chmod(0o755)  # its times change, nothing else
    OpenedContainers(settings, tmp_path / "cache").find(image[0])
    [note] = (tmp_path / "cache/images").iterdir()
    assert note.stat().st_size == 64
    assert [path.name for path in (tmp_path / "cache/images").iterdir()] == [note.name]


def test_huge_commands(run: Any, bench: Bench, image: tuple[str, Path]) -> None:
    step = OrderStep(name="s", argv=("sh", "-c", "echo $#", *(["x" * 100] * 8_000)), image=image[0])
    report = bench.run_one(bench.order(step))
    assert ending(report) == (0, None)
    for number, argv in enumerate((("sh", "y" * 200_000), ("sh", *(["x"] * 9_000))), start=2):
        report = bench.run_one(bench.order(OrderStep(name="s", argv=argv, image=image[0]), number=number))
        assert report.fate is Fate.STEP_NOT_STARTED
        assert "Argument list too long; its files are too many for one command line" in report.evidence


def test_journals_say_the_same_to_others(bench: Bench, run: Any) -> None:
    run("true")
    [journal] = journals(bench.spool)
    assert [entry.entry for entry in read_journal(journal).entries][:3] == ["started", "staged", "software"]
