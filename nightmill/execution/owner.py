"""Which process this is, and whether another still lives."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path

from nightmill.execution.proc import started_at
from nightmill.model.journal import Owner

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


def this_process() -> Owner:
    """Name this process so that a later one with its number cannot be taken for it."""
    return _own(os.getpid())


@cache
def _own(pid: int) -> Owner:
    return owner_of(pid)


def owner_of(pid: int) -> Owner:
    """Name a process of this host so that a later one with its number cannot be taken for it."""
    return Owner(host=host_name(), boot_id=boot_id(), pid=pid, started_at=started_at(pid) or 0.0)


def host_name() -> str:
    """Return the name by which leases and journals call this host."""
    return socket.gethostname()


@cache
def boot_id() -> str:
    """Return the identity of this boot of this host and, behind a slash, of the PID namespace of this process.

    Containers of one host may share its name and its boot, and each counts its processes anew.
    """
    boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
    try:
        return f"{boot}/{_NAMESPACE.stat().st_ino}"
    except OSError:
        return boot


def is_alive(owner: Owner) -> bool | None:
    """Whether a process still lives.

    Returns
    -------
    bool or None
        None for a process of another host, or of another container of this one: nothing can be said from here.
    """
    if owner.host != host_name():
        return None
    boot, _, namespace = owner.boot_id.partition("/")
    here, _, own = boot_id().partition("/")
    if boot != here:
        return False
    if namespace and own and namespace != own:
        return None
    return started_at(owner.pid) == owner.started_at


def lives(owner: Owner, since: datetime, lost_hosts: Mapping[str, datetime]) -> bool | None:
    """Whether a process still lives, as :func:`is_alive`; one of a host that was declared lost after it began does not.

    Parameters
    ----------
    since
        When it was certainly there.
    lost_hosts
        When hosts were declared lost.
    """
    alive = is_alive(owner)
    return False if alive is None and since < lost_hosts.get(owner.host, since) else alive
