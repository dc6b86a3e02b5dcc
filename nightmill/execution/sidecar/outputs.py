"""What a sidecar tells of the files that a step made: their data ID, their metadata, and the rows in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NoReturn

from nightmill.errors import guess
from nightmill.execution.evidence import on_one_line
from nightmill.execution.sidecar.lines import SHOWN, OutputLine, RowLine, shown
from nightmill.files.computed import Value, type_of
from nightmill.files.rows import column_kind
from nightmill.files.told import told_value
from nightmill.model.attachment import RowValue
from nightmill.model.dimensions import DIMENSIONS, KeyType, KeyValue
from nightmill.model.file_type import FileType
from nightmill.model.order import JobOrder, OrderOutput, OrderStep

_PYTHON: Final[Mapping[type, KeyType]] = {str: "str", bool: "bool", int: "int", float: "float"}


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


class Outputs:
    """The outputs of a step, against which lines about their files are held.

    Parameters
    ----------
    refuse
        Raises what is wrong with the line that is looked at.
    """

    def __init__(self, order: JobOrder, step: OrderStep, refuse: Callable[[str], NoReturn]) -> None:
        self.types = order.file_types
        self.outputs = {output.role: output for output in step.outputs if output.type}
        self.refuse = refuse

    def named(self, role: str) -> OrderOutput:
        """Return an output by its role."""
        if (output := self.outputs.get(role)) is None:
            called = shown(role)
            near = guess(called, list(self.outputs)) or f" (it has {', '.join(self.outputs) or 'none'})"
            self.refuse(f"{called!r} is not an output of the step that has a type{near}")
        return output

    def row(self, about: RowLine, output: OrderOutput) -> tuple[RowValue, ...]:
        """Return a row of a file, in the order of the columns."""
        file_type = self.types[output.type]
        wanted = file_type.membership
        if wanted is None or not wanted.told:
            self.refuse(
                f"files of type {file_type.name!r} have no rows that steps tell; give it a membership with told: true"
            )
        for column in about.row:
            if column not in wanted.names:
                called = shown(column)
                self.refuse(f"{called!r} is not a column of the type's membership{guess(called, wanted.names)}")
        return tuple([self._cell(column, about.row.get(column), wanted.types) for column in wanted.names])

    def _cell(self, column: str, raw: object, types: Mapping[str, KeyType]) -> RowValue:
        kind = column_kind(column, types) or _PYTHON.get(type(raw))
        if raw is None:
            return None
        if kind is None:
            self.refuse(f"{column} is {on_one_line(repr(raw)[:SHOWN])}, and a row has plain values")
        try:
            value = told_value(raw, column, kind)
        except ValueError as error:
            self.refuse(f"{column} {on_one_line(str(error))}")
        return value.isoformat() if isinstance(value, datetime) else value

    def values(self, about: OutputLine, output: OrderOutput) -> dict[str, Value]:
        """Return what a line tells of a file, each value of its key's type."""
        file_type = self.types[output.type]
        for key in about.data_id:
            if key not in output.tells and key not in output.data_id:
                self.refuse(f"{shown(key)!r} is not a key that output {output.role!r} tells; add it to 'tells'")
        for key in about.metadata:
            if key not in file_type.metadata or file_type.metadata[key].compute:
                self.refuse(_not_told(shown(key), file_type))
        if both := sorted(about.data_id.keys() & about.metadata.keys()):
            self.refuse(f"{both[0]!r} stands in data_id and in metadata; tell it once")
        told = {**about.data_id, **about.metadata}
        return {key: self._value(key, raw, output, file_type) for key, raw in told.items()}

    def _value(self, key: str, raw: object, output: OrderOutput, file_type: FileType) -> Value:
        try:
            return told_value(raw, key, kind_of(key, file_type, output.data_id), file_type.metadata.get(key))
        except ValueError as error:
            self.refuse(f"{key} {on_one_line(str(error))}")


def _not_told(key: str, file_type: FileType) -> str:
    if key in file_type.metadata:
        return f"{key!r} of file type {file_type.name!r} is computed, and not told"
    return f"{key!r} is not metadata of file type {file_type.name!r}{guess(key, list(file_type.metadata))}"
