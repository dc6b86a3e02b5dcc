"""Steps that try to reach what they were not given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nightmill.model.confinement import NodeConfinement
from nightmill.model.order import OrderInput, OrderText
from nightmill.model.report import JobReport
from tests.support.orders import Bench, python

SAID = "--- it said"
TRIES = (
    "import os, sys, errno\n"
    "def tried(act, *arguments):\n"
    "    try:\n"
    "        act(*arguments)\n"
    "    except OSError as error:\n"
    "        print('denied' if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EXDEV) else error)\n"
    "    else:\n"
    "        print('reached')\n"
    f"print({SAID!r}, flush=True)\n"
)


@dataclass
class Tried:
    """What came of a step."""

    report: JobReport
    said: list[str]
    """What it said, line by line."""


def attempt(
    bench: Bench, code: str, *, inputs: tuple[OrderInput, ...] = (), declared: tuple[str, ...] = (), **changes: Any
) -> Tried:
    """Run a confined step that is a program of Python with ``tried`` in it, which prints what came of an act."""
    bench.confinement = NodeConfinement()
    step = python("try", TRIES + code, inputs=declared, **changes)
    if step.warm:  # which only a script can be
        text = OrderText(name="try.py", text=step.argv[-1])
        step = step.model_copy(update={"argv": ("{python}", "../files/try.py"), "files": (text,)})
    order = bench.order(step, inputs=inputs)
    report = bench.run_one(order)
    log = (bench.root / "stores/backbone/logs" / order.log_name).read_text()
    return Tried(report, log.rpartition(f"\n{SAID}\n")[2].splitlines())
