"""Which process this is, and whether another still lives."""

from __future__ import annotations

import os
import socket
from functools import cache
from pathlib import Path

import psutil

from nightmill.model.journal import Owner

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def this_process() -> Owner:
    """Name this process so that a later one with its number cannot be taken for it."""
    return _owner(os.getpid())


@cache
def _owner(pid: int) -> Owner:
    return Owner(host=socket.gethostname(), boot_id=boot_id(), pid=pid, started_at=psutil.Process(pid).create_time())


def boot_id() -> str:
    """Return the identity of this boot of this host; empty where the system has none."""
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""


def is_alive(owner: Owner) -> bool | None:
    """Whether a process still lives.

    Returns
    -------
    bool or None
        None for a process of another host: nothing can be said from here.
    """
    if owner.host != socket.gethostname():
        return None
    if owner.boot_id != boot_id():
        return False
    try:
        process = psutil.Process(owner.pid)
        return abs(process.create_time() - owner.started_at) < 0.1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
