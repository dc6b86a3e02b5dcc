"""What is on record of the software that a step runs with."""

from __future__ import annotations

import sys

import pytest

from nightmill import __version__
from nightmill.execution.software import stack_of


def test_a_python_step_has_the_packages_of_this_python() -> None:
    stack = stack_of((sys.executable, "-c", ""), {})
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
    assert stack_of(("tool",), {"tool": command})["tool"] == version
