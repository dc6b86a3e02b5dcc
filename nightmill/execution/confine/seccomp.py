"""System calls that a step has no use for, or that Landlock does not hold: a filter of classic BPF."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Final

from nightmill.model.confinement import Network

_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ANY_BIT: Final = 0x45
_ALLOW: Final = 0x7FFF0000
_ERROR: Final = 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_X32: Final = 0x40000000
_NEW_NAMESPACES: Final = 0x7E020080
_FAST_OPEN: Final = 0x20000000
_TYPE: Final = 0xF
_TCP: Final = 6

_ARCHITECTURES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CALLS: Final[Mapping[str, Mapping[str, int]]] = {
    "x86_64": {
        "socket": 41, "sendto": 44, "sendmsg": 46, "listen": 50, "socketpair": 53, "clone": 56, "setpriority": 141,
        "sched_setparam": 142, "sched_setscheduler": 144, "ioprio_set": 251, "prlimit64": 302, "sched_setattr": 314,
        "pivot_root": 155, "mount": 165, "umount2": 166, "swapon": 167, "init_module": 175, "delete_module": 176,
        "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272, "perf_event_open": 298,
        "open_by_handle_at": 304, "sendmmsg": 307, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311,
        "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
    },
    "aarch64": {
        "socket": 198, "sendto": 206, "sendmsg": 211, "listen": 201, "socketpair": 199, "clone": 220,
        "setpriority": 140, "sched_setparam": 118, "sched_setscheduler": 119, "ioprio_set": 30, "prlimit64": 261,
        "sched_setattr": 274, "pivot_root": 41, "mount": 40, "umount2": 39, "swapon": 224, "init_module": 105,
        "delete_module": 106, "kexec_load": 104, "add_key": 217, "request_key": 218, "keyctl": 219, "unshare": 97,
        "perf_event_open": 241, "open_by_handle_at": 265, "sendmmsg": 269, "setns": 268, "process_vm_readv": 270,
        "process_vm_writev": 271, "finit_module": 273, "kexec_file_load": 294, "bpf": 280, "userfaultfd": 282,
    },
}  # fmt: skip
_NEWER: Final = {
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_getfd": 438, "mount_setattr": 442, "open_tree_attr": 467,
}  # fmt: skip
_ABSENT: Final = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "clone3": 435}
"""Calls that look as in a kernel that lacks them: programs then do what they want by others."""
_OF_OTHERS: Final[Mapping[str, tuple[int, int | None]]] = {
    "sched_setparam": (0, None), "sched_setscheduler": (0, None), "sched_setattr": (0, None), "prlimit64": (0, None),
    "setpriority": (1, 2), "ioprio_set": (1, 3),
}  # fmt: skip
"""Calls by which a process slows down others of its user, or has the kernel end them: which argument says whom, 0 for
itself, and which value of the first says all of its user."""
_BY_ARGUMENT: Final = (
    "socket",
    "socketpair",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "listen",
    "clone",
    "unshare",
    *_OF_OTHERS,
)

Instruction = tuple[int, int, int, int]


def lacking() -> list[str]:
    """Return what cannot be filtered on this machine, a sentence each."""
    machine = os.uname().machine
    return [] if machine in _CALLS else [f"the system calls of {machine} are not known, and none is filtered"]


@cache
def filter_of(network: Network, sockets: bool, *, traced: bool = False) -> bytes:
    """Return the filter of steps with this network, as the kernel takes it; empty where the machine is not known.

    Parameters
    ----------
    sockets
        Whether UNIX sockets may be made.
    traced
        Whether who traces the step denies it sockets, and tells of them: a filter would answer before that.
    """
    machine = os.uname().machine
    if machine not in _CALLS:
        return b""
    calls = {**_CALLS[machine], **_NEWER}
    program = [(_LOAD, 0, 0, _ARCHITECTURE), *_unless(_EQUAL, _ARCHITECTURES[machine], errno.ENOSYS)]
    program += [(_LOAD, 0, 0, _NUMBER)]
    if machine == "x86_64":
        program += [(_AT_LEAST, 0, 1, _X32), _error(errno.ENOSYS)]
    for number in _ABSENT.values():
        program += [(_EQUAL, 0, 1, number), _error(errno.ENOSYS)]
    for name, number in calls.items():
        if name not in _BY_ARGUMENT:
            program += [(_EQUAL, 0, 1, number), _error(errno.EPERM)]
    for name in ("clone", "unshare"):
        program += _call(calls[name], [_argument(0), (_ANY_BIT, 0, 1, _NEW_NAMESPACES), _error(errno.EPERM), _ALLOWED])
    program += _sockets(calls, network, sockets, traced=traced)
    for name, (whom, everybody) in _OF_OTHERS.items():
        program += _call(calls[name], list(_itself_alone(name, whom, everybody)))
    return b"".join(struct.pack("<HBBI", *each) for each in [*program, _ALLOWED])


def _sockets(calls: Mapping[str, int], network: Network, sockets: bool, *, traced: bool) -> Iterable[Instruction]:
    """Yield what is done at calls that make sockets, and that reach others by them."""
    if not traced:
        yield from _call(calls["socket"], [*_socket(network, sockets), _error(errno.EACCES)])
    if not sockets:  # one of a pair that is not bound to the other sends messages to any socket of the host
        bound = _any_of((socket.SOCK_STREAM, socket.SOCK_SEQPACKET))
        pair = [_argument(0), *_unless(_EQUAL, socket.AF_UNIX, errno.EACCES), _argument(1), (_AND, 0, 0, _TYPE), *bound]
        yield from _call(calls["socketpair"], [*pair, _error(errno.EACCES)])
    if network not in ("on", "off"):
        for name, place in (("sendto", 3), ("sendmsg", 2), ("sendmmsg", 3)):  # a connection that Landlock does not see
            fast = [_argument(place), (_ANY_BIT, 0, 1, _FAST_OPEN), _error(errno.EACCES), _ALLOWED]
            yield from _call(calls[name], fast)
        if not sockets:
            yield from _call(calls["listen"], [_error(errno.EACCES)])


def _socket(network: Network, sockets: bool) -> Iterable[Instruction]:
    """Yield what allows a socket that may be made, and goes on at any other."""
    yield _argument(0)
    if sockets:
        yield from ((_EQUAL, 0, 1, socket.AF_UNIX), _ALLOWED)
    if network == "on":
        for family in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK):
            yield from ((_EQUAL, 0, 1, family), _ALLOWED)
    elif network != "off":
        yield from ((_EQUAL, 1, 0, socket.AF_INET), (_EQUAL, 0, 7, socket.AF_INET6))
        yield from (_argument(1), (_AND, 0, 0, _TYPE), (_EQUAL, 0, 4, socket.SOCK_STREAM))
        yield from (_argument(2), (_EQUAL, 1, 0, 0), (_EQUAL, 0, 1, _TCP), _ALLOWED)


def _itself_alone(name: str, whom: int, everybody: int | None) -> Iterable[Instruction]:
    """Yield what denies a call that changes other processes."""
    if everybody is not None:
        yield from (_argument(0), (_EQUAL, 0, 1, everybody), _error(errno.EPERM))
    yield from (_argument(whom), *_any_of((0,)))
    if name == "prlimit64":  # which only asks where it has no new limit
        low, high = _argument(2), _argument(2, half=1)
        yield from (low, (_EQUAL, 0, 3, 0), high, *_any_of((0,)))
    yield _error(errno.EPERM)


def _any_of(values: Sequence[int]) -> Iterable[Instruction]:
    """Yield what allows a call where what was loaded is one of some values, and goes on at any other."""
    for value in values:
        yield from ((_EQUAL, 0, 1, value), _ALLOWED)


def _call(number: int, body: list[Instruction]) -> list[Instruction]:
    """Return what is done at a call, and nowhere else; it always ends there."""
    return [(_EQUAL, 0, len(body), number), *body]


def _argument(number: int, half: int = 0) -> Instruction:
    return _LOAD, 0, 0, _ARGUMENTS + 8 * number + 4 * half


def _error(number: int) -> Instruction:
    return _RETURN, 0, 0, _ERROR | number


def _unless(test: int, value: int, number: int) -> list[Instruction]:
    return [(test, 1, 0, value), _error(number)]


_ALLOWED: Final[Instruction] = (_RETURN, 0, 0, _ALLOW)
