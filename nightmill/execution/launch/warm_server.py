"""A process that has imported modules, and forks for each step that its worker asks for.

It is run by its path, with the Python and the environment of the steps, and needs nothing but the standard library
there: ``warm_server.py DESCRIPTOR FOLDER MODULE...``. The descriptor is a socket. It says once whether it is ready, or
why it is not. Then each message brings two descriptors: a channel to the worker, and the output of a step. For each it
forks a process, which reads on the channel what it is to be, tells its number, and becomes that when it is told to.

That process is a child of the worker, like any other step (``CLONE_PARENT``): so the worker waits for it, nobody but
the step is harmed where this process ends, and a step that kills its parent does what it would do elsewhere. It has
the command line and the environment that a program of its own would have, also for those who look from outside.
"""

from __future__ import annotations

import builtins
import ctypes
import gc
import importlib
import importlib.machinery
import json
import os
import pkgutil
import runpy
import select
import shutil
import signal
import socket
import sys
import threading
import types
import warnings
from contextlib import suppress

CLONE_PARENT = 0x8000
_CLONE_SETTID, _CLONE_CLEARTID = 0x01000000, 0x00200000
_PR_SET_MM, _PR_SET_MM_MAP, _PR_GET_TID_ADDRESS = 35, 14, 40
_CLONE_CALLS = {"x86_64": (56, False), "aarch64": (220, True)}
"""Number of the call, and whether the place of the thread's number is its last argument."""
_TRIAL_SECONDS = 10
_kept: list[object] = []
"""What the kernel reads as command line and environment."""

_c = ctypes.PyDLL(None)
_c.sbrk.restype = ctypes.c_void_p
_c.syscall.restype = ctypes.c_long


def main(descriptor: str, folder: str, *modules: str) -> None:
    """Import modules and serve; in a fork, return when the step has returned."""
    if not sys.flags.safe_path:
        del sys.path[0]  # the folder of this file, where a step has its own
    relative = {os.path.abspath(path): path for path in relative_paths()}
    umask = os.umask(0o077)
    os.umask(umask)
    control = socket.socket(fileno=int(descriptor))
    with open("/proc/self/environ", "rb") as file:
        began = file.read().split(b"\0")
    fault = imported(modules) or unfit()
    others = {name: value for name, value in os.environ.items() if os.fsencode(f"{name}={value}") not in began}
    control.sendall((fault or "ready").encode(errors="replace"))
    if fault:
        sys.exit(1)
    channel, output = serve(control, folder)
    os.umask(umask)
    control.close()
    become(channel, output, others, relative)


def relative_paths() -> list[str]:
    """Return what ``PYTHONPATH`` has of paths that stand for another folder wherever a process works."""
    paths = os.environ.get("PYTHONPATH")
    return [path for path in paths.split(os.pathsep) if not os.path.isabs(path)] if paths else []


def imported(modules: tuple[str, ...]) -> str:
    """Import modules; say which could not be, and why, or nothing."""
    for name in modules:
        try:
            importlib.import_module(name)
        except BaseException as error:  # noqa: BLE001 - whatever it is, a step without this process meets it itself
            return f"module {name!r} could not be imported: {type(error).__name__}: {error}"
    return ""


