"""A process that has imported modules, and becomes the steps that its worker asks for, each in a fork.

It is run by its path, with the Python and the environment of the steps, and needs nothing but the standard library
there: ``warm_server.py DESCRIPTOR FOLDER MODULE...``. It is a process that starts steps as
:mod:`nightmill.execution.confine.spawner_process` is, whose code it has: it serves one at a time, ends all that they
leave, and confines each as any other step. Once, before the first, it imports the modules: in a thread that is confined
as a step of its own folder.

A step has the command line and the environment that a program of its own would have, also for those who look from
outside.
"""

from __future__ import annotations

import _thread
import builtins
import contextvars
import ctypes
import gc
import importlib
import importlib.machinery
import marshal
import os
import pkgutil
import runpy
import select
import shutil
import signal
import sys
import threading
import time
import types
import warnings
from contextlib import suppress
from functools import partial
from typing import Any

_PR_SET_MM, _PR_SET_MM_MAP = 35, 14
_TRIAL_SECONDS = 10
_kept: list[object] = []
"""What the kernel reads as command line and environment."""

_c = ctypes.PyDLL(None)
_c.sbrk.restype = ctypes.c_void_p


def main(descriptor: str, folder: str, *modules: str) -> None:
    """Import modules and serve; in a fork, return when the step has returned."""
    if not sys.flags.safe_path:
        del sys.path[0]  # the folder of this file, where a step has its own
    relative = {os.path.abspath(path): path for path in relative_paths()}
    umask = os.umask(0o077)
    os.umask(umask)
    with open("/proc/self/environ", "rb") as file:
        began = file.read().split(b"\0")
    spawner = spawner_code()
    place, name = os.path.split(folder)
    around = os.open(place, os.O_RDONLY | os.O_DIRECTORY)  # writable for this process alone, before all else is not
    spawner.leaving.append(partial(shutil.rmtree, name, ignore_errors=True, dir_fd=around))
    context = contextvars.copy_context()
    prepare = partial(prepared, modules, context, spawner.held.settle)
    request = spawner.main(descriptor, prepare, partial(begin, spawner.held.settle))
    os.close(around)
    os.umask(umask)
    others = {name: value for name, value in os.environ.items() if os.fsencode(f"{name}={value}") not in began}
    context.run(become, request, others, relative)


def spawner_code() -> types.ModuleType:
    """Return the code of a process that starts steps; no module of that name is imported for a step."""
    path = os.path.join(os.path.dirname(os.path.dirname(__file__)), "confine", "spawner_process.py")
    module = types.ModuleType("spawner_process")
    module.__file__ = path
    importlib.machinery.SourceFileLoader("spawner_process", path).exec_module(module)
    return module


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


def prepared(
    modules: tuple[str, ...],
    context: contextvars.Context,
    settle: Any,
    request: dict[str, Any],
    handled: tuple[int, int, int],
    places: list[tuple[int, int]],
) -> str:
    """Import modules in a thread that is confined as a request says; say why they cannot be had, or nothing."""
    before, written, told, done = open_files(), written_together(), [""], _thread.allocate_lock()
    done.acquire()

    def work() -> None:
        try:
            if request["paths"] is not None:
                settle(request, handled, places, [""])
            told[0] = context.run(imported, modules)
        except OSError as error:
            told[0] = f"their import cannot be confined: {error}"
        finally:
            done.release()

    _thread.start_new_thread(work, ())
    done.acquire()
    if told[0]:
        return told[0]
    if kept := [path for number, path in open_files().items() if before.get(number) != path]:
        return f"its modules keep {kept[0]} open, which every step would have"
    if shared := written_together() - written:
        return f"its modules keep memory ({next(iter(shared))}) to which all steps would write together"
    return unfit()


def open_files() -> dict[str, str]:
    """Return what this process has open."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # as that of the folder itself
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return found


def written_together() -> set[str]:
    """Return the memory to which this process and its forks write together."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        return {line.strip().partition(" ")[2] for line in file if line.split()[1][1:] in ("w-s", "wxs")}


def unfit() -> str:
    """Say why this process cannot fork, or nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pid = os.fork()  # libraries that put their threads away for a fork do so now
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    threads = threads_now()
    if threads > 1:
        return f"its modules have started {threads - 1} threads, which a fork would not have"
    gc.collect()
    gc.freeze()
    pid = os.fork()
    if pid == 0:
        thread = threading.Thread(target=_nothing)
        thread.start()
        thread.join()
        os._exit(0 if show(["trial"], {}) else 1)
    ended = os.pidfd_open(pid)
    if not select.select([ended], [], [], _TRIAL_SECONDS)[0]:
        os.kill(pid, signal.SIGKILL)
    os.close(ended)
    return "" if os.waitpid(pid, 0)[1] == 0 else "a fork did not work when it was tried"


def threads_now() -> int:
    """Return how many threads this process has, once that which imported has ended."""
    deadline = time.monotonic() + 1
    while (count := len(os.listdir("/proc/self/task"))) > 1 and time.monotonic() < deadline:
        time.sleep(0.001)
    return count


def _nothing() -> None:
    pass


def begin(
    settle: Any, request: dict[str, Any], handled: tuple[int, int, int], places: list[tuple[int, int]]
) -> tuple[int, int, tuple[str, int] | None]:
    """Fork a step, as ``spawner_process.start`` starts one; return 0 in the fork, which is confined then."""
    (reading, writing), (told, telling) = os.pipe(), os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    step = os.fork()
    if step == 0:
        stage = ["confine"]
        try:
            os.setsid()
            show(*command_of(request))
            if request["paths"] is None:
                stage[0] = "chdir"
                os.chdir(request["directory"])
            else:
                settle(request, handled, places, stage)
            for number in (1, 2):
                os.dup2(writing, number)
            for number in (reading, writing, told, telling):
                os.close(number)
        except OSError as error:
            os.write(telling, marshal.dumps((stage[0], error.errno or 0)))
            os._exit(1)
        return 0, -1, None
    os.close(writing)
    os.close(telling)
    said = os.read(told, 1024)
    os.close(told)
    if said:
        os.waitpid(step, 0)
        os.close(reading)
        return 0, -1, marshal.loads(said)  # noqa: S302 - of the fork
    return step, reading, None


def command_of(request: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Return the command line and the environment of a step."""
    argv = [os.fsdecode(each) for each in request["argv"]]
    return argv, {os.fsdecode(name): os.fsdecode(value) for name, value in request["environment"].items()}


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


def become(request: dict[str, Any], others: dict[str, str], relative: dict[str, str]) -> None:
    """Be the step that a worker asks for, to its exit code.

    Parameters
    ----------
    others
        Environment variables that the interpreter or its modules have set.
    relative
        Of its search path, what is to be of the working folder of the step, as it is written.
    """
    argv, environment = command_of(request)
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
