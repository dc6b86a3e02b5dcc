"""``nightmill logs`` of a step that prints more than its site keeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from nightmill.execution.logs.cut import next_hole
from tests.cli.conftest import Nightmill
from tests.cli.test_logs import JOB, running, telling

__all__ = ["telling"]


def test_what_is_left_out_is_said_while_it_runs_and_after(
    folder: Path, nightmill: Nightmill, telling: Callable[..., None]
) -> None:
    on = folder / "on"
    telling(folder, f"seq 100000; until test -e {on}; do sleep 0.1; done; echo the end")
    with (folder / "nightmill.yaml").open("a") as file:
        file.write("logs: {max_bytes: 65536}\n")
    with running(folder):
        (log,) = (folder / "scratch").glob("*/log")
        deadline = time.monotonic() + 60
        while not has_hole(log):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        live = nightmill("logs", JOB).out
        on.touch()
        followed = nightmill("logs", JOB, "-f").out
    stored = nightmill("logs", JOB).out
    for shown in (live, followed, stored):
        assert "\0" not in shown
        assert len(shown) < 80_000
        assert shown.count("are left out here") == 1
        assert "c1\n2\n3\n" in shown
        assert "\n99999\n100000\n" in shown
    assert "the end\n" not in live
    assert "the end\n== other: " in followed
    assert "the end\n== other: " in stored


def has_hole(log: Path) -> bool:
    with log.open("rb") as file:
        return next_hole(file.fileno(), 0) < log.stat().st_size
