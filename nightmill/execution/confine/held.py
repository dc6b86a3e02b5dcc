"""What a thread, and whatever it starts, is confined by: mounts, Landlock, capabilities and a filter of system calls.

It is a part of :mod:`nightmill.execution.confine.spawner_process`, and as that needs nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import os
import stat
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:  # which costs as much as all else that is imported here
    from typing import Any

    Handled = tuple[int, int, int]
    Places = list[tuple[int, int]]

_PR_SET_SECCOMP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 22, 36, 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_RULE_PATH_BENEATH, _RULE_NET_PORT, _CONNECT_TCP = 1, 2, 2
_CLONE_FS, _CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWUSER = 0x00000200, 0x00020000, 0x08000000, 0x10000000
_MS_NOSUID, _MS_NODEV, _MS_REC, _MS_SLAVE = 2, 4, 0x4000, 0x80000
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_MOVE_FROM_EMPTY_PATH, _TREE_CLONE, _TREE_CLOEXEC = 4, 1, os.O_CLOEXEC
_READ_ONLY = 1
_CAPABILITIES = 0x20080522
_OF_FILES = 0b1100000000000111
"""Of what Landlock knows, what can be done with a file."""

_c = ctypes.CDLL(None, use_errno=True)
_c.syscall.restype = ctypes.c_long


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("descriptor", ctypes.c_int32))


class _PortRule(ctypes.Structure):
    _fields_ = (("access", ctypes.c_uint64), ("port", ctypes.c_uint64))


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def adopt() -> None:
    """Be who gets all that a descendant of this process leaves without a parent."""
    _called(_c.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def enter() -> str:
    """See the files of the host read-only, and nobody else so; say why that cannot be, or nothing."""
    try:
        try:
            _called(_c.unshare(_CLONE_NEWNS | _CLONE_NEWIPC))
        except PermissionError:
            user, group = os.getuid(), os.getgid()
            _called(_c.unshare(_CLONE_NEWNS | _CLONE_NEWIPC | _CLONE_NEWUSER))
            for name, text in (
                ("setgroups", "deny"),
                ("uid_map", f"{user} {user} 1"),
                ("gid_map", f"{group} {group} 1"),
            ):
                with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                    file.write(text)
        _called(_c.mount(None, b"/", None, _MS_REC | _MS_SLAVE, None))
        read_only(b"/", _AT_RECURSIVE)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def read_only(path: bytes, flags: int = 0, *, folder: int = _AT_FDCWD, clear: bool = False) -> None:
    """Make a mount read-only, or writable again."""
    wanted = _MountAttributes(0 if clear else _READ_ONLY, _READ_ONLY if clear else 0, 0, 0)
    size = ctypes.c_size_t(ctypes.sizeof(wanted))
    _called(_c.syscall(ctypes.c_long(_MOUNT_SETATTR), folder, path, ctypes.c_uint(flags), ctypes.byref(wanted), size))


def mount_room(writable: list[bytes], sealed: list[bytes], empty: list[bytes]) -> None:
    """See some folders writable, read-only those in them that are to stay so, and empty those that are to be one's own.

    What is shared by System V, and what is in the empty ones, ends with the last process that has this room.
    """
    _called(_c.unshare(_CLONE_NEWNS | _CLONE_NEWIPC))
    trees = [(_tree(path), path, path in writable) for path in (*writable, *sealed)]
    for tree, path, is_writable in trees:
        if is_writable:
            read_only(b"", _AT_EMPTY_PATH, folder=tree, clear=True)
        flags = ctypes.c_uint(_MOVE_FROM_EMPTY_PATH)
        _called(_c.syscall(ctypes.c_long(_MOVE_MOUNT), tree, b"", ctypes.c_int(_AT_FDCWD), path, flags))
        os.close(tree)
    for path in empty:
        own = ctypes.c_ulong(_MS_NOSUID | _MS_NODEV)
        _called(_c.mount(b"tmpfs", path, b"tmpfs", own, b"mode=1777"))


def _tree(path: bytes) -> int:
    flags = ctypes.c_uint(_TREE_CLONE | _TREE_CLOEXEC)
    return _called(_c.syscall(ctypes.c_long(_OPEN_TREE), ctypes.c_int(_AT_FDCWD), path, flags))


def opened(places: list[tuple[bytes, int]]) -> list[tuple[int, int]]:
    """Open what steps may reach, as far as it is there and no link: descriptors, and what may be done."""
    found = []
    for path, access in places:
        with suppress(OSError):
            descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW)
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISLNK(mode):
                os.close(descriptor)
            else:
                found.append((descriptor, access if stat.S_ISDIR(mode) else access & _OF_FILES))
    return found


def ruleset_of(handled: tuple[int, int, int], places: list[tuple[int, int]], request: dict[str, Any]) -> int:
    """Return a ruleset of Landlock, -1 where the kernel has none; places that are not there are left out."""
    files, network, scoped = handled
    if not files or not request["closes"]:
        return -1
    network = network if request["ports"] is not None else 0
    attributes = _Ruleset(files, network, scoped)
    size = ctypes.c_size_t(24 if scoped else 16 if network else 8)
    ruleset = _called(_c.syscall(ctypes.c_long(_CREATE_RULESET), ctypes.byref(attributes), size, 0))
    own = opened(request["paths"])
    path_beneath = ctypes.c_long(_ADD_RULE), ctypes.c_int(ruleset), ctypes.c_int(_RULE_PATH_BENEATH)
    for descriptor, access in (*places, *own):
        rule = _PathRule(access & files, descriptor)
        if rule.access:
            _called(_c.syscall(*path_beneath, ctypes.byref(rule), 0))
    for descriptor, _access in own:
        os.close(descriptor)
    for port in (network and request["ports"]) or ():
        allowed = _PortRule(_CONNECT_TCP, port)
        _called(_c.syscall(ctypes.c_long(_ADD_RULE), ruleset, ctypes.c_int(_RULE_NET_PORT), ctypes.byref(allowed), 0))
    return ruleset


def _called(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def settle(request: dict[str, Any], handled: Handled, places: Places, stage: list[str]) -> None:
    """Let this thread work in the folder of its request, and confine it."""
    if request["writable"]:
        mount_room(request["writable"], request["sealed"], request["empty"])
    else:
        with suppress(PermissionError):  # a container may forbid even that: then its process moves there, and back
            _called(_c.unshare(_CLONE_FS))
    stage[0] = "chdir"
    os.chdir(request["directory"])
    stage[0] = "confine"
    confine(request, handled, places)


def confine(request: dict[str, Any], handled: Handled, places: Places) -> None:
    """Confine this thread and what it starts."""
    ruleset = ruleset_of(handled, places, request)
    _called(_c.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    drop_capabilities()
    if ruleset >= 0:
        _called(_c.syscall(ctypes.c_long(_RESTRICT_SELF), ctypes.c_int(ruleset), ctypes.c_uint(0)))
        os.close(ruleset)
    if code := request["filter"]:
        program = _Filter(len(code) // 8, code)
        _called(_c.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(2), ctypes.byref(program), 0, 0))


def drop_capabilities() -> None:
    """Be root no more than in name, where this is root."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES, 0)
    _called(_c.capset(ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)())))
