"""A tracer of the tests' own: strace around a whole worker, and what the processes of its steps opened by that."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

CALLS = "open,openat,execve,clone,clone3,vfork,fork"
COMMAND = ("strace", "-f", "-y", "-s", "4096", "-e", "signal=none", "-e", f"trace={CALLS}")

_UNFINISHED = re.compile(r"^(\d+) +(.*) <unfinished \.\.\.>$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. \w+ resumed>(.*)$")
_MADE = re.compile(r"^(\d+) +(?:clone3?|vfork|fork)\(.*\) += (\d+)(?:<.*)?$")
_OPENED = re.compile(r"^(\d+) +(?:open|openat)\(.*\) += \d+<([^>]*)>$")


def whole_lines(path: Path) -> Iterable[str]:
    """Yield the calls of a trace, each with its result."""
    begun: dict[str, str] = {}
    for line in path.read_text(errors="replace").splitlines():
        if match := _UNFINISHED.match(line):
            begun[match[1]] = match[2]
        elif match := _RESUMED.match(line):
            yield f"{match[1]} {begun.pop(match[1], '')}{match[2]}"
        else:
            yield line


def opened_by(path: Path, step: int) -> set[str]:
    """Return the names of the files in the folders of inputs and outputs that a process or a descendant opened."""
    calls = list(whole_lines(path))
    family, grew = {str(step)}, True
    while grew:  # a child's first call may stand before the call that made it
        born = {match[2] for match in map(_MADE.match, calls) if match and match[1] in family}
        grew, family = not born <= family, family | born
    found = {match[2] for match in map(_OPENED.match, calls) if match and match[1] in family}
    return {path.rpartition("/")[2] for path in found if path.rpartition("/")[0].endswith(("/inputs", "/outputs"))}
