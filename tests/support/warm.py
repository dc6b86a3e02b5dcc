"""A process that has imported the command line, and forks for each command that ``warm_client`` hands to it.

A command is what ``nightmill`` is, in a process of its own with the caller's arguments, environment, folder, umask and
descriptors; it costs 0.1 s of CPU where an interpreter that imports it all costs 1 to 2 s. So are the Prefect server
and the runner that it starts: 4 s less.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import pkgutil
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Final

from flows.hosting import service
from flows.hosting.daemon import Daemon, DaemonRecord
from nightmill.execution.owner import owner_of
from nightmill.model.journal import Owner
from tests.support import warm_client

SOCKET: Final = "socket"
WALKED: Final = ("nightmill", "provenance")
APART: Final = ("nightmill.__main__", "nightmill.backbone.migrations.env", "nightmill.testing")
"""What does not belong to the command line, or does something when it is imported."""
BESIDE: Final = (
    "alembic.command",
    "astropy.io.fits",
    "astropy.table",
    "flows.hosting.conductor",
    "flows.hosting.growth",
    "jinja2.sandbox",
    "rich.progress",
    "rich.table",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
    "stagers.local",
)
"""What commands import only when they come to it."""
DAEMONS: Final = ("flows.hosting.host_runner", "flows.hosting.prefect_server", "flows.hosting.service")
OF_DAEMONS: Final = (
    *service.WARM,
    "flows.campaign",
    "flows.hosting.deploy",
    "flows.hosting.runner",
    "flows.slice",
    "prefect.cli.server",
    "prefect.server.api.server",
)
"""What these import."""


@contextmanager
def commands() -> Iterator[Path]:
    """Give a folder for PATH in which ``nightmill`` is the small one, while its process runs."""
    folder = Path(tempfile.mkdtemp(prefix="warm-"))  # a socket's path has 107 bytes at most
    program = folder / "nightmill"
    program.write_text(f"#!{sys.executable} -IS\n{Path(warm_client.__file__).read_text(encoding='utf-8')}")
    program.chmod(0o755)
    argv = [sys.executable, "-m", "tests.support.warm", str(folder / SOCKET)]
    home = {**os.environ, "PREFECT_HOME": str(folder)}  # of the imports; those who use it have their own
    with subprocess.Popen(
        argv, env=home, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"ready\n"
            yield folder
        finally:
            process.stdin.close()  # it ends, as it does when these tests are killed
            shutil.rmtree(folder)


def serve(path: str) -> None:
    """Fork for each caller, until stdin ends; in a fork, return when the command has returned."""
    for name in WALKED:
        for module in pkgutil.walk_packages(import_module(name).__path__, f"{name}."):
            if not module.name.startswith(APART):
                import_module(module.name)
    for name in (*BESIDE, *DAEMONS, *OF_DAEMONS):
        import_module(name)
    gc.collect()
    gc.freeze()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    print("ready", flush=True)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that attend
    while sys.stdin not in (readable := select.select([listener, sys.stdin], [], [])[0]):
        assert readable == [listener]
        caller, _address = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            return attend(caller)
        caller.close()
    return None


def attend(caller: socket.socket) -> None:
    """Have a command carried out: hand signals on to it, and tell its caller how it ended."""
    size, descriptors, _flags, _address = socket.recv_fds(caller, 4, 4)
    with caller.makefile("rb") as stream:
        told = json.loads(stream.read(int.from_bytes(size, "big")))
    pid = os.fork()
    if pid == 0:
        caller.close()
        return become(told, descriptors)
    for descriptor in (0, 1, *descriptors):  # whoever reads its output sees an end when the command has ended
        os.close(descriptor)
    ended = os.pidfd_open(pid)
    while ended not in select.select([ended, caller.fileno()], [], [])[0]:
        number = caller.recv(1)
        os.kill(pid, number[0] if number else signal.SIGKILL)  # a caller who was killed can say nothing
        if not number:
            break
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with suppress(OSError):
        caller.sendall(code.to_bytes(2, "big", signed=True))
    os._exit(0)


def become(told: dict[str, object], descriptors: list[int]) -> None:
    """Take over what makes a process its caller's, and be its command."""
    from nightmill.cli import main

    *standard, folder = descriptors
    assert isinstance(told["umask"], int)
    os.umask(told["umask"])
    os.fchdir(folder)
    for number, descriptor in enumerate(standard):
        os.dup2(descriptor, number)
    os.closerange(3, max(descriptors) + 1)
    assert isinstance(told["environment"], dict)
    os.environ.clear()
    os.environ.update(told["environment"])
    assert isinstance(told["argv"], list)
    sys.argv = told["argv"]
    folders = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:1] = [os.path.dirname(sys.argv[0]), *folders]  # noqa: PTH120 - as an interpreter does
    Daemon.spawn = spawn  # type: ignore[assignment,method-assign]
    main()


def spawn(daemon: Daemon, argv: Sequence[str], environment: Mapping[str, str], details: Mapping[str, str]) -> Owner:
    """Do what :meth:`Daemon.spawn` does, with a fork for an interpreter."""
    _interpreter, _option, name, *arguments = argv
    assert name in DAEMONS
    log = os.open(daemon.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)  # it is there when this returns
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _begin(daemon, log, environment)
            sys.argv = [name, *arguments]
            import_module(name).main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # noqa: BLE001 - it goes no further: the process ends here
            traceback.print_exc()
        finally:
            threading._shutdown()  # type: ignore[attr-defined]
            atexit._run_exitfuncs()
            os._exit(code)
    os.close(log)
    owner = owner_of(pid)
    daemon._write(DaemonRecord(owner=owner, details=dict(details)))
    return owner


def _begin(daemon: Daemon, log: int, environment: Mapping[str, str]) -> None:
    """Take over what makes a process a daemon."""
    from prefect.context import refresh_global_settings_context

    os.setsid()
    os.chdir(daemon.folder)
    for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(each, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), log, log)):
        os.dup2(descriptor, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = str(daemon.folder)
    refresh_global_settings_context()


if __name__ == "__main__":
    serve(sys.argv[1])
