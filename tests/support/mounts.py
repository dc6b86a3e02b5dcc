"""Small file systems, and a user without rights, for tests of what happens where something is not possible."""

from __future__ import annotations

import json
import os
import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def small_disk(folder: Path, *, size: str) -> Iterator[Path]:
    """Mount an empty file system of a size (as ``"1m"``) on a new folder; the test is skipped where only root could."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "nightmill-test", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"this machine lets nobody mount a file system: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def make_read_only(folder: Path) -> None:
    """Make a file system that :func:`small_disk` gave read-only."""
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Write to a file system until it has no room left."""
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return


def as_nobody(function: Callable[[], Any], *, first: Callable[[], object] = lambda: None, user: int = 65534) -> Any:
    """Return what a function returns in a process of a user without rights, through JSON; for root alone.

    What is to be first is done in that process, as root.
    """
    if os.geteuid() != 0:
        return json.loads(json.dumps(function()))
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            first()
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            os.write(sender, json.dumps(function()).encode())
        except BaseException:  # noqa: BLE001 - it is told, and nothing is answered
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(sender)
    with os.fdopen(receiver, "rb") as file:
        told = file.read()
    os.waitpid(child, 0)
    return json.loads(told)
