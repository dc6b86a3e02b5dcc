"""The warm way to start a step of Python: a fork of a process that has imported what the step needs."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Final

from nightmill.execution.confine.groups import Group
from nightmill.execution.confine.rules import Rules
from nightmill.execution.confine.spawner import Limits, Spawned, Spawner
from nightmill.execution.evidence import last_text, on_one_line
from nightmill.execution.launch import warm_server
from nightmill.execution.launch.plain import Launch, Process
from nightmill.model.observed import UNCONFINED

IMPORT_SECONDS: Final = 120.0
"""How long the first step waits for its modules to be imported."""
FORK_SECONDS: Final = 30.0
MOST: Final = 4
"""Sets of modules that a worker has processes of at a time: each holds its modules in memory."""


@dataclass(frozen=True)
class _Kind:
    """What steps have in common that a process can become."""

    modules: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    is_confined: bool


@dataclass
class _Processes:
    """Those of one kind that have nothing to do, and why there can be none."""

    idle: list[Spawner] = field(default_factory=list)
    fault: str = ""


class Servers:
    """The processes of a worker that become steps, as many of a kind as it has steps at a time.

    Safe for use by several threads.

    Parameters
    ----------
    limits
        Those of each step, where it is confined.
    grouped
        Makes a control group for each process, where its steps are confined.
    """

    def __init__(self, limits: Limits = (), grouped: Callable[[], Group] = Group) -> None:
        self._limits = limits
        self._grouped = grouped
        self._lock = Lock()
        self._kinds: dict[_Kind, _Processes] = {}

    def way(
        self,
        modules: tuple[str, ...],
        environment: Mapping[str, str],
        cold: Callable[[Launch], Process],
        rules: Rules | None = None,
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
        rules
            What it may reach; None for whatever its user can.
        """
        if not modules:
            return cold, ""
        kind = _Kind(modules, tuple(sorted(environment.items())), rules is not None)
        found = self._take(kind, rules)
        if isinstance(found, str):
            return cold, found
        self._give_back(kind, found)
        return partial(self._start, kind=kind, cold=cold, rules=rules), ""

    def close(self) -> None:
        """End them."""
        with self._lock:
            kinds, self._kinds = self._kinds, {}
        _end([spawner for each in kinds.values() for spawner in each.idle])

    def _start(self, launch: Launch, kind: _Kind, cold: Callable[[Launch], Process], rules: Rules | None) -> Process:
        """Start a step; where its process has ended, start it the other way and say so in its output."""
        spawner = self._take(kind, rules)
        if isinstance(spawner, Spawner):
            try:
                pid = spawner.start(launch, rules, seconds=FORK_SECONDS)
            except OSError:
                spawner.kill()
            else:
                confined = UNCONFINED if rules is None else spawner.confined
                return Spawned(spawner, partial(self._give_back, kind), launch.output, pid, confined)
        os.write(launch.output, b"== started without the modules of warm: the process that had them has ended\n")
        return cold(launch)

    def _take(self, kind: _Kind, rules: Rules | None) -> Spawner | str:
        """Return a process that has nothing to do, a new one where there is none, or why there is none."""
        with self._lock:
            processes = self._kinds.pop(kind, None) or _Processes()
            self._kinds[kind] = processes  # the last one is that which was used last
            old = self._kinds.pop(next(iter(self._kinds))) if len(self._kinds) > MOST else _Processes()
            spawner = processes.idle.pop() if processes.idle else None
        _end(old.idle)
        if spawner is not None or processes.fault:
            return spawner or processes.fault
        begun = self._begun(kind, rules)
        if isinstance(begun, str):
            processes.fault = begun
        return begun

    def _give_back(self, kind: _Kind, spawner: Spawner) -> None:
        with self._lock:
            processes = self._kinds.get(kind)
            if processes is not None:
                processes.idle.append(spawner)
        if processes is None:
            spawner.close()

    def _begun(self, kind: _Kind, rules: Rules | None) -> Spawner | str:
        """Return a new process that is ready, or why there can be none."""
        try:
            folder = Path(tempfile.mkdtemp(prefix="nightmill-warm-"))
            places = {"HOME": str(folder), "TMPDIR": str(folder)}
            with (folder / "output").open("w+b") as output:
                spawner = Spawner(
                    self._limits if kind.is_confined else (),
                    [sys.executable, warm_server.__file__],
                    str(folder),
                    *kind.modules,
                    environment=places | dict(kind.environment),
                    folder=folder,
                    output=output.fileno(),
                    confines=kind.is_confined,
                    group=self._grouped() if kind.is_confined else None,
                )
                fault = _prepared(spawner, folder, kind, rules)
                if fault:
                    said = last_text(output.fileno(), 0).strip().splitlines() or ["it said nothing"]
                    spawner.kill()
                    return on_one_line(fault.format(said[-1]))
        except (OSError, ValueError) as error:
            return str(error)
        return spawner


def _prepared(spawner: Spawner, folder: Path, kind: _Kind, rules: Rules | None) -> str:
    try:
        return spawner.prepare(folder, rules, seconds=IMPORT_SECONDS).replace("{", "{{").replace("}", "}}")
    except TimeoutError:
        return f"{', '.join(kind.modules)} could not be imported in {IMPORT_SECONDS:g} s"
    except ConnectionError:
        return "the process that imports them ended: {}"


def _end(spawners: list[Spawner]) -> None:
    for spawner in spawners:
        spawner.close()
