"""A program that looks at an output is as little trusted as the step that made it."""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
import time
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from nightmill.errors import PluginFault
from nightmill.execution.bundles import BundleCache
from nightmill.execution.confine.confiner import Confiner
from nightmill.execution.context import JobContext
from nightmill.execution.jobs import run_jobs
from nightmill.execution.journal import JournalWriter
from nightmill.execution.looking import LookingPrograms
from nightmill.execution.scratch import Scratch
from nightmill.model.confinement import NodeConfinement, Use
from nightmill.model.content import ProgramRun
from nightmill.model.fate import Fate
from nightmill.model.file_type import FileType
from nightmill.model.journal import StepEnded
from nightmill.model.observed import Confined, Level
from nightmill.model.order import JobOrder, OrderStep
from tests.execution.failing import must_fail
from tests.support.orders import Bench, output, python, shell
from tests.support.users import SPAWNER, ordinary_user

TRIES = """
import errno, os, socket, sys
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EXDEV)
SCRATCH = os.path.dirname(os.path.dirname(INPUT))
amiss = []
def connect():
    with socket.socket() as one:
        one.connect(('127.0.0.1', PORT))
for name, act in WAYS.items():
    try:
        act()
    except OSError as error:
        amiss += [] if error.errno in DENIED else [f'{name}: {error}']
    else:
        amiss.append(name)
open(INPUT).read(), open(LINK).read(), open('own', 'w').write('x')
sys.exit(f'{len(WAYS)} ways, and of these are open: {amiss}')
"""
CHANGES = {
    "other bytes": "open(FILE, 'r+')",
    "by its link": "open(LINK, 'a')",
    "shorter": "os.truncate(FILE, 0)",
    "away": "os.unlink(FILE)",
    "its mode": "os.chmod(FILE, 0o777)",
    "its times": "os.utime(FILE, (0, 0))",
    "its name": "os.rename(FILE, FILE + '2')",
    "a name more": "os.link(FILE, 'mine')",
    "a file beside it": "open(FILE + '2', 'w')",
    "another link": "os.unlink(LINK)",
    "an input": "open(INPUT, 'r+')",
    "mode of an input": "os.chmod(INPUT, 0o777)",
    "a new input": "open(SCRATCH + '/inputs/new', 'w')",
    "the sidecar": "open(SCRATCH + '/sidecar.jsonl', 'a')",
    "the temporary folder of the step": "open(SCRATCH + '/tmp/new', 'w')",
    "the log": "open(SCRATCH + '/log', 'a')",
    "shared memory": "open('/dev/shm/nightmill-was-here', 'w')",
    "a forged journal": "open(ROOT + '/spool/forged.jsonl', 'w')",
    "a stored file": "open(STORE, 'r+')",
    "mode of a stored file": "os.chmod(STORE, 0o777)",
}
READS = {
    "the archive": "open(STORE)",
    "names in the archive": "os.listdir(os.path.dirname(STORE))",
    "the database": "open(ROOT + '/nightmill.db')",
    "what the worker has open": "os.open(f'/proc/{WORKER}/fd/0', os.O_RDONLY)",
    "environment of the worker": "open(f'/proc/{WORKER}/environ')",
    "another input": "open(SCRATCH + '/inputs/other.txt')",
    "the order": "open(SCRATCH + '/order.json')",
    "another service": "connect()",
}
COPY = "cp ../inputs/frame.txt note.txt"
NUMBERS = count(1)
"""Of attempts."""
NOTE = output("note", "note.txt", type="note")


def order(bench: Bench, argv: tuple[str, ...], *, step: OrderStep | None = None, **options: Any) -> JobOrder:
    """Make an order of a step whose output a program looks at."""
    (bench.root / "nightmill.db").write_text("rows")
    inputs = [bench.put(name, b"input", type="text") for name in ("frame.txt", "other.txt")]
    inputs[0] = inputs[0].model_copy(update={"role": "seen"})
    step = step or shell("make", COPY, NOTE, inputs=("frame.txt",))
    made = bench.order(step, inputs=tuple(inputs), number=next(NUMBERS))
    checks = {"command": {"argv": list(argv), **options}}
    note = FileType.model_validate({"name": "note", "format": "any", "checks": checks})
    return made.model_copy(update={"file_types": {**made.file_types, "note": note}})