def unfit() -> str:
    """Say why this process cannot fork, or nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pid = os.fork()  # libraries that put their threads away for a fork do so now
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        return f"its modules have started {threads - 1} threads, which a fork would not have"
    if os.uname().machine not in _CLONE_CALLS:
        return f"it is not known how to fork on {os.uname().machine}"
    place = _thread_number()
    if not place or ctypes.c_int.from_address(place).value != os.getpid():
        return "this C library does not tell where it keeps the number of a thread"
    gc.collect()
    gc.freeze()
    pid = fork(0)
    if pid == 0:
        thread = threading.Thread(target=_nothing)
        thread.start()
        thread.join()
        os._exit(0 if show(["trial"], {}) else 1)
    if pid > 0:
        ended = os.pidfd_open(pid)
        if not select.select([ended], [], [], _TRIAL_SECONDS)[0]:
            os.kill(pid, signal.SIGKILL)
        os.close(ended)
    return "" if pid > 0 and os.waitpid(pid, 0)[1] == 0 else "a fork did not work when it was tried"


def _nothing() -> None:
    pass


def serve(control: socket.socket, folder: str) -> tuple[int, int]:
    """Fork for each message; in a fork, return its descriptors. Ends when the worker has ended."""
    while True:
        _message, descriptors, _flags, _address = socket.recv_fds(control, 1, 2)
        if len(descriptors) != 2:
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(0)
        sys.stdout.flush()
        sys.stderr.flush()
        if fork(CLONE_PARENT) == 0:
            return descriptors[0], descriptors[1]
        for descriptor in descriptors:
            os.close(descriptor)


def fork(flags: int) -> int:
    """Do what ``os.fork`` does, with other flags; return -1 where the kernel refuses.

    Handlers of ``pthread_atfork`` are not called: this process has one thread, so no lock is held by another.
    """
    number, is_last = _CLONE_CALLS[os.uname().machine]
    place = ctypes.c_void_p(_thread_number())
    ends = [None, place] if is_last else [place, None]
    flags |= _CLONE_SETTID | _CLONE_CLEARTID | signal.SIGCHLD
    arguments = [ctypes.c_long(number), ctypes.c_ulong(flags), None, None, *ends]
    ctypes.pythonapi.PyOS_BeforeFork()
    pid = int(_c.syscall(*arguments))
    (ctypes.pythonapi.PyOS_AfterFork_Parent if pid else ctypes.pythonapi.PyOS_AfterFork_Child)()
    return pid


def _thread_number() -> int:
    """Return the place where the C library keeps the number of this thread, which a fork has to set; 0 for none."""
    place = ctypes.c_void_p()
    _c.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(place), None, None, None)
    return place.value or 0


def show(argv: list[str], environment: dict[str, str]) -> bool:
    """Have the kernel tell this command line and environment to who asks; return whether it does."""
    texts = [argv, [f"{name}={value}" for name, value in environment.items()]]
    blocks = [b"".join(os.fsencode(text) + b"\0" for text in each) for each in texts]
    buffers = [ctypes.create_string_buffer(block, len(block) + 1) for block in blocks]
    _kept[:] = buffers
    ends = [place for block, buffer in zip(blocks, buffers, strict=True) for place in _ends(buffer, len(block))]
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    code = [int(fields[number - 3]) for number in (26, 27, 45, 46, 47)]  # as proc(5) counts them
    places = [*code, _c.sbrk(None), int(fields[28 - 3]), *ends, 0, 0xFFFFFFFF << 32]
    mapped = (ctypes.c_uint64 * len(places))(*places)
    size = ctypes.c_ulong(ctypes.sizeof(mapped))
    return int(_c.prctl(_PR_SET_MM, ctypes.c_ulong(_PR_SET_MM_MAP), ctypes.byref(mapped), size, None)) == 0


def _ends(buffer: ctypes.Array[ctypes.c_char], size: int) -> tuple[int, int]:
    begin = ctypes.addressof(buffer)
    return begin, begin + size


def become(channel: int, output: int, others: dict[str, str], relative: dict[str, str]) -> None:
    """Be the step that a worker asks for, from its session to its exit code.

    Parameters
    ----------
    others
        Environment variables that the interpreter or its modules have set.
    relative
        Of its search path, what is to be of the working folder of the step, as it is written.
    """
    os.setsid()
    with socket.socket(fileno=channel) as worker, worker.makefile("rb") as stream:
        request = json.loads(stream.readline() or "{}")
        argv: list[str] = request.get("argv", [])
        environment: dict[str, str] = request.get("environment", {})
        show(argv, environment)
        worker.sendall(os.getpid().to_bytes(4, "big"))
        if not stream.read(1):  # the worker has gone, or given up: it does not know this process
            os._exit(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in enumerate((nothing, output, output)):
        os.dup2(descriptor, number)
    os.close(nothing)
    os.close(output)
    os.chdir(request["directory"])
    os.environ.clear()
    os.environ.update(environment | others)
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()  # as Python's own, which its fork has seeded
    if "tempfile" in sys.modules:
        vars(sys.modules["tempfile"])["tempdir"] = None
    sys.path[:] = [os.path.abspath(relative[path]) if path in relative else path for path in sys.path]
    run(argv, environment, [os.path.abspath(path) for path in relative.values()])


def run(argv: list[str], environment: dict[str, str], folders: list[str]) -> None:
    """Run a command line of Python as its main program.

    Parameters
    ----------
    folders
        Of its search path, those that its modules were not imported with.
    """
    sys.orig_argv[:] = argv
    sys.argv[:] = argv[1:]
    is_module = len(argv) > 2 and argv[1] == "-m"
    path = "" if is_module else os.path.join(os.getcwd(), *argv[1:2])
    why = "" if is_module else unreadable(path)
    if not sys.flags.safe_path:
        sys.path.insert(0, os.getcwd() if is_module else os.path.dirname(os.path.realpath(path)))
        folders = [sys.path[0], *folders]
    if why := why or "".join(map(hidden, folders)):
        os.write(2, f"== started without the modules of warm: {why}\n".encode())
        os.execvpe(argv[0], argv, environment)  # noqa: S606 - steps have no shell
    own = types.ModuleType("__main__")
    own.__dict__.update({"__builtins__": builtins, "__annotations__": {}})
    sys.modules["__main__"] = own
    try:
        if is_module:
            sys.argv[:] = ["-m", *argv[3:]]
            vars(runpy)["_run_module_as_main"](argv[2])  # what the interpreter itself calls for -m
        else:
            loader = importlib.machinery.SourceFileLoader("__main__", path)
            own.__dict__.update({"__file__": path, "__cached__": None, "__loader__": loader})
            exec(compile(loader.get_data(path), path, "exec", dont_inherit=True), own.__dict__)  # noqa: S102 - its job
    except SystemExit:
        raise
    except BaseException as error:
        end = error.__traceback__
        while end is not None and end.tb_frame.f_code.co_filename == __file__:
            end = end.tb_next
        sys.excepthook(type(error), error.with_traceback(end), end)
        sys.excepthook = _told  # the interpreter does the rest
        raise


def _told(*_error: object) -> None:
    pass


def unreadable(script: str) -> str:
    """Say why the interpreter has to read a script itself, or nothing."""
    is_text = os.path.isfile(script) and not script.endswith(".pyc") and pkgutil.get_importer(script) is None
    return "" if is_text and os.access(script, os.R_OK) else f"{script} is not a script of Python"


def hidden(folder: str) -> str:
    """Say which module that was imported hides one of a folder that comes first, or nothing."""
    suffixes = tuple(importlib.machinery.all_suffixes())
    entries: list[str] = []
    with suppress(OSError):  # as the interpreter, which then finds nothing there
        entries = os.listdir(folder)
    for entry in entries:
        loaded = sys.modules.get(entry.partition(".")[0])
        origin = getattr(getattr(loaded, "__spec__", None), "origin", None)
        if not origin or origin in ("built-in", "frozen") or origin.startswith(os.path.join(folder, "")):
            continue
        if entry.endswith(suffixes) or os.path.exists(os.path.join(folder, entry, "__init__.py")):
            return f"{entry} in {folder} has the name of a module that was imported"
    return ""


if __name__ == "__main__":
    main(*sys.argv[1:])
