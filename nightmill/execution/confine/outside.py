"""What a step that failed had reached for and was not given, as far as the last that it said tells."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from nightmill.execution.confine.places import Place, is_in
from nightmill.execution.confine.rules import declared_inputs, declared_outputs, stores_of
from nightmill.execution.evidence import on_one_line
from nightmill.execution.scratch import Scratch
from nightmill.model.dimensions import unit_name
from nightmill.model.layout import INPUTS, OUTPUTS
from nightmill.model.order import JobOrder, OrderInput, OrderStep

LINES: Final = 40
"""So many of the last lines are looked at."""
_DENIED: Final = re.compile(r"permission denied|\berrno 13\b|\beacces\b", re.IGNORECASE)
_READ_ONLY: Final = re.compile(r"read-only file system|\berrno 30\b|\berofs\b", re.IGNORECASE)
_ABSENT: Final = re.compile(
    r"no such file|not found|\berrno 2\b|(?:cannot|can't|could not|couldn't|failed to|unable to) (?:\w+ ){0,3}open",
    re.IGNORECASE,
)
_PATH: Final = re.compile(r"(?:\.{1,2}(?=/))?/[^\s'\"`:;,()\[\]<>|*?]+")


@dataclass(frozen=True)
class Reached:
    """What a step reached for.

    Parameters
    ----------
    paths
        What it was not given, as it named it.
    unstaged
        What is to be said of the first that it wanted to read; empty where there is none.
    """

    paths: tuple[str, ...] = ()
    unstaged: str = ""


def reached(order: JobOrder, step: OrderStep, scratch: Scratch, said: str, software: Sequence[Place] | None) -> Reached:
    """Return what a step reached for in vain that was not given to it.

    Parameters
    ----------
    said
        The last that it said, up to its end.
    software
        What every step may read; None where it was not denied anything.
    """
    looked = _Looked(order, step, scratch, software)
    found: dict[str, str] = {}
    for line in said.splitlines()[-LINES:]:
        for path, why in looked.at(line):
            found[path] = found.get(path) or why
    return Reached(tuple(found), next(filter(None, found.values()), ""))


class _Looked:
    def __init__(self, order: JobOrder, step: OrderStep, scratch: Scratch, software: Sequence[Place] | None) -> None:
        self.order = order
        self.work = str(scratch.work)
        self.own = f"{scratch.path}/"
        self.given = {
            str(scratch.inputs): declared_inputs(order, step),
            str(scratch.outputs): declared_outputs(step, scratch.kept),
        }
        self.names = {str(scratch.inputs): INPUTS, str(scratch.outputs): OUTPUTS}
        self.open = software
        self.hidden = stores_of(order.stores) if step.image else ()
        """What no image has: a step in one finds nothing there, rather than being denied it."""

    def at(self, line: str) -> Iterator[tuple[str, str]]:
        """Yield each path of a line that was not given, with what is to be said of one that it wanted to read."""
        denied, read_only = _DENIED.search(line), _READ_ONLY.search(line)
        if not (denied or read_only or _ABSENT.search(line)):
            return
        for path in map(on_one_line, _PATH.findall(line)):
            whole = os.path.normpath(path if path.startswith("/") else f"{self.work}/{path}")
            folder, name = os.path.split(whole)
            if folder in self.given:
                if not read_only and name not in self.given[folder]:
                    yield path, self._undeclared(folder, name)
            elif whole.startswith(self.own):
                continue
            elif self.open is None:
                if not read_only and any(whole.startswith(f"{store}/") for store in self.hidden):
                    yield path, self._outside(whole)
            elif read_only or (denied and not is_in(whole, self.open)):
                yield path, "" if read_only or whole.startswith("/dev/") else self._outside(whole)

    def _undeclared(self, folder: str, name: str) -> str:
        if self.names[folder] == OUTPUTS:
            return f"{name}, which is not among the outputs of earlier steps that it declares"
        for file in self.order.inputs:
            if file.staged_name == name:
                return f"{_called(file)}, which is an input of its stage that it does not declare"
        return f"{name}, which was not staged"

    def _outside(self, path: str) -> str:
        for file in self.order.inputs:
            for copy in file.copies:
                folder = self.order.stores[copy.store].folder if copy.store in self.order.stores else None
                if folder is not None and path == f"{folder}/{copy.path}":
                    return f"{path}: {_called(file)}, of which it has a copy among its inputs where it declares it"
        return f"{path}, which is not its own and was not staged for it"


def _called(file: OrderInput) -> str:
    of = f" of {unit_name(file.data_id, tuple(file.data_id))}" if file.data_id else ""
    return f"{file.role} ({file.type}) {file.name}{of}"
