"""Where the CPU time of a trivial job goes: each part of its way, with what it calls of no other part."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from operator import attrgetter
from pkgutil import resolve_name
from typing import Any, Final

PARTS: Final[Mapping[str, Sequence[str]]] = {
    "slice taken up and given back": [
        f"nightmill.operations.slice_work:SliceWork.{name}" for name in ("__enter__", "__exit__")
    ],
    "issue: plan, order and attempt": ["nightmill.operations.slice_work:issue"],
    "record: rows of what was done": ["nightmill.operations.slice_work:record", "nightmill.operations.follower:record"],
    "journal and claims": [
        f"nightmill.execution.journal:JournalWriter.{name}" for name in ("append", "sync", "claim", "release_claims")
    ],
    "scratch made and removed": [
        f"nightmill.execution.scratch:Scratch.{name}" for name in ("__init__", "write_order", "end")
    ],
    "inputs staged and checked": ["nightmill.execution.job:stage_in"],
    "step described, logged and told": ["nightmill.execution.job:run_step"],
    "step started, watched and measured": ["nightmill.execution.step:run_process"],
    "outputs checked (the gate)": ["nightmill.execution.step:check_outputs"],
    "outputs uploaded and read again": ["nightmill.execution.jobs:put_away"],
    "outputs published": ["nightmill.execution.jobs:publish"],
    "report folded": ["nightmill.execution.context:JobContext.report"],
}
"""By the functions that a part begins with, where its callers look them up."""


@contextmanager
def spent_by_part(parts: Mapping[str, Sequence[str]] = PARTS) -> Iterator[Mapping[str, float]]:
    """Measure what each part takes meanwhile, of all threads of this process: CPU seconds."""
    spent: defaultdict[str, float] = defaultdict(float)
    lock, nested = threading.Lock(), threading.local()

    def measured(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*given: Any, **named: Any) -> Any:
            outer = getattr(nested, "seconds", 0.0)
            nested.seconds, start = 0.0, time.thread_time()
            try:
                return function(*given, **named)
            finally:
                own = time.thread_time() - start
                with lock:
                    spent[part] += own - nested.seconds
                nested.seconds = outer + own

        return call

    originals = []
    for part, names in parts.items():
        for name in names:
            place, _, attribute = name.rpartition("." if "." in name.partition(":")[2] else ":")
            owner = resolve_name(place)
            function = attrgetter(attribute)(owner)
            originals.append((owner, attribute, function))
            setattr(owner, attribute, measured(part, function))
    try:
        yield spent
    finally:
        for owner, attribute, function in originals:
            setattr(owner, attribute, function)
