"""The warm way to start a step of Python: a fork of a process that has imported what the step needs."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Final

from nightmill.execution.evidence import last_text, on_one_line
from nightmill.execution.launch import warm_server
from nightmill.execution.launch.plain import Launch, Process

IMPORT_SECONDS: Final = 120.0
"""How long the first step waits for its modules to be imported."""
FORK_SECONDS: Final = 30.0
END_SECONDS: Final = 5.0
MOST: Final = 4
"""Servers that a worker has at a time: each holds its modules in memory."""


@dataclass
class Forked(Process):
    """A process that a server forked, which is a child of this one."""

    pid: int
    returncode: int | None = None


class Server:
    """A process of this Python that has imported modules and forks for steps; safe for use by several threads.

    Parameters
    ----------
    environment
        That of its steps, without their places: what modules read when they are imported.
    """

    def __init__(self, modules: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self._modules = modules
        self._environment = environment
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._folder: Path | None = None
        self._fault = ""

    def fault(self) -> str:
        """Wait until it is ready, where it is not yet; say why it never will be, or nothing."""
        with self._lock:
            if self._process is None and not self._fault:
                try:
                    self._fault = self._begin()
                except TimeoutError:
                    self._fault = f"{', '.join(self._modules)} could not be imported in {IMPORT_SECONDS:g} s"
                except (OSError, ValueError) as error:
                    self._fault = str(error)
                if self._fault:
                    self._end()
            return self._fault

    def start(self, launch: Launch, cold: Callable[[Launch], Process]) -> Process:
        """Start a step; where the server has ended, start it the other way and say so in its output.

        Raises
        ------
        OSError, ValueError
            Where it is started that way, and cannot be executed.
        """
        with suppress(OSError):
            return self._fork(launch)
        self.close()  # the next step finds another
        os.write(launch.output, b"== started without the modules of warm: the process that had them has ended\n")
        return cold(launch)

    def close(self) -> None:
        """End it; steps that it forked run on."""
        with self._lock:
            self._end()

    def _begin(self) -> str:
        """Begin, and wait until it is ready; say why it never will be, or nothing.

        Raises
        ------
        OSError, ValueError
            Where it cannot be begun.
        TimeoutError
            Where it is not ready in time.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="nightmill-warm-"))
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = mine
        mine.settimeout(IMPORT_SECONDS)
        places = {"HOME": str(self._folder), "TMPDIR": str(self._folder)}
        with theirs, (self._folder / "output").open("w+b") as output:
            argv = [sys.executable, warm_server.__file__, str(theirs.fileno()), str(self._folder), *self._modules]
            self._process = subprocess.Popen(
                argv,
                cwd=self._folder,
                env=places | dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
            theirs.close()
            told = mine.recv(4096).decode(errors="replace")
            if told == "ready":
                return ""
            said = last_text(output.fileno(), 0).strip().splitlines() or ["it said nothing"]
            return on_one_line(told or f"the process that imports them ended: {said[-1]}")

    def _fork(self, launch: Launch) -> Forked:
        """Have a process forked for a step.

        Raises
        ------
        OSError
            Where there is none, or none that will ever be the step.
        """
        control, (mine, theirs) = self._control, socket.socketpair()
        with mine, theirs:
            if control is None:
                raise ConnectionError
            socket.send_fds(control, [b"\0"], [theirs.fileno(), launch.output])
            theirs.close()
            mine.settimeout(FORK_SECONDS)
            request = {
                "argv": list(launch.argv),
                "directory": str(launch.directory),
                "environment": dict(launch.environment),
            }
            mine.sendall(json.dumps(request).encode() + b"\n")
            if len(number := mine.recv(4, socket.MSG_WAITALL)) < 4:
                raise ConnectionError
            with suppress(OSError):  # it is known by its number now, and how it ends is the watcher's
                mine.sendall(b"\0")
            return Forked(int.from_bytes(number, "big"))

    def _end(self) -> None:
        process, control, folder = self._process, self._control, self._folder
        self._process = self._control = self._folder = None
        if control is not None:
            control.close()
        if process is not None:
            try:
                process.wait(0 if self._fault else END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


class Servers:
    """The servers of a worker, one for each set of modules and environment; safe for use by several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._servers: dict[object, Server] = {}

    def way(
        self, modules: tuple[str, ...], environment: Mapping[str, str], cold: Callable[[Launch], Process]
    ) -> tuple[Callable[[Launch], Process], str]:
        """Return how a step is started, and why it is not as it wishes, or an empty string.

        Parameters
        ----------
        modules
            What is to be imported before; without any, it is started cold.
        environment
            That of the step, without its places.
        cold
            How a step is started that has no such process.
        """
        if not modules:
            return cold, ""
        key = (modules, tuple(sorted(environment.items())))
        with self._lock:
            server = self._servers.pop(key, None) or Server(modules, environment)
            self._servers[key] = server  # the last one is that which was used last
            old = self._servers.pop(next(iter(self._servers))) if len(self._servers) > MOST else None
        if old is not None:
            old.close()
        fault = server.fault()
        return (cold, fault) if fault else (partial(server.start, cold=cold), "")

    def close(self) -> None:
        """End them."""
        with self._lock:
            servers = list(self._servers.values())
            self._servers.clear()
        for server in servers:
            server.close()
