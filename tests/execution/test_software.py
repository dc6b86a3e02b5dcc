"""What is on record of the software that a step runs with."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nightmill import __version__
from nightmill.execution.software import stack_of


def test_a_python_step_has_the_packages_of_this_python() -> None:
    stack = stack_of((sys.executable, "-c", ""), {}, {})
    assert stack["nightmill"] == __version__
    assert {"kernel", "python", "astropy", "numpy"} <= stack.keys()


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
    assert stack_of(("tool",), {"tool": command}, {"PATH": os.environ["PATH"]})["tool"] == version


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
        assert stack_of(("tool",), {"tool": ("tool",)}, environment)["tool"] == f"tool {name} vanilla"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]
