"""The program that confines itself and becomes a step: how it is made, what it holds, and what it leaves true."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from nightmill.execution.confine import shim
from nightmill.execution.confine.shim import PathRule, ShimRules, made_in

ALL = (1 << 13) - 1
"""The rights of the first version of Landlock."""
READ, LIST = 0b101, 0b1000
RUN = PathRule("/", READ | LIST, apart=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    path, fault = made_in(tmp_path_factory.mktemp("cache"))
    assert path is not None, fault
    return path


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Give the working folder of a step, which has two inputs."""
    for folder in ("inputs", "work"):
        (tmp_path / folder).mkdir()
    for name in ("given", "other"):
        (tmp_path / "inputs" / name).write_text(f"{name}\n")
    return tmp_path / "work"


def become(made: Path, work: Path, rules: ShimRules, *argv: str | Path, **environment: str) -> tuple[int, str, str]:
    """Return the code, what was written, and what it told of itself."""
    written = rules.written()
    file = os.memfd_create("rules")
    try:
        os.write(file, written)
        done = subprocess.run(
            [made, str(file), *argv],
            cwd=work,
            env=environment or {"PATH": os.environ["PATH"]},
            pass_fds=[file],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr, os.pread(file, 4096, len(written)).decode()
    finally:
        os.close(file)


def held(*paths: PathRule, **others: Sequence[tuple[int, ...]]) -> ShimRules:
    return ShimRules(handled=(ALL, 0, 0), paths=(RUN, *paths), **others)  # type: ignore[arg-type]


def test_a_step_sees_what_it_was_given_of_its_scratch(made: Path, work: Path) -> None:
    rules = held(PathRule(".", ALL), PathRule("../inputs/given", READ))
    script = (
        "cat ../inputs/given; cat ../inputs/other; echo x > ../inputs/given; echo x > ../new; ls ..; echo y > y; cat y"
    )
    code, said, told = become(made, work, rules, "sh", "-c", script)
    assert (code, told) == (0, "")
    assert said.startswith("given\ny\n")
    assert said.count("ermission denied") == 4
    assert sorted(path.name for path in work.parent.rglob("*")) == ["given", "inputs", "other", "work", "y"]


def test_the_scratch_is_left_out_of_what_surrounds_it_only(made: Path, work: Path, tmp_path: Path) -> None:
    beside = tmp_path.with_name(f"{tmp_path.name} beside")
    beside.mkdir()
    (beside / "file").write_text("beside\n")
    (beside / "in").symlink_to(tmp_path)
    others = f"../inputs/given {str(beside / 'in/inputs/given')!r} {str(work)!r}/../inputs/given"
    script = f"cat {str(beside / 'file')!r}; cat {others}"
    _code, said, _told = become(made, work, held(PathRule(".", ALL)), "sh", "-c", script)
    assert said.startswith("beside\n")
    assert said.count("ermission denied") == 3


@pytest.mark.parametrize(
    ("argv", "code", "told"),
    [
        (("no-such-program", "-v"), 127, "execvp no-such-program: No such file or directory\n"),
        (("./no/such",), 127, "execvp ./no/such: No such file or directory\n"),
        (("/etc/passwd",), 126, "execvp /etc/passwd: Permission denied\n"),
        (("../inputs/given",), 126, "execvp ../inputs/given: Permission denied\n"),
    ],
)
def test_what_cannot_be_executed_is_told(made: Path, work: Path, argv: tuple[str, ...], code: int, told: str) -> None:
    assert become(made, work, held(), *argv) == (code, told, told)


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        (held(PathRule("nothing", READ)), "cannot confine: nothing: No such file or directory\n"),
        (held(limits=[(999, 1)]), "cannot limit itself: Invalid argument\n"),
        (ShimRules(handled=(1 << 60, 0, 0)), "no Landlock in here: Invalid argument\n"),
        (ShimRules(program=b"\0" * 8), "no seccomp in here: Invalid argument\n"),
    ],
)
def test_a_rule_that_cannot_be_kept_lets_no_step_begin(made: Path, work: Path, rules: ShimRules, told: str) -> None:
    assert become(made, work, rules, "sh", "-c", "echo began") == (126, told, told)


