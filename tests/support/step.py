"""A step for the tests: joins its inputs, after doing what the lines of raw ones ask for.

Lines: ``seconds N`` waits; ``until PATH`` waits until PATH exists; ``unless PATH`` fails while PATH does not exist;
``exit N TEXT`` prints TEXT and exits with code N; ``warn N TEXT`` does so once the output is made; ``memory PATH``
counts a kill in PATH and ends by SIGKILL; ``note PATH`` appends a line to PATH; ``killed-once PATH`` ends by SIGKILL
unless PATH exists, and makes it; ``stuck N PATH`` waits for ever the first N times, which it counts in PATH; ``take N``
takes N bytes of memory.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path


def main() -> int:
    output, *inputs = [Path(argument) for argument in sys.argv[1:]]
    text = "".join(path.read_text() for path in inputs)
    ended = 0
    for line in text.splitlines() if inputs[0].name.startswith("raw") else ():
        verb, _, argument = line.partition(" ")
        if verb == "note":
            with Path(argument).open("a") as notes:
                notes.write(f"{output.name}\n")
        elif verb in ("seconds", "until", "stuck", "take"):
            _dwell(verb, argument)
        elif verb == "killed-once" and not Path(argument).exists():
            Path(argument).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        elif verb in ("exit", "warn"):
            code, _, said = argument.partition(" ")
            print(said, "a line below it", sep="\n", file=sys.stderr)
            ended = int(code)
            output = output if verb == "warn" else Path(os.devnull)
            break
        elif verb == "memory":
            Path(argument).write_text(f"oom_kill {int(Path(argument).read_text().split()[1]) + 1}\n")
            os.kill(os.getpid(), signal.SIGKILL)
        elif verb == "unless" and not Path(argument).exists():
            print(f"no star in the field, says {argument}", file=sys.stderr)
            return 3
    output.write_text(text)
    return ended


def _dwell(verb: str, argument: str) -> None:
    """Take time, or memory."""
    if verb == "seconds":
        time.sleep(float(argument))
    elif verb == "until":
        while not Path(argument).exists():
            time.sleep(0.05)
    elif verb == "take":
        bytearray(int(argument))
    else:
        times, _, place = argument.partition(" ")
        with Path(place).open("a+") as count:
            count.write("x")
            is_stuck = count.tell() <= int(times)
        while is_stuck:
            time.sleep(60)


if __name__ == "__main__":
    sys.exit(main())
