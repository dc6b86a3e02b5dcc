"""At the audit level, what a step reaches for is known by name, and fails it whatever its exit code says."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nightmill.execution.audit import strace
from nightmill.model.confinement import Use
from nightmill.model.fate import Fate
from nightmill.model.journal import SoftwareSeen, Staged, StepBegan
from nightmill.model.observed import DifferenceKind, Level, Policy
from nightmill.model.order import OrderStep
from stagers.local import LocalStager
from tests.execution.test_confined_files import CHANGES, READS, _places
from tests.support.audited import audited, observed
from tests.support.confined import TRIES
from tests.support.image import make_image, needs_bubblewrap
from tests.support.orders import Bench, output, python, shell
from tests.support.users import SPAWNER, ordinary_user

MADE = output("made", "made.txt")
IN_VAIN = (
    "its modules",
    "the system",
    "the kernel",
    "log, by its descriptor",
    "log, by what it was given",
    "an output of a step before",
)
"""Nothing was read by these, and nothing changed: programs ask to write where they read, and go on."""


def _is_named(name: str) -> bool:
    return name not in IN_VAIN and ("input" not in name or name in ("a new input", "input of another step"))


class Counting(LocalStager):
    """A store that tells what was fetched from it."""

    fetched: list[str] = []  # noqa: RUF012 - of the class, for the test to read

    def fetch(self, path: str, target: Path) -> int:
        self.fetched.append(path)
        return super().fetch(path, target)


@pytest.mark.req("B04", "B05", "B41")
@pytest.mark.parametrize("use", [Use.TRY, Use.OFF])
def test_a_read_of_what_was_not_staged_fails_a_step_that_exits_0_and_nothing_is_fetched(bench: Bench, use: Use) -> None:
    frame, other = (bench.put(name, b"input", type="text") for name in ("frame.txt", "other.txt"))
    other = other.model_copy(update={"data_id": {"exposure": 13}})
    archived = bench.root / "stores/backbone/raw/unstaged.txt"
    archived.write_text("it is there")
    code = (
        "import os\nfor name in (ARCHIVED, '../inputs/unstaged.txt', '../inputs/other.txt'):\n    try:\n"
        "        open(name).read()\n    except OSError:\n        pass\nopen('made.txt', 'w').write('made')\n"
    )
    step = python("measure", code.replace("ARCHIVED", repr(str(archived))), MADE, inputs=("frame.txt",))
    Counting.fetched = []
    stagers = {name: Counting(store) for name, store in bench.stores.items()}
    report = audited(bench, step, inputs=(frame, other), use=use, stagers=stagers)
    assert report.fate is Fate.UNSTAGED_INPUT
    assert report.steps[0].exit_code == 0
    scratch = f"{bench.scratch}/science-exposure=12-detector=3-a01-"
    assert observed(report).reached[0] == str(archived)
    assert [path.partition("/inputs/")[2] for path in observed(report).reached[1:]] == ["other.txt", "unstaged.txt"]
    assert report.evidence.startswith(f"step 'measure' reached for what it was not given: {archived}, {scratch}")
    assert "/inputs/other.txt (input other.txt of exposure=13, which the step does not declare)" in report.evidence
    assert "; declare it as an input of the step, or, where it is software of the hosts, name" in report.evidence
    assert sorted(Counting.fetched) == ["raw/frame.txt", "raw/other.txt"], "what was staged, and no more"
    assert bench.stored() == [report.order.log_name]
    assert bench.leftovers() == []


@pytest.mark.req("B41")
@pytest.mark.parametrize("name", [*READS, *CHANGES])
def test_every_way_out_is_named(bench: Bench, name: str) -> None:
    act = {**READS, **CHANGES}[name]
    places = _places(bench)
    frame, other = (bench.put(each, b"input", type="text") for each in ("frame.txt", "other.txt"))
    report = audited(bench, python("try", TRIES + places + act, inputs=("frame.txt",)), inputs=(frame, other))
    assert (report.fate is Fate.UNSTAGED_INPUT) is _is_named(name)
    assert bool(observed(report).reached) is (report.fate is Fate.UNSTAGED_INPUT)


def test_a_step_may_look_for_files_beside_its_inputs_where_its_pipeline_says_so(bench: Bench) -> None:
    frame = bench.put("frame.txt", b"input", type="text")
    archived = bench.root / "stores/backbone/raw/unstaged.txt"
    archived.write_text("it is there")
    for number, (policy, path, fate) in enumerate(
        [
            (Policy.NOTE, "../inputs/frame.head", Fate.PUBLISHED),
            (Policy.FAIL, "../inputs/frame.head", Fate.UNSTAGED_INPUT),
            (Policy.NOTE, archived, Fate.UNSTAGED_INPUT),
        ],
        1,
    ):
        script = f"cat ../inputs/frame.txt {path} > made{number}.txt; exit 0"
        said = {DifferenceKind.NOT_PLANNED: policy}
        step = shell("look", script, output("m", f"made{number}.txt"), inputs=("frame.txt",), differences=said)
        report = audited(bench, step, inputs=(frame,), number=number)
        assert report.fate is fate
        [found] = observed(report).reached
        assert found.endswith(("/inputs/frame.head", "/raw/unstaged.txt"))


def test_what_it_was_given_is_opened_and_nothing_else_is_reached(bench: Bench) -> None:
    odd = bench.put("odd+name.txt", b"b", type="text")
    frame, unread = (bench.put(name, b"input", type="text") for name in ("frame.txt", "unread.txt"))
    first = shell(
        "first",
        "cat ../inputs/frame.txt > first.txt; echo x > $TMPDIR/x; mv $TMPDIR/x .; ls / > /dev/null; exit 0",
        output("first", "first.txt"),
        inputs=("frame.txt", "odd+name.txt", "unread.txt"),
    )
    code = (
        "import os, numpy, astropy.io.fits, subprocess, tempfile\n"
        "for name in (b'new\\nline', b'quote\"', b'\\xff\\xfe', b'a) = 3<b>'):\n    open(name, 'w').close()\n"
        "    open(name).close(); os.rename(name, name + b'~')\nopen('../outputs/first.txt').read()\n"
        "subprocess.run(['true'])\nopen('made.txt', 'w').write('made')\n"
    )
    second = python("second", code, MADE, inputs=("first.txt",))
    report = audited(bench, first, second, inputs=(odd, frame, unread))
    assert report.evidence == "" or "reached" not in report.evidence, report.evidence
    assert report.fate is Fate.PUBLISHED
    assert (observed(report).witness, observed(report).opened) == ("strace", ("frame.txt",))
    assert observed(report, 1).opened == ("first.txt",)
    assert observed(report, 1).confined.level is Level.AUDIT
    assert observed(report, 1).confined.by[-1] == strace.version()
    assert observed(report, 1).confined.lacking == ()
    stacks = {entry.sha256: entry.stack for entry in bench.entries() if isinstance(entry, SoftwareSeen) and entry.stack}
    loaded = stacks[observed(report, 1).software].libraries
    assert {path.rpartition("/")[2].partition(".")[0] for path in loaded} > {"libc", "true", "_multiarray_umath"}
    assert stacks[report.steps[1].software].libraries == {}


@pytest.mark.req("B10")
def test_argv_exit_code_signal_and_costs_are_those_of_the_step(bench: Bench) -> None:
    steps = [
        OrderStep(name="burn", argv=("{python}", "-c", "i = 0\nwhile i < 4_000_000: i += 1")),
        shell("code", "exit 7", on_failure="continue"),
        shell("signal", "kill -SEGV $$", on_failure="continue"),
        OrderStep(name="none", argv=("no-such-program",)),
    ]
    report = audited(bench, *steps)
    began = {entry.step: entry.argv for entry in bench.entries() if isinstance(entry, StepBegan)}
    assert began["code"] == ("sh", "-c", "exit 7")
    assert "none" not in began
    burn, code, killed = report.steps[:3]
    assert (burn.exit_code, code.exit_code, killed.signal) == (0, 7, signal.SIGSEGV)
    assert burn.cost is not None
    assert 0.05 < burn.cost.user_seconds < 5
    assert report.fate is Fate.STEP_NOT_STARTED
    assert "step 'none' cannot be started: 'no-such-program': No such file or directory" in report.evidence


PROGRAM = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
int main(int count, char **arguments) {
    char *path = arguments[1];
    chdir("/");
    if (!vfork()) { execl("/bin/true", "true", (char *) 0); _exit(1); }
    wait(0);
#ifdef SYS_open
    syscall(SYS_open, path + 1, O_RDONLY);
#endif
    unsigned long long clone3[11] = {0};
    clone3[0] = CLONE_UNTRACED; clone3[4] = 17;
    if (!syscall(SYS_clone3, clone3, sizeof clone3)) {
        int file = open(path, O_RDONLY); char byte;
        _exit(file >= 0 && read(file, &byte, 1) == 1 ? 9 : 0);
    }
    int status; wait(&status);
    return WEXITSTATUS(status);
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.parametrize("use", [Use.TRY, Use.OFF])
def test_a_static_program_that_forks_untraced_reads_nothing_unseen(bench: Bench, tmp_path: Path, use: Use) -> None:
    (tmp_path / "program.c").write_text(PROGRAM)
    subprocess.run(["gcc", "-static", "-O1", "-w", "-o", "program", "program.c"], cwd=tmp_path, check=True)
    program = bench.put("program", (tmp_path / "program").read_bytes(), type="text")
    archived = bench.root / "stores/backbone/raw/archived"
    archived.write_text("x")
    script = f"cp ../inputs/program p && chmod +x p && ./p {archived}"
    report = audited(bench, shell("static", script, inputs=("program",)), inputs=(program,), use=use)
    assert report.steps[0].exit_code == 0, "what nobody traces is answered that there is no such call"
    assert report.fate is Fate.UNSTAGED_INPUT
    assert observed(report).reached == (str(archived),)


def test_what_a_child_reads_that_nobody_waits_for_is_seen(bench: Bench) -> None:
    archived = bench.root / "stores/backbone/raw/archived"
    archived.parent.mkdir()
    archived.write_text("x")
    script = f"(exec setsid sh -c 'cat {archived}; sleep 100') > /dev/null 2>&1 & sleep 0.3; echo > made.txt"
    for number, use in enumerate((Use.TRY, Use.OFF), 1):
        report = audited(bench, shell("child", script, MADE), use=use, number=number)
        assert (report.fate, observed(report).reached) == (Fate.UNSTAGED_INPUT, (str(archived),))
        assert bench.leftovers() == []


def test_who_ends_what_audits_it_fails(bench: Bench) -> None:
    code = (
        "import os, time\nstatus = open('/proc/self/status').read()\n"
        "os.kill(int(status.partition('TracerPid:')[2].split()[0]), 9)\ntime.sleep(0.1)\nprint('done')\n"
    )
    report = audited(bench, python("kill", code), use=Use.OFF)
    assert report.fate is Fate.STEP_KILLED
    assert "step 'kill' cannot be judged: what audited it was ended before it" in report.evidence
    again = audited(bench, python("kill", code), number=2)
    assert again.fate is Fate.STEP_FAILED
    assert "PermissionError" in again.evidence


def test_a_network_that_is_off_is_named(bench: Bench) -> None:
    code = "import socket\nfor family in (socket.AF_INET, socket.AF_UNIX):\n    try:\n        socket.socket(family)\n"
    code += "    except PermissionError:\n        print('denied')\n"
    report = audited(bench, python("net", code))
    assert report.fate is Fate.PUBLISHED, "many a library asks whether there is one"
    assert observed(report).reached == ("network AF_INET",)
    log = (bench.root / "stores/backbone/logs" / report.order.log_name).read_text()
    assert log.endswith("\ndenied\ndenied\n")


@pytest.mark.req("B41")
def test_an_ordinary_user_audits_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")  # which any user may run
    with ordinary_user(reads=SPAWNER) as folder:
        bench = Bench(folder)
        script = f"cat {bench.root}/stores/backbone/x; cat /etc/hostname; exit 0"
        report = audited(bench, shell("read", script))
    assert report.fate is Fate.UNSTAGED_INPUT
    assert observed(report).reached == (f"{bench.root}/stores/backbone/x",)


def test_without_strace_nothing_is_begun(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    frame = bench.put("frame.txt", b"input", type="text")
    strace.version.cache_clear()
    order = bench.order(shell("any", "true"), inputs=(frame,)).model_copy(update={"level": "audit"})
    report = bench.run_one(order)
    assert report.fate is Fate.STEP_NOT_STARTED
    assert report.evidence == (
        "step 'any' cannot be started: steps cannot be audited: the program 'strace' is not on this host; install"
        " strace on this host (Debian: strace), or let the campaign have 'execution: {level: standard}'"
    )
    assert not any(isinstance(entry, Staged) for entry in bench.entries())
    broken = tmp_path / "strace"
    why = "attach: ptrace(PTRACE_SEIZE, 1): Operation not permitted"
    broken.write_text(f"#!/bin/sh\necho 'strace: {why}' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    report = bench.run_one(order.model_copy(update={"attempt": order.attempt.model_copy(update={"number": 2})}))
    assert f"strace fails on this host: {why}; see that processes may be traced" in report.evidence
    strace.version.cache_clear()


def test_a_warm_step_is_started_cold(bench: Bench) -> None:
    report = audited(bench, python("warm", "pass", warm=("json",)))
    assert report.fate is Fate.PUBLISHED
    log = (bench.root / "stores/backbone/logs" / report.order.log_name).read_text()
    assert "== warm is started without the modules of warm: it is audited\n" in log


def test_a_step_in_an_image_says_that_it_is_not_audited(bench: Bench, tmp_path: Path) -> None:
    needs_bubblewrap()
    folder = tmp_path / "tiny"
    name = f"survey/tiny@{make_image(folder)}"
    bench.containers = bench.containers.model_copy(update={"runtime": "bubblewrap", "images": {name: folder}})
    report = audited(bench, shell("in", "true", image=name))
    assert report.fate is Fate.PUBLISHED
    assert observed(report).confined.level is not Level.AUDIT
    assert observed(report).confined.lacking[-1].startswith("a step in an image is not audited")
    assert os.environ["PATH"]
