"""A small process that starts the steps of a worker one at a time, confined, and ends all that they leave.

It is run by its path with an empty environment, and needs nothing but the standard library there:
``spawner_process.py DESCRIPTOR``. The descriptor is a socket to the worker. A message is its length, and what
``marshal`` makes of a value; :mod:`nightmill.execution.confine.spawner` has the other end and tells what they say.

It has no secret. Whatever a step starts comes to it when its parent ends, whatever session, group,
folder or environment it chose (``PR_SET_CHILD_SUBREAPER``), and so ends with the step; all ends with the worker.
"""

from __future__ import annotations

import _thread
import ctypes
import errno
import gc
import marshal
import os
import resource
import select
import signal
import socket
import stat
import sys
from contextlib import suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any  # which costs as much as all else that is imported here

LENGTH = 8
_BLOCK = 1 << 20
_LOOK_MS = 1000
"""So often, what has ended and belongs to nobody is reaped while a step runs: somebody may wait until it is gone."""
_PR_SET_SECCOMP, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 22, 36, 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_RULE_PATH_BENEATH, _RULE_NET_PORT, _CONNECT_TCP = 1, 2, 2
_CLONE_FS, _CLONE_NEWNS, _CLONE_NEWUSER = 0x00000200, 0x00020000, 0x10000000
_MS_REC, _MS_SLAVE = 0x4000, 0x80000
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_MOVE_FROM_EMPTY_PATH, _TREE_CLONE, _TREE_CLOEXEC = 4, 1, os.O_CLOEXEC
_READ_ONLY = 1
_CAPABILITIES = 0x20080522
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""What Python ignores, and a step does not."""
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


def main(descriptor: str) -> None:
    """Serve a worker until it has ended."""
    control = socket.socket(fileno=int(descriptor))
    control.set_inheritable(False)
    worker = os.pidfd_open(os.getppid())
    _called(_c.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
    (handled, limits), _nothing = receive(control)
    for limit, count in limits:
        hard = resource.getrlimit(limit)[1]
        most = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(limit, (most, most))
    fault = enter()
    send(control, fault)
    places: list[tuple[int, int]] = []
    gc.collect()
    gc.freeze()
    while True:
        request, output = receive(control)
        if request["software"] is not None:
            for place, _access in places:
                os.close(place)
            places = opened(request["software"])
        if fault:
            request["writable"] = []
        step, reading, trouble = start(request, handled, places)
        send(control, trouble or step)
        if not trouble:
            serve(control, worker, step, reading, output)
        os.close(output)


def receive(control: socket.socket) -> tuple[Any, int]:
    """Return a message and the descriptor that came with it, -1 for none; end with the worker."""
    body, size = b"", 1
    with suppress(ConnectionError):
        head, descriptors, _flags, _address = socket.recv_fds(control, LENGTH, 1)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        if len(head) == LENGTH:
            body = control.recv(size := int.from_bytes(head, "little"), socket.MSG_WAITALL)
    if len(body) < size:
        end_all(0)
        os._exit(0)
    return marshal.loads(body), descriptors[0] if descriptors else -1  # noqa: S302 - of the worker


def send(control: socket.socket, value: Any) -> None:
    """Send a message; end with the worker."""
    body = marshal.dumps(value)
    try:
        control.sendall(len(body).to_bytes(LENGTH, "little") + body)
    except ConnectionError:
        end_all(0)
        os._exit(0)


# -------------------------------------------------------------------------------------------------- confining


def enter() -> str:
    """See the files of the host read-only, and nobody else so; say why that cannot be, or nothing."""
    try:
        try:
            _called(_c.unshare(_CLONE_NEWNS))
        except PermissionError:
            user, group = os.getuid(), os.getgid()
            _called(_c.unshare(_CLONE_NEWNS | _CLONE_NEWUSER))
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


def mount_room(writable: list[bytes], sealed: list[bytes]) -> None:
    """See some folders writable, and read-only those in them that are to stay so."""
    _called(_c.unshare(_CLONE_NEWNS))
    trees = [(_tree(path), path, path in writable) for path in (*writable, *sealed)]
    for tree, path, is_writable in trees:
        if is_writable:
            read_only(b"", _AT_EMPTY_PATH, folder=tree, clear=True)
        flags = ctypes.c_uint(_MOVE_FROM_EMPTY_PATH)
        _called(_c.syscall(ctypes.c_long(_MOVE_MOUNT), tree, b"", ctypes.c_int(_AT_FDCWD), path, flags))


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


# --------------------------------------------------------------------------------------------------- starting


def start(
    request: dict[str, Any], handled: tuple[int, int, int], places: list[tuple[int, int]]
) -> tuple[int, int, tuple[str, int] | None]:
    """Start a step; return its number, where its output comes, and what could not be done, with the error.

    What confines is of a thread, and of what that thread starts: so a thread confines itself, and its last act is to
    start the step. A fork of this process would cost a millisecond more.
    """
    reading, writing = os.pipe()
    began: list[int] = []
    faults: list[tuple[str, int]] = []
    done = _thread.allocate_lock()
    done.acquire()

    def begin() -> None:
        stage = ["confine"]
        try:
            began.append(become(request, handled, places, writing, stage))
        except OSError as error:
            faults.append((stage[0], error.errno or 0))
        finally:
            done.release()

    try:
        _thread.start_new_thread(begin, ())
        done.acquire()
    except RuntimeError:
        faults.append(("confine", errno.EAGAIN))
    os.close(writing)
    if not began:
        os.close(reading)
        return 0, -1, faults[0] if faults else ("confine", 0)
    return began[0], reading, None


def become(
    request: dict[str, Any], handled: tuple[int, int, int], places: list[tuple[int, int]], output: int, stage: list[str]
) -> int:
    """Confine this thread and start a step, which is confined as it is; return its number.

    What fails is an error, of the stage that is noted.
    """
    if request["writable"]:
        mount_room(request["writable"], request["sealed"])
    else:
        _called(_c.unshare(_CLONE_FS))
    stage[0] = "chdir"
    os.chdir(request["directory"])
    stage[0] = "confine"
    confine(request, handled, places)
    stage[0] = "exec"
    return execute(request["argv"], request["environment"], output)


def confine(request: dict[str, Any], handled: tuple[int, int, int], places: list[tuple[int, int]]) -> None:
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


def execute(argv: list[bytes], environment: dict[bytes, bytes], output: int) -> int:
    """Start a program, which is looked for as its own environment says, and return its number."""
    program = argv[0]
    folders = environment.get(b"PATH", os.fsencode(os.defpath)).split(b":")
    actions = [(os.POSIX_SPAWN_DUP2, output, number) for number in (1, 2)]  # its stdin is that of this process: nothing
    told: OSError | None = None
    for path in [program] if b"/" in program else [os.path.join(folder, program) for folder in folders]:
        try:
            if path is not program:
                os.stat(path)
            return os.posix_spawn(path, argv, environment, file_actions=actions, setsid=True, setsigdef=_IGNORED)
        except OSError as error:
            if told is None or isinstance(told, FileNotFoundError | NotADirectoryError):
                told = error
    raise told or FileNotFoundError(errno.ENOENT, "")


# ---------------------------------------------------------------------------------------- running, and the end


def serve(control: socket.socket, worker: int, step: int, reading: int, output: int) -> None:
    """Write down what a step says until the worker has it ended; tell how it ended."""
    poll = select.poll()
    for descriptor in (control.fileno(), worker, reading):
        poll.register(descriptor, select.POLLIN)
    ask = {control.fileno(), worker}
    while not ask & (ready := {descriptor for descriptor, _event in poll.poll(_LOOK_MS)}):
        if not ready:
            reap_orphans(step)
        elif not pump(reading, output):
            poll.unregister(reading)
    if worker in ready:
        end_all(step)
        os._exit(0)
    spared, _nothing = receive(control)
    status, usage = end_all(step, spared)
    while pump(reading, output):
        pass
    os.close(reading)
    largest = usage.ru_maxrss if usage.ru_maxrss > resource.getrusage(resource.RUSAGE_SELF).ru_maxrss else 0
    send(control, (status, usage.ru_utime, usage.ru_stime, largest * 1024))


def pump(reading: int, output: int) -> bool:
    """Write down what a step said meanwhile; return whether more may come. A full disk loses some of it."""
    text = os.read(reading, _BLOCK)
    with suppress(OSError):
        rest = memoryview(text)
        while rest:
            rest = rest[os.write(output, rest) :]
    return bool(text)


def reap_orphans(step: int) -> None:
    """Reap what has ended beside the step."""
    for pid in children():
        if pid != step:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def end_all(step: int, spared: int = 0) -> tuple[int, resource.struct_rusage]:
    """End the step and whatever it started, reap all of them, and return the status of the step and what it took.

    Who is left by a parent that ended comes to this process, as long as it lives: so it ends once there is nobody. What
    traces the step may be spared: it tells the end of each, and ends with the last.
    """
    found = 0, resource.getrusage(resource.RUSAGE_CHILDREN)
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                own = [child for child in children() if child != spared]
                for number in (signal.SIGSTOP, signal.SIGKILL):  # who stands still starts nobody meanwhile
                    for child in own:
                        os.kill(child, number)  # its number is its own: nobody else reaps it
                pid, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return found
        if pid == step:
            found = status, usage


def children() -> list[int]:
    """Return the children of this process, those among them that have ended too."""
    found = b""
    for thread in os.listdir("/proc/self/task"):
        with suppress(OSError), open(f"/proc/self/task/{thread}/children", "rb", buffering=0) as file:
            found += file.read()
    return [int(word) for word in found.split()]


if __name__ == "__main__":
    main(*sys.argv[1:])
