"""What a step costs that prints far more than is kept of its log: time, and room on the disk while it prints."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Final

from benchmarks.figures import Result, figure, machine, now
from benchmarks.sites import working_folder
from nightmill.testing.bench import PipelineBench

MEGABYTES: Final = 10_000
"""So much the step prints."""
LOOK_SECONDS: Final = 0.005
PRINTING: Final = (
    "echo first; yes 'what a verbose program says of each row of its table' | head -c {size}000000; echo; echo last"
)
PIPELINE: Final = """\
pipeline: verbose
version: "1.0"
stages:
  say:
    per: [exposure]
    inputs: {{frame: {{type: frame}}}}
    steps:
      - name: say
        argv: [sh, -c, "{printing}"]
        outputs: {{}}
"""


def measure(*, size: int = MEGABYTES) -> Result:
    """Measure one job of one step, after the same output was written to a plain file."""
    printing = PRINTING.format(size=size)
    with working_folder() as folder:
        with (folder / "plain").open("wb") as plain:
            start = time.perf_counter()
            subprocess.run(["sh", "-c", printing], stdout=plain, check=True)
            bare = time.perf_counter() - start
        (folder / "plain").unlink()
        (folder / "pipeline.yaml").write_text(PIPELINE.format(printing=printing))
        (folder / "types.yaml").write_text("file_types: {frame: {format: any}}\n")
        (folder / "frame").write_text("a frame")
        bench = PipelineBench(folder / "pipeline.yaml", folder / "types.yaml", folder / "bench")
        most, is_over = [0], Event()
        watch = Thread(target=_watch, args=(folder / "bench", most, is_over))
        watch.start()
        try:
            start = time.perf_counter()
            made = bench.run("say", {"frame": folder / "frame"}, data_id={"exposure": 1})
            took = time.perf_counter() - start
        finally:
            is_over.set()
            watch.join()
    ends = "\nfirst\n" in made.log[:4096] and made.log.rstrip().endswith("last")
    return Result(
        **figure([took], [bare]).model_dump(),
        name="huge_log",
        unit="s",
        compared=(
            "a confined step that prints without end, both ends of which are kept, from its order to its log in the"
            " store; floor: the same program, whose output goes to a file of the same disk"
        ),
        aim="whatever it prints, the log and the room that it takes are bounded",
        size=f"{size:,} MB printed",
        extra={"log_megabytes": round(len(made.log) / 1e6, 1), "most_room_megabytes": round(most[0] / 1e6)},
        counts={"published": int(made.ok), "both ends kept": int(ends)},
        machine=machine(),
        measured_at=now(),
        command="python -m benchmarks huge_log --json",
    )


def _watch(folder: Path, most: list[int], is_over: Event) -> None:
    """See how much room the log takes while it is written."""
    while not is_over.wait(LOOK_SECONDS):
        for log in folder.glob("run*/scratch/*/log"):
            with suppress(OSError):
                most[0] = max(most[0], log.stat().st_blocks * 512)
