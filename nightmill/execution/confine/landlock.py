"""Landlock: what this kernel has of it, and the rights that it knows."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Final

EXECUTE: Final = 1 << 0
WRITE_FILE: Final = 1 << 1
READ_FILE: Final = 1 << 2
READ_DIR: Final = 1 << 3
_DEVICES: Final = 1 << 6 | 1 << 11
_REFER: Final = 1 << 13
TRUNCATE: Final = 1 << 14
IOCTL_DEVICE: Final = 1 << 15

READ: Final = READ_FILE | READ_DIR
RUN: Final = READ | EXECUTE
CHANGE: Final = (IOCTL_DEVICE - 1) & ~_DEVICES
"""Whatever a step may do where it works."""
USE_DEVICE: Final = READ_FILE | WRITE_FILE | IOCTL_DEVICE

_TCP: Final = 0b11
CONNECT_TCP: Final = 1 << 1
_ABSTRACT_SOCKETS_AND_SIGNALS: Final = 0b11
_CREATE_RULESET: Final = 444
_VERSION: Final = 1


@cache
def abi() -> int:
    """Return the version of Landlock that this kernel has; 0 for none."""
    return max(0, int(ctypes.CDLL(None).syscall(_CREATE_RULESET, None, 0, _VERSION)))


def handled(version: int) -> tuple[int, int, int]:
    """Return what a version holds: rights on files, on TCP, and what stays within a step."""
    if not version:
        return 0, 0, 0
    files = _REFER - 1
    for since, right in ((2, _REFER), (3, TRUNCATE), (5, IOCTL_DEVICE)):
        files |= right if version >= since else 0
    return files, _TCP if version >= 4 else 0, _ABSTRACT_SOCKETS_AND_SIGNALS if version >= 6 else 0


def lacking(version: int) -> list[str]:
    """Return what a version does not hold, a sentence each."""
    if not version:
        return ["the kernel has no Landlock: files and folders are not closed"]
    needs = {3: "truncating files outside", 4: "TCP ports", 6: "signals to other processes"}
    return [
        f"Landlock {version} of this kernel does not hold {what}" for since, what in needs.items() if version < since
    ]
