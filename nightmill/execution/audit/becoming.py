"""What a step is before it is the step, where a tracer is around it: it confines itself, and becomes the step.

It is run by its path, under the tracer, and needs nothing but the standard library: ``becoming.py REQUEST``. The
tracer stays outside of the confinement, so that the step reaches neither it nor what it writes. Its last act before it
runs the program is to go to the working folder: what the tracer tells from there on is the step's.
"""

from __future__ import annotations

import marshal
import os
import signal
import sys
from contextlib import suppress

FAILED = 126
"""How it ends where it cannot become the step."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(request: str) -> None:
    """Become the step."""
    wanted: dict[str, Any] = marshal.loads(bytes.fromhex(request))  # noqa: S302 - of the worker
    if wanted["handled"] is not None:
        confine(wanted)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    environment = wanted["environment"]
    program = wanted["argv"][0]
    folders = environment.get(b"PATH", os.fsencode(os.defpath)).split(b":")
    os.closerange(3, 1 << 16)
    os.chdir(wanted["directory"])
    for path in [program] if b"/" in program else [os.path.join(folder, program) for folder in folders]:
        with suppress(OSError):  # the tracer tells what it was
            os.execve(path, wanted["argv"], environment)
    sys.exit(FAILED)


def confine(wanted: dict[str, Any]) -> None:
    """Confine this process and whatever it becomes."""
    sys.path.insert(0, wanted["spawner"])
    spawner = __import__("spawner_process")
    spawner.confine(wanted, wanted["handled"], [])


if __name__ == "__main__":
    main(*sys.argv[1:])