def test_rules_that_were_cut_let_no_step_begin(made: Path, work: Path) -> None:
    whole = held(PathRule(".", ALL)).written()
    for size in range(8, len(whole), 8):
        (work / "rules").write_bytes(whole[:size])
        done = subprocess.run([made, work / "rules", "echo", "began"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (126, ""), size
    (work / "rules").write_bytes(b"")
    assert subprocess.run([made, work / "rules", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 126
    assert subprocess.run([made, "/no/rules", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 126


def test_a_command_is_found_as_elsewhere(made: Path, work: Path) -> None:
    (work / "plain").write_text('echo "$0" "$@"\n')
    (work / "bin").mkdir()
    (work / "bin/not-mine").write_text("echo wrong\n")
    (work / "plain").chmod(0o755)
    rules = held(PathRule(".", ALL))
    assert become(made, work, rules, "./plain", "a", "b c")[:2] == (0, "./plain a b c\n")
    path = f"/no/such:/etc/passwd:{work / 'bin'}:{work}:/bin"
    assert become(made, work, rules, "plain", PATH=path)[:2] == (0, f"{work}/plain\n")
    assert become(made, work, rules, "not-mine", PATH=path)[2] == "execvp not-mine: Permission denied\n"
    assert become(made, work, rules, "plain", PATH="")[:2] == (0, "plain\n")
    assert become(made, work, rules, "sh", "-c", "echo found", HOME="/")[:2] == (0, "found\n")


def test_all_else_is_true(made: Path, work: Path) -> None:
    script = "ls /proc/self/fd | wc -w; tr '\\0' '|' < /proc/$$/cmdline; tr '\\0' '|' < /proc/$$/environ; umask"
    code, said, _ = become(made, work, held(), "sh", "-c", script, "called", "", PATH="/bin:/usr/bin", EMPTY="")
    assert (code, said.split("\n", 1)[0]) == (0, "4")
    assert said.split("\n", 1)[1].startswith(f"sh|-c|{script}|called||PATH=/bin:/usr/bin|EMPTY=|0")
    assert become(made, work, held(), "sh", "-c", "exit 137")[0] == 137
    assert become(made, work, held(), "sh", "-c", "kill -SEGV $$")[0] == -11
    assert become(made, work, held(limits=[(7, 64)]), "sh", "-c", "ulimit -n; ulimit -Hn")[1] == "64\n64\n"


def test_ports_and_filters(made: Path, work: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [each.getsockname()[1] for each in (one, other)]
        code = (
            "import socket, sys\nfor port in sys.argv[1:]: print(socket.socket().connect_ex(('127.0.0.1', int(port))))"
        )
        rules = ShimRules(handled=(0, 3, 0), ports=[(2, ports[0])])
        assert become(made, work, rules, "python3", "-c", code, *map(str, ports))[1] == "0\n13\n"
    refuse_uname = b"\x20\0\0\0\0\0\0\0" + b"\x15\0\0\x01" + (63).to_bytes(4, "little")
    refuse_uname += b"\x06\0\0\0" + (0x50001).to_bytes(4, "little") + b"\x06\0\0\0" + (0x7FFF0000).to_bytes(4, "little")
    if os.uname().machine == "x86_64":
        said = become(made, work, ShimRules(program=refuse_uname), "uname")[1]
        assert "Operation not permitted" in said


def test_many_make_it_at_once(tmp_path: Path, made: Path) -> None:
    cache, found = tmp_path / "cache", []
    makers = [threading.Thread(target=lambda: found.append(made_in(cache))) for _ in range(4)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert set(found) == {(cache / made.name, "")}
    assert [path.name for path in cache.iterdir()] == [made.name]
    assert (cache / made.name).stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("broken", [b"", b"#!/bin/sh\nexit 0\n"])
def test_one_that_does_not_work_is_made_anew(tmp_path: Path, made: Path, broken: bytes) -> None:
    (tmp_path / made.name).write_bytes(broken)
    (tmp_path / made.name).chmod(0o755)
    assert made_in(tmp_path) == (tmp_path / made.name, "")
    assert (tmp_path / made.name).read_bytes() == made.read_bytes()


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo 'shim.c:1: error: it fails' >&2; exit 1", "failed with code 1: shim.c:1: error: it fails"),
        ("exit 0", "failed with code 0: nothing"),
        ('echo exit 1 > "$9"', "makes does not run here"),
    ],
)
def test_a_compiler_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, told: str) -> None:
    (tmp_path / "cc").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "cc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path, fault = made_in(tmp_path / "cache")
    assert path is None
    assert fault.startswith(f"{tmp_path}/cc {told}") or fault == f"what {tmp_path}/cc {told}"
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_host_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert made_in(tmp_path / "cache") == (None, "no C compiler (cc) is on the PATH of this host")
    assert made_in(made.parent) == (made, "")


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path, fault = made_in(tmp_path / "file")
    assert path is None
    assert str(tmp_path / "file") in fault
    assert shim.SOURCE.is_file()
