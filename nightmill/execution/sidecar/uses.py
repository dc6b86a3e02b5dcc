"""What a sidecar tells of the files that a step read: what it asked for, what it used, what it left out and why."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

from nightmill.errors import guess
from nightmill.execution.evidence import on_one_line
from nightmill.execution.sidecar.lines import (
    SHOWN,
    DependsLine,
    EliminatedLine,
    GetLine,
    PutLine,
    UsedLine,
    Wish,
    shown,
)
from nightmill.model.index import StepIndex
from nightmill.model.layout import WORK
from nightmill.model.order import JobOrder

MOST_MISRESOLVED: Final = 50
"""Data IDs that came to another file, of which a record has each: one is enough to fail a step."""
UseLine = UsedLine | EliminatedLine | DependsLine | GetLine | PutLine


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An input that the step left out."""

    reason: str
    line: int


@dataclass(frozen=True, slots=True)
class Dependence:
    """What an output was made of; which file it is, is known once the gate has looked."""

    output: str
    inputs: tuple[str, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Misresolved:
    """A data ID that came to another file than by the plan."""

    name: str
    """By the plan; the role where that is not one file."""
    detail: str


@dataclass
class Uses:
    """What a step told of what it read, by the names of the catalogue."""

    used: dict[str, int] = field(default_factory=dict)
    """What it used, with the line; what an output depends on is used."""
    eliminated: dict[str, LeftOut] = field(default_factory=dict)
    depends: list[Dependence] = field(default_factory=list)
    unstaged: dict[int, Wish] = field(default_factory=dict)
    """By its line, what it asked for and what was not staged for it."""
    misresolved: list[Misresolved] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """Every request of its index, in words, with its time."""

    told: bool = False
    """Whether it told anything of what it used, if only that it was nothing."""


class UseReader:
    """Holds lines against the index of the step.

    Parameters
    ----------
    scratch
        Of the job.
    refuse
        Raises what is wrong with the line that is looked at.
    """

    def __init__(self, order: JobOrder, index: StepIndex, scratch: Path, refuse: Callable[[str], NoReturn]) -> None:
        self.index = index
        self.uses = Uses()
        self._refuse = refuse
        self._work = str(scratch / WORK)
        self._roots = tuple(dict.fromkeys([self._work, os.path.realpath(self._work)]))
        self._paths = {each.path: each.name for each in index.inputs}
        self._names = {each.name: each.name for each in index.inputs}
        for path, name in self._paths.items():
            self._names.setdefault(path.rpartition("/")[2], name)
        self._others = {name for file in order.inputs for name in (file.name, file.staged_name)} - self._names.keys()

    def take(self, line: UseLine, number: int) -> None:
        """Take what a line tells."""
        self.uses.told = self.uses.told or not isinstance(line, GetLine | PutLine)
        match line:
            case UsedLine():
                for text in [line.used] if isinstance(line.used, str) else line.used:
                    self._use(self._input(text), number)
            case EliminatedLine():
                name = self._input(line.eliminated)
                if (other := self.uses.used.get(name)) is not None:
                    self._refuse(f"{name} is eliminated here, and used in line {other}; a file is one of them")
                self.uses.eliminated.setdefault(name, LeftOut(on_one_line(line.reason), number))
            case DependsLine():
                inputs = tuple(dict.fromkeys([self._input(text) for text in line.on]))
                for name in inputs:
                    self._use(name, number)
                self.uses.depends.append(Dependence(line.depends, inputs, number))
            case GetLine():
                self._got(line, number)
            case PutLine():
                self._put(line, number)

    def _use(self, name: str, number: int) -> None:
        if (other := self.uses.eliminated.get(name)) is not None:
            self._refuse(f"{name} is used here, and eliminated in line {other.line}; a file is one of them")
        self.uses.used.setdefault(name, number)

    def _got(self, line: GetLine, number: int) -> None:
        self._note("get", line.get, line.name or "not there", line.at)
        planned = [each.name for each in self.index.matching(line.get.role, line.get.data_id)]
        if line.name is not None and (name := self._found(line.name)) in planned:
            return
        if line.name is None and not planned:
            self.uses.unstaged[number] = line.get
            return
        came = "nothing" if line.name is None else name or shown(line.name)
        by_plan = " or ".join(planned[:3]) + (" or others" if len(planned) > 3 else "") if planned else "nothing"
        called = planned[0] if len(planned) == 1 else line.get.role
        detail = f"{line.get} came to {came} in line {number}, and by the plan it is {by_plan}"
        self._misresolve(called, detail)

    def _put(self, line: PutLine, number: int) -> None:
        self._note("put", line.put, line.name, line.at)
        outputs = {each.role: each for each in self.index.outputs}
        if (output := outputs.get(line.put.role)) is None:
            self._refuse(f"{shown(line.put.role)!r} is not an output of the step{guess(line.put.role, list(outputs))}")
        if output.name and line.name.rpartition("/")[2] != output.name:
            detail = f"{line.put} came to {shown(line.name)} in line {number}, and by the plan it is {output.name}"
            self._misresolve(output.name, detail)

    def _misresolve(self, name: str, detail: str) -> None:
        if len(self.uses.misresolved) < MOST_MISRESOLVED:
            self.uses.misresolved.append(Misresolved(name, detail))

    def _note(self, what: str, wish: Wish, came: str, at: str) -> None:
        self.uses.asked.append(f"{what} {wish}: {on_one_line(came[:300])}{f', at {on_one_line(at)}' if at else ''}")

    def _input(self, text: str) -> str:
        if (name := self._found(text)) is None:
            called = text.rpartition("/")[2]
            if called in self._others:
                self._refuse(
                    f"{shown(called)!r} was staged for another step of the job, and is not an input of this one"
                )
            self._refuse(f"{shown(text)!r} is not an input of the step{guess(called[:SHOWN], list(self._names))}")
        return name

    def _found(self, text: str) -> str | None:
        """Return the unique name of an input that the step calls by one of its names, or by a path."""
        if "/" not in text:
            return self._names.get(text)
        for root in self._roots:
            whole = text if text.startswith("/") else f"{root}/{text}"
            path = "" if "\0" in text else os.path.relpath(whole, root)
            if path in self._paths:
                return self._paths[path]
        return None
