"""``python -m benchmarks [NAME ...]``: measure, each figure beside its floor."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from inspect import signature
from typing import Final

from benchmarks.figures import Result, kept
from benchmarks.page import PAGE, line, page

NAMES: Final = (
    "job_overhead",
    "two_slices",
    "ingest",
    "plan_100k",
    "plan_1m",
    "plan_memberships",
    "plan_compare",
    "overlaps",
    "warm_steps",
    "huge_log",
    "truth_overhead",
    "campaign_5k",
    "transfers",
    "engines",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is named, by default everything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; by default all")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each, and nothing else")
    parser.add_argument("--write-docs", action="store_true", help=f"keep the results, and bring {PAGE.name} up to date")
    parser.add_argument("--size", type=int, help="jobs, or files, to measure with instead of the full number")
    parser.add_argument("--repeats", type=int, help="how often to measure what is measured more than once")
    given = parser.parse_args(arguments)
    if (given.size or given.repeats) and given.write_docs:
        parser.error("--write-docs wants the full size, and as many repeats as there are")
    strangers = [name for name in given.names if name not in NAMES]
    if strangers:
        parser.error(f"no benchmark is called {', '.join(strangers)}; there is {', '.join(NAMES)}")
    for name in given.names or NAMES:
        result = measure(name, given.size, given.repeats)
        print(result.model_dump_json() if given.json else line(result), flush=True)
        if given.write_docs:
            result.keep()
            PAGE.write_text(page(kept()))


def measure(name: str, size: int | None = None, repeats: int | None = None) -> Result:
    """Carry out a benchmark, by default at its full size and as often as it says."""
    benchmark: Callable[..., Result] = import_module(f"benchmarks.{name}").measure
    load, _, _ = os.getloadavg()
    wanted = {"size": size, "repeats": repeats}
    result = benchmark(**{key: wanted[key] for key in signature(benchmark).parameters if wanted[key]})
    return result.model_copy(update={"load_before": round(load, 1)})


if __name__ == "__main__":
    main(sys.argv[1:])
