"""The sidecar of a step: what it tells of the files that it made, as JSON lines that any language can write.

    {"output": "heads", "file": "im000012.head", "data_id": {"exposure": 12}, "metadata": {"rms": 0.04}}
    {"row": {"pair": 1, "plus": 12, "minus": 13}, "output": "pairs", "file": "pairs.tbl"}

Nothing in it is trusted: it is read within bounds, without following links, and a line that is wrong fails the step.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, NoReturn

from pydantic import Field, ValidationError

from nightmill.errors import BadFile, JobFailed, guess
from nightmill.execution.evidence import on_one_line
from nightmill.execution.scratch import Scratch
from nightmill.files.computed import Value, type_of
from nightmill.files.rows import column_kind
from nightmill.files.told import told_value
from nightmill.model.attachment import RowValue
from nightmill.model.base import Frozen
from nightmill.model.dimensions import DIMENSIONS, KeyType, KeyValue
from nightmill.model.fate import Fate
from nightmill.model.file_type import FileType
from nightmill.model.order import JobOrder, OrderOutput, OrderStep

VARIABLE: Final = "NIGHTMILL_SIDECAR"
"""The environment variable by which a step finds where to write it."""
MAX_BYTES: Final = 64 << 20
MAX_LINE_BYTES: Final = 64 << 10
MAX_LINES: Final = 200_000
_SHOWN: Final = 60
"""How much of a text that a step wrote a message has."""
_PYTHON: Final[Mapping[type, KeyType]] = {str: "str", bool: "bool", int: "int", float: "float"}


class OutputLine(Frozen):
    """A line about a file of an output."""

    output: str
    """Its role."""
    file: str
    """The step's own name for it."""
    data_id: Mapping[str, Any] = Field(default_factory=dict)
    """Keys that its output tells, or those of the unit."""
    metadata: Mapping[str, Any] = Field(default_factory=dict)
    """Keys that its type has."""


class RowLine(Frozen):
    """A line with a row of the membership of a file."""

    row: Mapping[str, Any]
    """Values of its columns; a column that is left out has none."""
    output: str
    """The role of the file."""
    file: str
    """The step's own name for it."""


_KINDS: Final[Mapping[str, type[OutputLine | RowLine]]] = {"row": RowLine, "output": OutputLine}
"""What a line is about, by the field that says so."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a step told of one file."""

    output: str
    values: Mapping[str, Value]
    line: int
    rows: Sequence[tuple[RowValue, ...]] = ()
    """Of its membership, in the order of the columns."""

    @property
    def source(self) -> str:
        """What messages call it."""
        return f"the sidecar (line {self.line})"


def kind_of(key: str, file_type: FileType, planned: Mapping[str, KeyValue]) -> KeyType:
    """Return the type of a key of an output: a dimension, metadata of its file type, or what its unit has."""
    if key in DIMENSIONS:
        return "int" if DIMENSIONS[key] is int else "str"
    if key in file_type.metadata:
        return type_of(file_type.metadata[key])
    return _PYTHON[type(planned[key])]


def read_sidecar(order: JobOrder, step: OrderStep, scratch: Scratch) -> dict[str, Told]:
    """Return what a step told of the files that it made, by their own names.

    Raises
    ------
    JobFailed
        Where it is not a file, is too large, or a line is wrong; says which line, and what is wrong there.
    """
    reader = _Reader(order, step)
    try:
        with scratch.opened_sidecar() as descriptor:
            return reader.read(descriptor) if descriptor is not None else {}
    except BadFile as error:
        raise _failed(step, f"cannot be read: {error.message}") from error


