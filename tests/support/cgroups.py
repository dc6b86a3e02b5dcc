"""Control groups of a test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MEMORY = Path("/sys/fs/cgroup/memory")
PIDS = Path("/sys/fs/cgroup/pids")


@contextmanager
def first_version() -> Iterator[Path]:
    """Give a control group of the first version, under memory and under pids, in which nothing may be left.

    The test is skipped where its user cannot have one.
    """
    name = f"nightmill-tests-{os.getpid()}"
    folders = [MEMORY / name, PIDS / name]
    try:
        for folder in folders:
            folder.mkdir()
    except OSError as error:
        pytest.skip(f"control groups of the first version cannot be made here: {error}")
    try:
        yield folders[0]
        assert [left for folder in folders for left in folder.iterdir() if left.is_dir()] == []
    finally:
        for folder in folders:
            for left in folder.iterdir():
                if left.is_dir():
                    left.rmdir()
            folder.rmdir()


@contextmanager
def second_version() -> Iterator[Path]:
    """Give a control group of the second version, whatever controllers it has."""
    for root in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        folder = root / f"nightmill-tests-{os.getpid()}"
        if (root / "cgroup.controllers").exists() and os.access(root, os.W_OK):
            folder.mkdir()
            try:
                yield folder
            finally:
                folder.rmdir()
            return
    pytest.skip("control groups of the second version cannot be made here")


def group_files(folder: Path) -> None:
    """Write the files that a kernel would put into a control group of the second version."""
    for name, text in {
        "cgroup.procs": "",
        "memory.current": "9000000\n",
        "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n",
        "memory.max": "max\n",
        "memory.stat": "anon 5000000\nfile 1500000\ninactive_file 400000\nactive_file 600000\n",
        "memory.swap.max": "max\n",
        "memory.reclaim": "",
        "pids.max": "max\n",
    }.items():
        (folder / name).write_text(text)
