"""What is on record of the software that a step runs with."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from nightmill import __version__
from nightmill.execution.software import sight, stack_of, with_libraries
from nightmill.model.journal import SoftwareSeen
from nightmill.model.report import stacks
from nightmill.model.software import Stack, changes
from tests.support.audited import audited
from tests.support.orders import Bench, output, shell

PATH = {"PATH": os.environ["PATH"]}


def stack(*argv: str, environment: dict[str, str] = PATH, **declared: tuple[str, ...]) -> Stack:
    return stack_of(sight(argv, declared, environment), declared)


def test_a_python_step_has_the_packages_of_this_python() -> None:
    found = stack(sys.executable, "-c", "")
    assert found.distributions["nightmill"].startswith(__version__)
    assert {"astropy", "numpy"} <= found.distributions.keys()
    assert found.interpreter["version"] == ".".join(map(str, sys.version_info[:3]))
    assert found.interpreter["sha256"].startswith("sha256:")
    assert found.programs == {}
    assert found.kernel["release"] == os.uname().release
    assert {"os", "cpu"} <= found.sections.keys()


def test_a_program_is_known_by_its_bytes(tmp_path: Path) -> None:
    """Another program of the same name is another stack, at once, and one that is back is the old one."""
    tool, other = tmp_path / "tool", tmp_path / "other"
    tool.write_text("#!/bin/sh\necho tool 1\n")
    tool.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{PATH['PATH']}"}
    before = stack("tool", environment=environment)
    assert before.programs == {str(tool): f"sha256:{_sha256sum(tool)}"}
    assert set(before.distributions) == {"nightmill"}
    other.write_text("#!/bin/sh\necho tool 1  # and quietly another\n")
    other.chmod(0o755)
    tool.rename(tmp_path / "kept")
    other.rename(tool)
    after = stack("tool", environment=environment)
    [change] = changes(before, after)
    assert (change.section, change.name, change.after) == ("programs", str(tool), f"sha256:{_sha256sum(tool)}")
    assert after.bare_sha256 != before.bare_sha256
    (tmp_path / "kept").rename(tool)
    assert stack("tool", environment=environment).sha256 == before.sha256


def _sha256sum(path: Path) -> str:
    return subprocess.run(["sha256sum", path], check=True, capture_output=True, text=True).stdout.split()[0]


def test_a_python_of_another_environment_tells_what_it_has(tmp_path: Path) -> None:
    """Also the one that the first line of a program names; and again as soon as something is installed there."""
    venv.create(tmp_path / "other", symlinks=True)
    site = next((tmp_path / "other/lib").glob("python3*/site-packages"))
    install(site, "Wave_Let", "2.1")
    install(
        site,
        "local",
        "1.0",
        {"direct_url.json": '{"url": "file:///x.whl", "archive_info": {}}', "RECORD": "a.py,sha256=x,1"},
    )
    install(
        site,
        "cloned",
        "0.1",
        {"direct_url.json": '{"url": "https://x", "vcs_info": {"vcs": "git", "commit_id": "abc1"}}'},
    )
    python = str(tmp_path / "other/bin/python")
    found = stack(python, "reduce.py")
    assert found.interpreter["path"] == python
    assert found.distributions["wave-let"] == "2.1"
    assert found.distributions["cloned"] == "0.1 (commit abc1)"
    assert found.distributions["local"].startswith("1.0 (local, sha256:")
    assert "astropy" not in found.distributions
    program = tmp_path / "reduce"
    program.write_text(f"#!{python}\n")
    os.utime(site, ns=(1, 1))  # as an installation does, whatever the clock's grain
    install(site, "more", "3")
    again = stack(str(program))
    assert again.distributions["more"] == "3"
    assert again.programs.keys() == {str(program)}
    assert [str(change) for change in changes(found, again) if change.section == "distributions"] == [
        "distributions more: added, 3"
    ]


def install(site: Path, name: str, version: str, files: dict[str, str] | None = None) -> None:
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nVersion: 9\n")
    for path, text in (files or {}).items():
        (folder / path).write_text(text)


def test_the_code_of_an_editable_package_is_known_to_the_byte(tmp_path: Path) -> None:
    venv.create(tmp_path / "other", symlinks=True)
    site = next((tmp_path / "other/lib").glob("python3*/site-packages"))
    source = tmp_path / "source"
    (source / ".git").mkdir(parents=True)
    (source / "site").mkdir()
    (source / "site/nightmill.yaml").touch()
    (source / "code.py").write_text("x = 1\n")
    url = f'{{"url": "{source.as_uri()}", "dir_info": {{"editable": true}}}}'
    install(site, "mine", "1", {"direct_url.json": url})
    found = []
    for number, change in enumerate(("x = 2\n", "x = 1\n")):
        found.append(stack(str(tmp_path / "other/bin/python")).distributions["mine"])
        (source / "code.py").write_text(change)
        (source / ".git/index").write_text(change)
        (source / f"site/step{number}.py").write_text("a site is no part of it")
        os.utime(site, ns=(number, number))
    found.append(stack(str(tmp_path / "other/bin/python")).distributions["mine"])
    assert found[0] == found[2] != found[1]
    assert found[0].startswith("1 (editable, sha256:")


@pytest.mark.parametrize("text", ["raise SystemExit(3)", "print('not JSON')"])
def test_a_python_that_does_not_tell_is_told_of(tmp_path: Path, text: str) -> None:
    python = tmp_path / "python3"
    python.write_text(f"#!{sys.executable} -I\n{text}\n")
    python.chmod(0o755)
    found = stack(str(python))
    assert found.interpreter["distributions"].startswith("unknown: ")
    assert found.interpreter["sha256"] == f"sha256:{_sha256sum(python)}"


@pytest.mark.parametrize(
    ("command", "version"),
    [
        (("printf", "\\n tool 2.25.0 \\nmore\\n"), "tool 2.25.0"),
        (("sh", "-c", "echo tool 1 >&2; exit 1"), "tool 1"),
        (("printf", "a\\0b\\377"), "a\ufffdb\ufffd"),
        (("true",), "unknown: no output, exit code 0"),
        (("no-such-program",), "unknown: [Errno 2] No such file or directory: 'no-such-program'"),
        (("a\0b",), "unknown: embedded null byte"),
    ],
)
def test_a_declared_program_is_asked_for_its_version(command: tuple[str, ...], version: str) -> None:
    assert stack("tool", tool=command).programs["tool"] == version


def test_a_program_is_asked_in_the_environment_of_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that the step finds is asked, it sees nothing of nightmill's own, and leaves nothing where that works."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:secret")
    for name in ("old", "new"):
        tool = tmp_path / name / "tool"
        tool.parent.mkdir()
        tool.write_text(f"#!/bin/sh\n: > here; : > $HOME/there; echo tool {name} $FLAVOUR $PREFECT_API_AUTH_STRING\n")
        tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'old'}:{os.environ['PATH']}")
    for name in ("old", "new", "old"):
        environment = {"PATH": f"{tmp_path / name}:{os.environ['PATH']}", "FLAVOUR": "vanilla"}
        found = stack("tool", environment=environment, tool=("tool",)).programs
        assert found["tool"] == f"tool {name} vanilla"
        assert str(tmp_path / name / "tool") in found
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]


def test_environment_modules_are_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOADEDMODULES", "gcc/12.2:openmpi/4.1")
    monkeypatch.setenv("_LMFILES_", "/opt/modules/gcc/12.2")
    assert stack("true").modules == {"gcc/12.2": "/opt/modules/gcc/12.2", "openmpi/4.1": ""}


def test_libraries_that_were_loaded_are_part_of_it(tmp_path: Path) -> None:
    library = tmp_path / "libsky.so"
    library.write_bytes(b"\x7fELF")
    found = with_libraries(stack("true"), [str(library), str(tmp_path / "gone.so")])
    assert found.libraries == {str(library): f"sha256:{_sha256sum(library)}"}
    assert found.sha256 != stack("true").sha256
    assert found.bare_sha256 == stack("true").bare_sha256, "the gate judges before they are known"


def test_the_bundle_is_part_of_a_stack_and_not_of_what_makes_it_new() -> None:
    one, other = (stack_of(sight(("true",), {}, PATH), {}, bundle=digest) for digest in ("a" * 64, "b" * 64))
    assert one.sha256 != other.sha256
    assert one.bare_sha256 == other.bare_sha256
    assert [str(each) for each in changes(one, other)] == [f"bundle digest: {'a' * 64} → {'b' * 64}"]


def test_a_stack_of_before_is_read_and_one_that_is_not_its_digest_is_not_believed() -> None:
    flat = {"nightmill": "0.2.0", "kernel": "6.1", "python": "3.11.7", "image": "x@sha256:1", "astropy": "8"}
    read = Stack.read(flat)
    assert read.sections == {
        "interpreter": {"version": "3.11.7"},
        "distributions": {"nightmill": "0.2.0", "astropy": "8"},
        "container": {"image": "x@sha256:1"},
        "kernel": {"release": "6.1"},
    }
    assert Stack.read(read.content) == read
    honest = SoftwareSeen(sha256=read.sha256, stack=read)
    assert SoftwareSeen.model_validate_json(honest.model_dump_json()) == honest
    forged = SoftwareSeen(sha256="1" * 64, stack=read)
    old = SoftwareSeen(sha256="2" * 64, packages=flat)
    assert stacks([honest, forged, old]) == {read.sha256: read, "2" * 64: read}


def test_a_step_that_is_audited_has_the_libraries_that_it_loaded(bench: Bench) -> None:
    """The same stack for each job: what lies in their scratches is not software of the host."""
    made, own = output("made", "made.txt"), "cp /bin/true ./mine && ./mine && echo made > made.txt"
    before, after = [
        audited(bench, shell("measure", own, made, inputs=()), number=number).steps[0].known_software
        for number in (1, 2)
    ]
    assert before == after
    found = stacks(bench.entries())
    libraries = found[before].libraries
    assert any("libc.so" in path for path in libraries)
    assert all(path.startswith("/") and digest.startswith("sha256:") for path, digest in libraries.items())
    assert not any(str(bench.scratch) in path for path in libraries)
    [plain] = [stack for stack in found.values() if not stack.libraries]
    assert plain.bare_sha256 == found[before].bare_sha256
