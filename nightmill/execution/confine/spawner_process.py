"""A small process that starts the steps of a worker one at a time, confined, and ends all that they leave.

It is run by its path with an empty environment, and needs nothing but the standard library there:
``spawner_process.py DESCRIPTOR``. The descriptor is a socket to the worker. A message is its length, and what
``marshal`` makes of a value; :mod:`nightmill.execution.confine.spawner` has the other end and tells what they say.

It has no secret. Whatever a step starts comes to it when its parent ends, whatever session, group,
folder or environment it chose (``PR_SET_CHILD_SUBREAPER``), and so ends with the step; all ends with the worker.
"""

from __future__ import annotations

import _thread
import errno
import gc
import marshal
import os
import resource
import select
import signal
import socket
import sys
import types
from contextlib import suppress
from importlib.machinery import SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:  # which costs as much as all else that is imported here
    from collections.abc import Callable
    from typing import Any, NoReturn

    Handled = tuple[int, int, int]
    Places = list[tuple[int, int]]
    Prepare = Callable[[dict[str, Any], Handled, Places], str]
    Begin = Callable[[dict[str, Any], Handled, Places], tuple[int, int, tuple[str, int] | None]]

LENGTH = 8
_BLOCK = 1 << 20
_LOOK_MS = 1000
"""So often, what has ended and belongs to nobody is reaped while a step runs: somebody may wait until it is gone."""
_IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)
"""What Python ignores, and a step does not."""

_FIRST_TO_GO = b"1000"
"""Whom the kernel kills where a control group has no memory left: the step, not this process."""

leaving: list[Callable[[], object]] = []
"""What is done when this process ends by itself."""

if TYPE_CHECKING:
    from nightmill.execution.confine import held
else:  # of nightmill nothing can be imported here
    held = types.ModuleType("held")
    SourceFileLoader("held", os.path.join(os.path.dirname(__file__), "held.py")).exec_module(held)


def main(descriptor: str, prepare: Prepare | None = None, begin: Begin | None = None) -> Any:
    """Serve a worker until it has ended; return only in a fork that is to be the step, with what was asked for.

    Parameters
    ----------
    prepare
        Done once before the first step, as a request says; it says why there can be no step, or nothing.
    begin
        Starts a step, as :func:`start` does; number 0 says that this process is the step.
    """
    control = socket.socket(fileno=int(descriptor))
    control.set_inheritable(False)
    worker = os.pidfd_open(os.getppid())
    held.adopt()
    (handled, limits, confines, is_grouped), _nothing = receive(control)
    rank, own_rank = opened_rank() if is_grouped else ([], b"")
    for limit, count in limits:
        hard = resource.getrlimit(limit)[1]
        most = count if hard == resource.RLIM_INFINITY else min(count, hard)
        resource.setrlimit(limit, (most, most))
    fault = held.enter() if confines else ""
    send(control, fault)
    places: Places = []
    if prepare is not None:
        request, _nothing = receive(control)
        request["writable"] = [] if fault else request["writable"]
        places = held.opened(request["software"])
        send(control, prepare(request, handled, places))
    gc.collect()
    gc.freeze()
    while True:
        request, output = receive(control)
        if request["software"] is not None:
            for place, _access in places:
                os.close(place)
            places = held.opened(request["software"])
        if fault:
            request["writable"] = []
        set_rank(rank, _FIRST_TO_GO)
        step, reading, trouble = (begin or start)(request, handled, places)
        if not step and not trouble:
            for own in (control.detach(), worker, output, *rank, *[place for place, _access in places]):
                os.close(own)
            return request
        set_rank(rank, own_rank)
        send(control, trouble or step)
        if not trouble:
            serve(control, worker, step, reading, output)
        os.close(output)


def opened_rank() -> tuple[list[int], bytes]:
    """Return where the kernel is told how soon to kill this process, and what it is told; soon all is read-only."""
    rank = os.open("/proc/self/oom_score_adj", os.O_RDWR)
    return [rank], os.read(rank, 8)


def set_rank(rank: list[int], value: bytes) -> None:
    """Tell the kernel how soon to kill this process, and what it starts, where memory lacks."""
    for each in rank:
        os.pwrite(each, value, 0)


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
        leave()
    return marshal.loads(body), descriptors[0] if descriptors else -1  # noqa: S302 - of the worker


def send(control: socket.socket, value: Any) -> None:
    """Send a message; end with the worker."""
    body = marshal.dumps(value)
    try:
        control.sendall(len(body).to_bytes(LENGTH, "little") + body)
    except ConnectionError:
        end_all(0)
        leave()


def leave() -> NoReturn:
    """End, and do before what is to be done then."""
    for each in leaving:
        each()
    os._exit(0)


# --------------------------------------------------------------------------------------------------- starting


def start(request: dict[str, Any], handled: Handled, places: Places) -> tuple[int, int, tuple[str, int] | None]:
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
    os.chdir("/")
    os.close(writing)
    if not began:
        os.close(reading)
        return 0, -1, faults[0] if faults else ("confine", 0)
    return began[0], reading, None


def become(request: dict[str, Any], handled: Handled, places: Places, output: int, stage: list[str]) -> int:
    """Confine this thread and start a step, which is confined as it is; return its number.

    What fails is an error, of the stage that is noted.
    """
    held.settle(request, handled, places, stage)
    stage[0] = "exec"
    return execute(request["argv"], request["environment"], output)


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
        leave()
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
    main(sys.argv[1])
