"""Confined steps in images: what they reach, what is on record of it, and hosts that cannot confine them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nightmill.execution.confine import landlock
from nightmill.execution.launch.containers.rootfs import digest_of_folder
from nightmill.model.confinement import NodeConfinement, Use
from nightmill.model.container import Containers
from nightmill.model.fate import Fate
from nightmill.model.journal import StepObserved
from nightmill.model.observed import Confined, Level
from nightmill.model.order import OrderStep
from nightmill.model.report import JobReport
from tests.support.image import make_image, needs_bubblewrap
from tests.support.orders import Bench, output, shell
from tests.support.users import SPAWNER, ordinary_user

SOCKETS = """\
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
int main(int count, char **texts) {
    int socket_ = socket(atoi(texts[1]), atoi(texts[2]), atoi(texts[3]));
    printf("%d\\n", socket_ < 0 ? errno : 0);
    return count != 4;
}
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Give an image with a program that makes a socket: its name, and the folder where it is unpacked."""
    needs_bubblewrap()
    if not landlock.abi() or shutil.which("cc") is None:
        pytest.skip("the kernel has no Landlock, or the host no C compiler")
    folder = tmp_path_factory.mktemp("images") / "tiny"
    make_image(folder)
    (folder / "socket.c").write_text(SOCKETS)
    subprocess.run(["cc", "-o", folder / "bin/socket", folder / "socket.c"], check=True)
    return f"survey/tiny@{digest_of_folder(folder)}", folder


@pytest.fixture
def bench(tmp_path: Path, image: tuple[str, Path]) -> Bench:
    name, folder = image
    made = Bench(tmp_path / "a site, ünïcode", confinement=NodeConfinement())
    made.containers = Containers(runtime="bubblewrap", images={name: folder})
    return made


@pytest.fixture
def run(bench: Bench, image: tuple[str, Path]) -> Any:
    """Give a function that runs a script in the image, with one input that is its own and one that is not."""

    def run_it(script: str, *outputs: Any, **changes: Any) -> JobReport:
        own, other = (bench.put(name, f"{name}\n".encode(), type="text") for name in ("own.txt", "other.txt"))
        changes = {"image": image[0], "wall_seconds": 60.0, "inputs": ("own.txt",), **changes}
        return bench.run_one(bench.order(shell("s", script, *outputs, **changes), inputs=(own, other)))

    return run_it


def log_of(bench: Bench) -> str:
    [log] = (bench.root / "stores/backbone/logs").iterdir()
    return log.read_text().partition("\n")[2]


def confined(bench: Bench) -> Confined:
    [entry] = [entry for entry in bench.entries() if isinstance(entry, StepObserved)]
    return entry.observed.confined


def test_a_step_has_what_it_was_given(bench: Bench, run: Any) -> None:
    script = (
        "cat ../inputs/own.txt > out.txt && mkdir d && mv out.txt d && mv d/out.txt . && rm -r d"
        ' && echo t > "$TMPDIR/t" && cat "$TMPDIR/t" /opt/code/version && echo x > /dev/null && ls / > /dev/null'
        " && cat /proc/self/status"
    )
    report = run(script, output("product", "out.txt"))
    assert report.fate is Fate.PUBLISHED, report.evidence
    said = log_of(bench)
    assert said.startswith("t\nas in the image\n")
    assert "Seccomp:\t2" in said
    assert "NoNewPrivs:\t1" in said
    assert confined(bench) == Confined(
        level=Level.STANDARD,
        by=("bubblewrap", f"landlock {landlock.abi()}", "seccomp"),
        lacking=tuple(landlock.lacking(landlock.abi())),
    )
    assert bench.leftovers() == []


ATTACKS = {
    "an input of another step": ("cat ../inputs/other.txt", "ermission denied"),
    "by another path to it": ('cat "$PWD/../work/../inputs/other.txt"', "ermission denied"),
    "by the folders of its own process": ("cat /proc/self/cwd/../inputs/other.txt", "ermission denied"),
    "by the root of its own process": ('cat "/proc/self/root$PWD/../inputs/other.txt"', "ermission denied"),
    "by those of the first process": ('cat "/proc/1/root$PWD/../inputs/other.txt"', "ermission denied"),
    "the order": ("cat ../order.json", "ermission denied"),
    "the log": ("cat ../log", "ermission denied"),
    "a file in its scratch": ("echo x > ../new", "cannot create ../new: Permission denied"),
    "what an earlier step left": ("echo x > ../left/new", "cannot create"),
    "an input that it changes": ("chmod 666 ../inputs/own.txt", "ead-only file system"),
    "an input that it replaces": ("mv -f /opt/code/version ../inputs/own.txt", "ead-only file system"),
    "another scratch": ('ls "$PWD/../.."; cat "$PWD/../../other/file"', "No such file"),
    "the image": ("echo x > /opt/code/version", "ead-only file system"),
    "what confines it": ("echo x > /.nightmill-shim || chmod 777 /.nightmill-shim", "ead-only file system"),
    "UDP": ("socket 2 2 0", "13\n"),
    "TCP": ("socket 2 1 0", "13\n"),
    "MPTCP": ("socket 2 1 262", "13\n"),
    "a UNIX socket": ("socket 1 1 0", "13\n"),
    "raw packets": ("socket 17 3 0", "13\n"),
}


@pytest.mark.parametrize(("script", "told"), ATTACKS.values(), ids=list(ATTACKS))
def test_it_reaches_nothing_else(bench: Bench, run: Any, script: str, told: str) -> None:
    (bench.scratch / "other").mkdir(parents=True)
    (bench.scratch / "other/file").write_text("of another job\n")
    (bench.scratch / "other/file").chmod(0o644)
    report = run(f"{script} 2>&1; exit 0")
    assert report.fate is Fate.PUBLISHED, report.evidence
    said = log_of(bench)
    assert told in said
    assert "other.txt\n" not in said.replace("inputs/other.txt", "")
    assert "of another job" not in said
    assert "schema" not in said


def test_the_sidecar_and_what_steps_before_made(bench: Bench, image: tuple[str, Path]) -> None:
    made: Any = {"image": image[0], "outputs": (output("one", "one.txt", store=""), output("two", "two.txt", store=""))}
    steps = [
        OrderStep(name="a", argv=("sh", "-c", "echo 1 > one.txt; echo 2 > two.txt; echo x > x"), **made),
        shell(
            "b",
            "cat ../outputs/one.txt; cat ../outputs/two.txt; cat ../left/a/x; exit 0",
            inputs=("one.txt",),
            image=image[0],
        ),
        shell("c", 'echo "{}" > "$NIGHTMILL_SIDECAR"; cat ../sidecar.jsonl; ls ../outputs', image=image[0]),
    ]
    report = bench.run_one(bench.order(*steps))
    said = log_of(bench)
    assert "1\ncat: ../outputs/two.txt: Permission denied\ncat: ../left/a/x: Permission denied\n" in said
    assert "{}\none.txt\ntwo.txt\n" in said, report.evidence


@pytest.mark.parametrize("network", ["on", (9,)])
def test_the_network_of_a_step(bench: Bench, run: Any, network: Any) -> None:
    report = run("socket 2 1 0; socket 2 2 0; cat /proc/net/dev", network=network)
    assert report.fate is Fate.PUBLISHED, report.evidence
    tcp, udp, rest = log_of(bench).split("\n", 2)
    assert (tcp, udp) == ("0", "0" if network == "on" else "13")
    assert rest == Path("/proc/net/dev").read_text() or len(rest.splitlines()) > 3


def test_limits(bench: Bench, run: Any) -> None:
    bench.confinement = NodeConfinement(open_files=77, processes=999)
    run("ulimit -n; ulimit -c; cat /proc/self/limits")
    said = log_of(bench)
    assert said.startswith("77\n0\n")
    assert "Max processes             999" in said


def test_a_program_that_the_image_lacks(bench: Bench, image: tuple[str, Path]) -> None:
    report = bench.run_one(bench.order(OrderStep(name="s", argv=("gcc", "-v"), image=image[0])))
    assert report.fate is Fate.STEP_NOT_STARTED
    assert f"step 's' cannot be started in image {image[0]}: execvp gcc: No such file" in report.evidence
    assert "has the image the program, on its PATH, and all that it needs?" in report.evidence
    report = bench.run_one(bench.order(OrderStep(name="s", argv=("/etc/os-release",), image=image[0]), number=2))
    assert "execvp /etc/os-release: Permission denied" in report.evidence
    report = bench.run_one(bench.order(shell("s", "exit 127", image=image[0]), number=3))
    assert (report.fate, report.steps[0].exit_code) == (Fate.STEP_FAILED, 127)


@pytest.mark.parametrize(
    ("script", "ended"), [("exit 3", 3), ("sleep 0.2; exit 137", 137), ("sleep 0.1; exit 126", 126)]
)
def test_codes_are_true(run: Any, script: str, ended: int) -> None:
    assert run(script).steps[0].exit_code == ended


@pytest.mark.parametrize("script", ["kill -SEGV $$", "sleep 0.1; kill -SEGV $$"])
def test_signals_are_true(run: Any, script: str) -> None:
    assert run(script).steps[0].signal == 11


def test_a_host_without_a_compiler_says_what_is_not_held(
    bench: Bench, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = shutil.which("bwrap")
    assert found is not None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/bwrap").symlink_to(found)
    (tmp_path / "bin/true").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert run("cat ../inputs/own.txt").fate is Fate.PUBLISHED
    assert confined(bench) == Confined(
        level=Level.STANDARD,
        by=("bubblewrap",),
        lacking=(
            "a step in an image can read all inputs of its job, and make any system call",
            "what confines a step in an image cannot be made: no C compiler (cc) is on the PATH of this host",
        ),
    )
    bench.confinement = NodeConfinement(use=Use.DEMAND)
    report = bench.run_one(bench.order(shell("s", "true", image=next(iter(bench.containers.images))), number=2))
    assert report.fate is Fate.STEP_NOT_STARTED
    assert "this host cannot confine steps as its site demands: a step in an image can read" in report.evidence


def test_a_site_that_confines_no_step(bench: Bench, run: Any) -> None:
    bench.confinement = NodeConfinement(use=Use.OFF)
    assert run("cat ../inputs/other.txt").fate is Fate.PUBLISHED
    assert confined(bench).by == ("bubblewrap",)
    assert "can read all inputs" in confined(bench).lacking[0]


@pytest.mark.usefixtures("image")
def test_a_step_of_an_ordinary_user() -> None:
    with ordinary_user(reads=SPAWNER) as folder:
        name = make_image(folder / "image")
        bench = Bench(folder / "site", confinement=NodeConfinement())
        bench.containers = Containers(runtime="bubblewrap", images={name: folder / "image"})
        files = [bench.put(name, b"x\n", type="text") for name in ("own.txt", "other.txt")]
        script = "cat ../inputs/own.txt > out.txt; id; ! cat ../inputs/other.txt"
        step = shell("s", script, output("product", "out.txt"), inputs=("own.txt",), image=name)
        report = bench.run_one(bench.order(step, inputs=tuple(files)))
        assert report.fate is Fate.PUBLISHED, report.evidence
        assert "ermission denied" in log_of(bench)
        assert (bench.root / "stores/backbone/products/out.txt").stat().st_uid == os.geteuid() != 0


@pytest.mark.req("B04")
def test_a_step_that_wants_a_file_of_the_archive_fails_by_that(tmp_path: Path, image: tuple[str, Path]) -> None:
    name, folder = image
    bench = Bench(tmp_path, confinement=NodeConfinement())
    bench.containers = Containers(runtime="bubblewrap", images={name: folder})
    frame = bench.put("a.fits", b"input", type="text")
    stored = bench.root / "stores/backbone/raw/a.fits"
    step = shell("s", f"cat /software/that/lacks; cat {stored}", image=name)
    report = bench.run_one(bench.order(step, inputs=(frame,)))
    assert report.fate is Fate.UNSTAGED_INPUT, report.evidence
    told = (
        f"step 's' wanted {stored}: frame (text) a.fits, of which it has a copy among its inputs where it declares it"
    )
    assert report.evidence.startswith(told)
    lacks = bench.order(shell("s", "cat /software/that/lacks", image=name), number=2)
    assert bench.run_one(lacks).fate is Fate.STEP_FAILED
