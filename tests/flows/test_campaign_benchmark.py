"""The benchmark of campaigns, at a tiny size: what it promises to count. No time is ever asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

JOBS = 12


def test_every_job_is_published_and_every_task_run_recorded() -> None:
    command = [sys.executable, "-m", "benchmarks", "campaign_5k", "--json", "--size", str(JOBS)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [printed] = done.stdout.splitlines()
    answer = json.loads(printed)
    counts = answer["counts"]
    assert [counts[name] for name in ("jobs", "published", "task_runs_submitted", "task_runs_recorded")] == [JOBS] * 4
    assert counts["files_in_store"] == 2 * JOBS  # an output and a log
    assert counts["published_in_chunks"] == JOBS
    assert 0 < counts["task_runs_recorded_in_chunks"] < JOBS
    assert answer["extra"]["submit_to_first_job_seconds"] > 0
    assert answer["extra"]["floor_processes"] == 2, "as many as slices"
