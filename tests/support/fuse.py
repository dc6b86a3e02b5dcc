"""A real mount that comes from a program: what NFS is to a host, without a server."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def fuse_mount(folder: Path, point: Path) -> Iterator[Path]:
    """Show a folder at another place by FUSE; the test is skipped where that cannot be had."""
    if shutil.which("bindfs") is None:
        pytest.skip("bindfs is not installed")
    point.mkdir()
    mounted = subprocess.run(["bindfs", folder, point], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"nobody can mount by FUSE here: {mounted.stderr.strip()}")
    try:
        yield point
    finally:
        subprocess.run(["fusermount", "-u", "-z", point], check=True)