class _Reader:
    def __init__(self, order: JobOrder, step: OrderStep) -> None:
        self.types = order.file_types
        self.step = step
        self.outputs = {output.role: output for output in step.outputs if output.type}
        self.line = 0

    def read(self, descriptor: int) -> dict[str, Told]:
        if (size := os.fstat(descriptor).st_size) > MAX_BYTES:
            raise _failed(self.step, f"has {size:,} bytes, and at most {MAX_BYTES:,} are read")
        told: dict[str, Told] = {}
        rows: dict[str, list[tuple[RowValue, ...]]] = {}
        described: dict[str, int] = {}
        for line in self.lines(descriptor):
            if not line.strip():
                continue
            about = self.parsed(line)
            output = self.output(about.output)
            before = told.setdefault(about.file, Told(about.output, {}, self.line))
            if before.output != about.output:
                self.refuse(f"{on_one_line(about.file)} is a file of {before.output!r} by line {before.line}")
            if isinstance(about, RowLine):
                rows.setdefault(about.file, []).append(self.row(about, output))
            elif (first := described.setdefault(about.file, self.line)) != self.line:
                self.refuse(f"{on_one_line(about.file)} was told of in line {first}; a file has one line")
            else:
                told[about.file] = Told(about.output, self.values(about, output), self.line)
        return {name: replace(each, rows=rows.get(name, ())) for name, each in told.items()}

    def lines(self, descriptor: int) -> Iterator[bytes]:
        with os.fdopen(os.dup(descriptor), "rb") as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                self.line += 1
                if self.line > MAX_LINES:
                    self.refuse(f"more than {MAX_LINES:,} lines are not read")
                if len(line) > MAX_LINE_BYTES:
                    self.refuse(f"it has more than {MAX_LINE_BYTES:,} bytes")
                yield line

    def parsed(self, line: bytes) -> OutputLine | RowLine:
        try:
            data = json.loads(line.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
        except RecursionError:
            self.refuse("it is nested too deeply")
        except ValueError as error:  # of UTF-8, too
            self.refuse(f"it is not JSON: {error}")
        if not isinstance(data, dict):
            self.refuse("it is not a JSON object, as {...}")
        kind = next((model for field, model in _KINDS.items() if field in data), None)
        if kind is None:
            near = guess(next(iter(data), "")[:_SHOWN], list(_KINDS))
            self.refuse(f"it has no field {' or '.join(map(repr, _KINDS))}{near}")
        try:
            return kind.model_validate(data, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))[:_SHOWN]
            if first["type"] == "extra_forbidden":
                near = guess(field, list(kind.model_fields)) or f"; it may have {', '.join(kind.model_fields)}"
                self.refuse(f"unknown field {on_one_line(field)!r}{near}")
            self.refuse(f"{field}: {first['msg'][:1].lower()}{first['msg'][1:]}")

    def output(self, role: str) -> OrderOutput:
        if (output := self.outputs.get(role)) is None:
            called = on_one_line(role[:_SHOWN])
            near = guess(called, list(self.outputs)) or f" (it has {', '.join(self.outputs) or 'none'})"
            self.refuse(f"{called!r} is not an output of the step that has a type{near}")
        return output

    def row(self, about: RowLine, output: OrderOutput) -> tuple[RowValue, ...]:
        file_type = self.types[output.type]
        wanted = file_type.membership
        if wanted is None or not wanted.told:
            self.refuse(
                f"files of type {file_type.name!r} have no rows that steps tell; give it a membership with told: true"
            )
        for column in about.row:
            if column not in wanted.names:
                called = on_one_line(column[:_SHOWN])
                self.refuse(f"{called!r} is not a column of the type's membership{guess(called, wanted.names)}")
        return tuple([self.cell(column, about.row.get(column), wanted.types) for column in wanted.names])

    def cell(self, column: str, raw: object, types: Mapping[str, KeyType]) -> RowValue:
        kind = column_kind(column, types) or _PYTHON.get(type(raw))
        if raw is None:
            return None
        if kind is None:
            self.refuse(f"{column} is {on_one_line(repr(raw)[:_SHOWN])}, and a row has plain values")
        try:
            value = told_value(raw, column, kind)
        except ValueError as error:
            self.refuse(f"{column} {on_one_line(str(error))}")
        return value.isoformat() if isinstance(value, datetime) else value

    def values(self, about: OutputLine, output: OrderOutput) -> dict[str, Value]:
        file_type = self.types[output.type]
        for key in about.data_id:
            if key not in output.tells and key not in output.data_id:
                called = on_one_line(key[:_SHOWN])
                self.refuse(f"{called!r} is not a key that output {output.role!r} tells; add it to 'tells'")
        for key in about.metadata:
            if key not in file_type.metadata or file_type.metadata[key].compute:
                self.refuse(_not_told(on_one_line(key[:_SHOWN]), file_type))
        if both := sorted(about.data_id.keys() & about.metadata.keys()):
            self.refuse(f"{both[0]!r} stands in data_id and in metadata; tell it once")
        told = {**about.data_id, **about.metadata}
        return {key: self.value(key, raw, output, file_type) for key, raw in told.items()}

    def value(self, key: str, raw: object, output: OrderOutput, file_type: FileType) -> Value:
        try:
            return told_value(raw, key, kind_of(key, file_type, output.data_id), file_type.metadata.get(key))
        except ValueError as error:
            self.refuse(f"{key} {on_one_line(str(error))}")

    def refuse(self, why: str) -> NoReturn:
        raise _failed(self.step, f"is wrong in line {self.line}: {why}")


def _not_told(key: str, file_type: FileType) -> str:
    if key in file_type.metadata:
        return f"{key!r} of file type {file_type.name!r} is computed, and not told"
    return f"{key!r} is not metadata of file type {file_type.name!r}{guess(key, list(file_type.metadata))}"


def _failed(step: OrderStep, why: str) -> JobFailed:
    return JobFailed(f"the sidecar of step {step.name!r} {why}", fate=Fate.BAD_OUTPUT, step=step.name)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        [(key, _count)] = Counter(key for key, _value in pairs).most_common(1)
        raise ValueError(f"{key[:_SHOWN]!r} stands there twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a value of JSON")