def program(code: str, *arguments: str) -> tuple[str, ...]:
    """Return the command line of a program of Python, in which no brace is a place."""
    return ("{python}", "-c", code.replace("{", "{{").replace("}", "}}"), *arguments)


def trying(bench: Bench, ways: dict[str, str], port: int = 1) -> tuple[str, ...]:
    """Return the command line of a program that tries what it may not, and says what of it it could."""
    store = bench.root / "stores/backbone/raw/frame.txt"
    code = (
        f"ROOT, STORE, WORKER, PORT = {str(bench.root)!r}, {str(store)!r}, {os.getpid()}, {port}\n"
        f"import os, sys; LINK, INPUT = sys.argv[1:]; FILE = os.path.realpath(LINK)\n"
        f"WAYS = {{{','.join(f'{name!r}: lambda: {act}' for name, act in ways.items())}}}\n{TRIES}"
    )
    return program(code, "{file}", "{inputs.seen}")


def must_deny(bench: Bench, ways: dict[str, str]) -> None:
    """Have a program that looks at an output try what it may not."""
    bench.confinement = NodeConfinement()
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        made = order(bench, trying(bench, ways, server.getsockname()[1]))
        told = f"said {len(ways)} ways, and of these are open: []; look at the file"
        must_fail(bench, made, Fate.BAD_OUTPUT, told)
    assert bench.leftovers() == []


@pytest.mark.req("B41")
@pytest.mark.parametrize("ways", [READS, CHANGES], ids=["read", "change"])
def test_what_it_was_not_given_is_denied(bench: Bench, ways: dict[str, str]) -> None:
    must_deny(bench, ways)


@pytest.mark.parametrize("ways", [READS, CHANGES], ids=["read", "change"])
def test_it_is_denied_to_an_ordinary_user(monkeypatch: pytest.MonkeyPatch, ways: dict[str, str]) -> None:
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")  # which any user may run
    with ordinary_user(reads=SPAWNER) as folder:
        must_deny(Bench(folder), ways)


def test_where_nothing_is_confined_it_reaches_what_the_worker_reaches_and_what_it_changes_is_seen(bench: Bench) -> None:
    report = must_fail(bench, order(bench, trying(bench, READS)), Fate.BAD_OUTPUT, "said 8 ways, and of these are open")
    assert "['the archive', 'names in the archive', 'the database'" in report.evidence
    changing = order(bench, ("sh", "-c", 'chmod 644 "$1"; echo more >> "$1"', "sh", "{file}"))
    must_fail(bench, changing, Fate.BAD_OUTPUT, "was changed by the program sh that looks at it")


