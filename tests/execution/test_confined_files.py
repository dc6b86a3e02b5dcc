"""A step reaches the files that it was given, and no others, by whatever way it tries."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nightmill.errors import RequestRefused
from nightmill.execution.confine import landlock, spawner_process
from nightmill.execution.confine.landlock import READ_DIR, RUN
from nightmill.execution.confine.places import software
from nightmill.execution.probing import try_confinement
from nightmill.model.confinement import NodeConfinement, Use
from nightmill.model.fate import Fate
from nightmill.model.observed import UNCONFINED, Confined, Level
from tests.support.confined import attempt
from tests.support.orders import Bench, output, python, shell
from tests.support.users import SPAWNER, ordinary_user

READS = {
    "archive, by its path": "tried(open, STORE)",
    "archive, by a link in work": "os.symlink(STORE, 'link'); tried(open, 'link')",
    "archive, by a folder's link": "os.symlink(os.path.dirname(STORE), 'folder'); tried(open, 'folder/frame.txt')",
    "archive, by a hard link": "tried(os.link, STORE, 'hard')",
    "archive, by /proc/self/root": "tried(open, '/proc/self/root' + STORE)",
    "archive, by the root of the worker": "tried(open, f'/proc/{WORKER}/root' + STORE)",
    "what the worker has open": "tried(os.open, f'/proc/{WORKER}/fd/0', os.O_RDONLY)",
    "environment of the worker": "tried(open, f'/proc/{WORKER}/environ')",
    "memory of the worker": "tried(open, f'/proc/{WORKER}/mem')",
    "environment of who started it": "tried(open, f'/proc/{os.getppid()}/environ')",
    "what is in the store": "tried(os.listdir, os.path.dirname(STORE))",
    "order": "tried(open, '../order.json')",
    "log": "tried(open, '../log')",
    "spool": "tried(os.listdir, ROOT + '/spool')",
    "secrets": "tried(open, ROOT + '/secrets')",
    "database": "tried(open, ROOT + '/nightmill.db')",
    "another scratch": "tried(open, ROOT + '/scratch/other/inputs/frame.txt')",
    "other scratches": "tried(os.listdir, ROOT + '/scratch')",
    "input of another step": "tried(open, '../inputs/other.txt')",
    "shared memory": "tried(os.listdir, '/dev/shm')",
    "a place of the host": "tried(os.listdir, '/var/tmp')",
}
CHANGES = {
    "mode of a stored file": "tried(os.chmod, STORE, 0o777)",
    "times of a stored file": "tried(os.utime, STORE, (0, 0))",
    "owner of a stored file": "tried(os.chown, STORE, os.getuid(), os.getgid())",
    "attribute of a stored file": "tried(os.setxattr, STORE, 'user.name', b'x')",
    "name of a stored file": "tried(os.rename, STORE, STORE + '.moved')",
    "a stored file, away": "tried(os.unlink, STORE)",
    "a stored file, shorter": "tried(os.truncate, STORE, 0)",
    "a stored file, other bytes": "tried(open, STORE, 'r+')",
    "a new file in the store": "tried(open, STORE + '.new', 'w')",
    "mode of an input": "tried(os.chmod, '../inputs/frame.txt', 0o777)",
    "times of an input": "tried(os.utime, '../inputs/frame.txt', (0, 0))",
    "an input, away": "tried(os.unlink, '../inputs/frame.txt')",
    "name of an input": "tried(os.rename, '../inputs/frame.txt', 'mine')",
    "an input, other bytes": "tried(open, '../inputs/frame.txt', 'r+')",
    "a link to an input": "tried(os.link, '../inputs/frame.txt', 'mine')",
    "a new input": "tried(open, '../inputs/new.txt', 'w')",
    "an output of a step before": "tried(open, '../outputs/new.txt', 'w')",
    "log, shorter": "tried(os.truncate, '../log', 0)",
    "log, by its descriptor": "tried(os.ftruncate, 1, 0)",
    "log, away": "tried(os.unlink, '../log')",
    "log, by what it was given": "tried(os.open, '/proc/self/fd/1', os.O_WRONLY)",
    "order": "tried(open, '../order.json', 'a')",
    "a forged journal": "tried(open, ROOT + '/spool/forged.jsonl', 'w')",
    "another scratch, its mode": "tried(os.chmod, ROOT + '/scratch/other', 0o777)",
    "another scratch, a file": "tried(open, ROOT + '/scratch/other/work/new', 'w')",
    "beside its folders": "tried(open, '../new', 'w')",
    "a place of everybody": "tried(open, '/tmp/nightmill-was-here', 'w')",
    "its modules": "tried(open, os.__file__, 'a')",
    "the system": "tried(open, '/etc/nightmill-was-here', 'w')",
    "the kernel": "tried(open, '/proc/sys/kernel/core_pattern', 'w')",
}


def _places(bench: Bench) -> str:
    other = bench.scratch / "other"
    for folder in (other / "inputs", other / "work", bench.spool):
        folder.mkdir(parents=True)
    (other / "inputs" / "frame.txt").write_text("another")
    (bench.root / "secrets").write_text("KEY=1")
    (bench.root / "nightmill.db").write_text("rows")
    store = bench.root / "stores/backbone/raw/frame.txt"
    return f"STORE, ROOT, WORKER = {str(store)!r}, {str(bench.root)!r}, {os.getpid()}\n"


def _listing(bench: Bench) -> list[tuple[str, int, int, int, bytes]]:
    found = []
    for folder in (bench.root / "stores/backbone/raw", bench.scratch / "other"):
        for path in sorted(folder.rglob("*")):
            facts = path.stat()
            content = path.read_bytes() if path.is_file() else b""
            found.append((str(path), facts.st_mode, facts.st_nlink, facts.st_mtime_ns, content))
    return found


@pytest.mark.req("B41", "X37")
@pytest.mark.parametrize("tries", [READS, CHANGES], ids=["read", "change"])
@pytest.mark.parametrize("warm", [(), ("json",)], ids=["cold", "warm"])
def test_what_it_was_not_given_is_denied(bench: Bench, tries: dict[str, str], warm: tuple[str, ...]) -> None:
    must_deny(bench, tries, warm)


@pytest.mark.parametrize("tries", [READS, CHANGES], ids=["read", "change"])
def test_it_is_denied_to_an_ordinary_user(monkeypatch: pytest.MonkeyPatch, tries: dict[str, str]) -> None:
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")  # which any user may run
    with ordinary_user(reads=SPAWNER) as folder:
        must_deny(Bench(folder), tries)


def must_deny(bench: Bench, tries: dict[str, str], warm: tuple[str, ...] = ()) -> None:
    places = _places(bench)
    frame, other = (bench.put(name, b"input", type="text") for name in ("frame.txt", "other.txt"))
    before = _listing(bench)
    code = places + "".join(f"print(end={name + ': '!r})\n{act}\n" for name, act in tries.items())
    tried = attempt(bench, code, inputs=(frame, other), declared=("frame.txt",), warm=warm)
    # what it was given is a pipe: another writes down what it says
    told = {"log, by its descriptor": "[Errno 22] Invalid argument", "log, by what it was given": "reached"}
    assert tried.said == [f"{name}: {told.get(name, 'denied')}" for name in tries]
    assert tried.report.fate is Fate.PUBLISHED
    assert _listing(bench) == before
    assert tried.report.steps[0].observed is not None
    assert tried.report.steps[0].observed.confined.level is Level.STANDARD


def test_what_it_was_given_and_what_it_makes(bench: Bench) -> None:
    frame = bench.put("frame.txt", b"input", type="text")
    bench.confinement = NodeConfinement()
    first = shell(
        "one",
        "cat ../inputs/frame.txt | tr i I > first.txt; mkdir -p a $TMPDIR/b; echo x > $TMPDIR/b/c; mv $TMPDIR/b a/b;"
        " chmod 600 a/b/c; touch -d 2020-01-01 a/b/c; ln -s c a/b/d; echo seen > /dev/stderr; echo > /dev/null;"
        " head -c 1 $NIGHTMILL_INDEX; printf '#!/bin/sh\\necho run' > mine; chmod +x mine; ./mine",
        output("first", "first.txt"),
        inputs=("frame.txt",),
    )
    code = (
        "import numpy, astropy.io.fits, threading, subprocess, tempfile\n"
        "thread = threading.Thread(target=print, args=['a thread']); thread.start(); thread.join()\n"
        "tempfile.TemporaryFile().write(b'x')\n"
        "text = subprocess.run(['cat', '../outputs/first.txt'], capture_output=True, text=True).stdout\n"
        "open('second.txt', 'w').write(text + str(numpy.arange(3).sum()))\n"
    )
    second = python("two", code, output("second", "second.txt"), inputs=("first.txt",))
    report = bench.run_one(bench.order(first, second, inputs=(frame,)))
    assert (report.fate, report.evidence) == (Fate.PUBLISHED, "")
    assert (bench.root / "stores/backbone/products/second.txt").read_text() == "Input3"
    log = (bench.root / "stores/backbone/logs" / report.order.log_name).read_text()
    assert [line for line in log.splitlines() if line in ("seen", "{run", "a thread")] == ["seen", "{run", "a thread"]
    assert bench.leftovers() == []


def test_an_output_that_a_step_does_not_declare_is_denied(bench: Bench) -> None:
    bench.confinement = NodeConfinement()
    steps = [
        shell("one", "echo 1 > first.txt; echo 2 > other.txt", output("first", "first.txt"), output("o", "other.txt")),
        shell("two", "cat ../outputs/first.txt; ls ../outputs; ! cat ../outputs/other.txt", inputs=("first.txt",)),
    ]
    report = bench.run_one(bench.order(*steps))
    assert report.fate is Fate.PUBLISHED
    log = (bench.root / "stores/backbone/logs" / report.order.log_name).read_text()
    assert log.splitlines()[-4:] == [
        "1",
        "first.txt",
        "other.txt",
        "cat: ../outputs/other.txt: Permission denied",
    ]


def test_a_sidecar_is_there_and_is_left_by_nobody_while_it_is_empty(bench: Bench) -> None:
    bench.confinement = NodeConfinement()
    script = "test -f $NIGHTMILL_SIDECAR && ! rm $NIGHTMILL_SIDECAR && : > $NIGHTMILL_SIDECAR"
    report = bench.run_one(bench.order(shell("one", script), shell("two", script)), keep_scratch=True)
    assert report.fate is Fate.PUBLISHED
    [scratch] = bench.scratch.iterdir()
    assert list((scratch / "left").iterdir()) == []


def test_a_site_says_what_every_step_may_read(bench: Bench, tmp_path: Path) -> None:
    place = tmp_path / "reference"
    (place / "store").mkdir(parents=True)
    (place / "below").mkdir()
    (place / "below" / "catalogue").write_text("stars")
    (place / "store" / "frame").write_text("secret")
    bench.confinement = NodeConfinement(reads=(place,), closed=(place / "store",))
    script = f"cat {place}/below/catalogue; ls {place}; ! cat {place}/store/frame"
    report = bench.run_one(bench.order(shell("one", script)))
    assert report.fate is Fate.PUBLISHED
    log = (bench.root / "stores/backbone/logs" / report.order.log_name).read_text()
    assert "\nstarsbelow\nstore\ncat: " in log
    assert log.endswith("Permission denied\n")


def test_what_is_closed_in_a_folder_leaves_the_rest_open(tmp_path: Path) -> None:
    for name in ("a/b", "a/c/d", "e"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to("a/c")
    closed = frozenset([tmp_path / "a" / "c", tmp_path / "e"])
    own = {path: access for path, access in software((tmp_path,), closed) if path.startswith(str(tmp_path))}
    assert own == {str(tmp_path): READ_DIR, f"{tmp_path}/a": READ_DIR, f"{tmp_path}/a/b": RUN}
    assert dict(software((), frozenset()))[os.path.realpath(sys.base_prefix)] == RUN


@pytest.mark.parametrize("use", Use)
def test_a_host_that_lacks_something_is_told_or_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, use: Use
) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    lacks = "the kernel has no Landlock: files and folders are not closed"
    bench.confinement = NodeConfinement(use=use)
    report = bench.run_one(bench.order(shell("one", f"cat {__file__} > /dev/null; ! chmod 600 ../inputs")))
    if use is Use.DEMAND:
        assert (report.fate, report.failed_step) == (Fate.STEP_NOT_STARTED, "one")
        assert report.evidence == (
            f"step 'one' cannot be started: this host cannot confine steps as its site demands: {lacks}; use a host"
            " that can (Linux 6.12, where users may make namespaces), or write confinement: {use: try} into"
            " nightmill.yaml"
        )
        return
    observed = report.steps[0].observed
    assert observed is not None
    if use is Use.OFF:
        assert (report.fate, observed.confined) == (Fate.STEP_FAILED, UNCONFINED), "it could change the mode"
    else:
        wanted = Confined(level=Level.STANDARD, by=("seccomp", "mounts"), lacking=(lacks,))
        assert (report.fate, observed.confined) == (Fate.PUBLISHED, wanted)


def test_where_nothing_can_confine_a_step_is_started_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawner_process, "__file__", "/nonesuch.py")
    bench.confinement = NodeConfinement()
    report = bench.run_one(bench.order(shell("one", ":")))
    observed = report.steps[0].observed
    assert observed is not None
    assert (report.fate, observed.confined.level) == (Fate.PUBLISHED, Level.NONE)
    [lacking] = observed.confined.lacking
    assert lacking.startswith("the process that starts steps cannot be begun: ")


def test_what_doctor_says_of_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    assert try_confinement(NodeConfinement()).startswith("steps are held by landlock ")
    assert try_confinement(NodeConfinement(use=Use.OFF)) == "steps are not confined: the site says so"
    monkeypatch.setattr(landlock, "abi", lambda: 3)
    assert try_confinement(NodeConfinement()) == (
        "steps are held by landlock 3, seccomp, mounts; Landlock 3 of this kernel does not hold TCP ports; Landlock 3"
        " of this kernel does not hold signals to other processes"
    )
    with pytest.raises(RequestRefused, match="this host cannot confine steps as its site demands: Landlock 3"):
        try_confinement(NodeConfinement(use=Use.DEMAND))