@pytest.mark.parametrize("use", [Use.OFF, Use.TRY])
def test_it_finds_what_it_looks_at_by_its_name_in_an_empty_folder(
    bench: Bench, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hush")
    bench.confinement = NodeConfinement(use=use)
    script = (
        'test -z "$(ls -A)$SECRET" && test "$PWD" = "$HOME" && test "$TMPDIR" = "$HOME" && cmp "$1" "$2" && echo x > y'
        ' && test "$(basename "$1") $LEVEL" = "note.txt 3"'
    )
    made = order(bench, ("sh", "-xc", script, "sh", "{file}", "{inputs.seen}"), environment={"LEVEL": "3"})
    report = bench.run_one(made)
    assert report.fate is Fate.PUBLISHED, report.evidence
    assert bench.leftovers() == []


def test_a_service_that_the_step_declares_is_open_to_it_too(bench: Bench) -> None:
    bench.confinement = NodeConfinement()
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        step = shell("make", COPY, NOTE, inputs=("frame.txt",), network=(port,))
        made = order(bench, trying(bench, {"a service": "connect()"}, port), step=step)
        must_fail(bench, made, Fate.BAD_OUTPUT, "said 1 ways, and of these are open: ['a service']")


DAEMON = (
    "import os, sys, time\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    if os.fork() == 0:\n"
    "        os.closerange(0, 3); os.environ.clear(); os.chdir('/')\n"
    "        os.execve('/bin/sleep', ['sleep', MARK], {})\n"
    "    os._exit(0)\n"
    "time.sleep(0.3); sys.exit('left it running')"
)


def running(mark: str) -> list[str]:
    """Return the processes with a mark in their command line."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [str(each)] if f"sleep\0{mark}\0".encode() in each.read_bytes() else []
        except OSError:
            continue
    return found


def test_what_it_leaves_running_is_ended(bench: Bench) -> None:
    bench.confinement = NodeConfinement()
    mark = f"600.{os.getpid()}"
    made = order(bench, program(DAEMON.replace("MARK", repr(mark))))
    must_fail(bench, made, Fate.BAD_OUTPUT, "said left it running")
    assert running(mark) == []


@pytest.mark.parametrize("use", [Use.OFF, Use.TRY])
def test_one_that_says_much_is_cut_and_one_that_does_not_end_is_ended(bench: Bench, use: Use) -> None:
    bench.confinement = NodeConfinement(use=use)
    talks = order(bench, ("sh", "-c", "yes | head -c 30000000; echo at last; exit 3"))
    must_fail(bench, talks, Fate.BAD_OUTPUT, "sh exited with 3 and said y; y; at last")
    begun, mark = time.monotonic(), f"601.{os.getpid()}"
    endless = order(bench, ("sh", "-c", f"trap '' TERM; sleep {mark} & yes"), timeout_seconds=0.5)
    must_fail(bench, endless, Fate.BAD_OUTPUT, "the program sh that looks at note.txt had not ended after 0.5 s")
    assert time.monotonic() - begun < 60
    assert running(mark) == []


def test_it_ends_with_its_slice_and_the_file_is_not_blamed(bench: Bench) -> None:
    context: JobContext
    confiner, timers = Confiner(NodeConfinement()), []

    def stop_soon(entry: object) -> None:
        if isinstance(entry, StepEnded):
            timers.append(threading.Timer(1, lambda: setattr(context, "stopping", "its flow run was told to end")))
            timers[0].start()

    made = order(bench, ("sleep", "600"), timeout_seconds=500)
    with JournalWriter(bench.spool, listener=stop_soon) as journal, closing(confiner):
        cache = BundleCache(bench.root / "cache")
        context = JobContext(bench.stagers, bench.scratch, journal, cache, confiner=confiner)
        [report] = run_jobs([made], context)
    assert report.fate is Fate.CANCELLED
    assert report.evidence == ("what step 'make' made was not looked at to the end: its flow run was told to end")
    assert [file.role for file in report.published] == ["log"]


def test_a_host_that_cannot_confine_it_as_is_demanded_lets_no_file_pass(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step in an image is confined by that; what looks at its files runs on the host."""
    lacking = Confined(level=Level.STANDARD, by=("seccomp",), lacking=("this kernel has no Landlock",))
    monkeypatch.setattr("nightmill.execution.confine.spawner.Spawners.confined", lambda _self: lacking)
    made, confiner = order(bench, ("true",)), Confiner(NodeConfinement(use=Use.DEMAND))
    scratch = Scratch(bench.scratch, made)
    programs = LookingPrograms(made, made.steps[0], scratch, confiner, lambda: "")
    with pytest.raises(PluginFault, match=re.escape("this host cannot confine steps as its site demands")) as caught:
        programs.run(ProgramRun(("true",), scratch.work, {}, str(scratch.work / "note.txt"), 5.0))
    assert str(caught.value).startswith("the program true that looks at note.txt is not run: ")
    scratch.end()
    confiner.close()


def test_a_program_that_is_not_there_or_lies_in_the_archive_is_told(bench: Bench) -> None:
    bench.confinement = NodeConfinement()
    made = order(bench, ("no-such-program",))
    must_fail(bench, made, Fate.BAD_OUTPUT, "no-such-program that is to look at note.txt cannot be started: No such")
    own = bench.put("check.sh", b"#!/bin/sh\n", type="text")
    path = bench.root / "stores/backbone" / own.path
    path.chmod(0o755)
    must_fail(bench, order(bench, (str(path),)), Fate.BAD_OUTPUT, "cannot be started: Permission denied")


def test_what_another_step_made_is_closed_where_the_step_does_not_declare_it(bench: Bench) -> None:
    """What a program may read is that of the step whose file it looks at, also of what steps before it made."""
    bench.confinement = NodeConfinement()
    one = python("one", "open('first.txt', 'w').write('1')", output("first", "first.txt"))
    two = shell("two", COPY, NOTE, inputs=("frame.txt",))
    ways = {"what another step made": "open(SCRATCH + '/outputs/first.txt')"}
    made = order(bench, trying(bench, ways))
    must_fail(bench, made.model_copy(update={"steps": (one, two)}), Fate.BAD_OUTPUT, "of these are open: []")
