"""The lines of a sidecar, in any language's JSON: each is about one thing, by the field that says so.

    {"output": "heads", "file": "im000012.head", "data_id": {"exposure": 12}, "metadata": {"rms": 0.04}}
    {"row": {"pair": 1, "plus": 12, "minus": 13}, "output": "pairs", "file": "pairs.tbl"}
    {"used": ["a.fits", "b.fits"]}
    {"eliminated": "c.fits", "reason": "trailed"}
    {"depends": "im000012.head", "on": ["a.fits"]}
    {"get": {"role": "flat", "data_id": {"detector": 3}}, "name": "flat_03.fits", "at": "2026-01-11T03:12:45Z"}
    {"put": {"role": "image"}, "name": "image.fits", "at": "2026-01-11T03:12:46Z"}

Nothing in it is trusted: it is read within bounds, without following links, and a line that is wrong fails the step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, NoReturn

from pydantic import Field, ValidationError

from nightmill.errors import JobFailed, guess
from nightmill.execution.evidence import on_one_line
from nightmill.model.base import Frozen, unique_keys
from nightmill.model.dimensions import KeyValue
from nightmill.model.fate import Fate
from nightmill.model.order import OrderStep

VARIABLE: Final = "NIGHTMILL_SIDECAR"
"""The environment variable by which a step finds where to write it."""
MAX_BYTES: Final = 64 << 20
MAX_LINE_BYTES: Final = 64 << 10
MAX_LINES: Final = 200_000
SHOWN: Final = 60
"""How much of a text that a step wrote a message has."""
MAX_REASON: Final = 1000
"""Characters of why an input was left out."""


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


class UsedLine(Frozen):
    """A line with inputs that contributed to what the step made."""

    used: str | list[str]
    """One, or several; an empty list where none did."""


class EliminatedLine(Frozen):
    """A line about an input that the step left out."""

    eliminated: str
    reason: Annotated[str, Field(min_length=1, max_length=MAX_REASON)]
    """Why, in words."""


class DependsLine(Frozen):
    """A line about what an output was made of."""

    depends: str
    """The output: the step's own name for its file, or its unique name."""
    on: list[str]
    """Inputs."""


class Wish(Frozen):
    """What a step asked its index for."""

    role: str
    data_id: Mapping[str, KeyValue] = Field(default_factory=dict)

    def __str__(self) -> str:
        keys = ", ".join(f"{key}={value}" for key, value in self.data_id.items())
        return on_one_line(f"{self.role}{f' ({keys})' if keys else ''}"[:200])


class GetLine(Frozen):
    """A line about an input that the step asked for, by its data ID."""

    get: Wish
    name: str | None
    """What it came to; null where nothing was there."""
    at: Annotated[str, Field(max_length=40)] = ""
    step: str = ""


class PutLine(Frozen):
    """A line about an output for which the step asked the name."""

    put: Wish
    name: str
    """Under which it is going to write it."""
    at: Annotated[str, Field(max_length=40)] = ""
    step: str = ""


Line = OutputLine | RowLine | UsedLine | EliminatedLine | DependsLine | GetLine | PutLine

_KINDS: Final[Mapping[str, type[Line]]] = {
    "row": RowLine,
    "used": UsedLine,
    "eliminated": EliminatedLine,
    "depends": DependsLine,
    "get": GetLine,
    "put": PutLine,
    "output": OutputLine,
}
"""What a line is about, by the field that says so."""


class Lines:
    """The lines of a sidecar, one after another.

    Parameters
    ----------
    step
        Whose it is.
    """

    def __init__(self, step: OrderStep) -> None:
        self.step = step
        self.number = 0
        """Of the line that is looked at."""

    def read(self, descriptor: int) -> Iterator[Line]:
        """Yield the lines of an open sidecar; blank ones are passed over.

        Raises
        ------
        JobFailed
            Where it is too large, or a line is wrong.
        """
        if (size := os.fstat(descriptor).st_size) > MAX_BYTES:
            raise failed(self.step, f"has {size:,} bytes, and at most {MAX_BYTES:,} are read")
        with os.fdopen(os.dup(descriptor), "rb") as file:
            while line := file.readline(MAX_LINE_BYTES + 1):
                self.number += 1
                if self.number > MAX_LINES:
                    self.refuse(f"more than {MAX_LINES:,} lines are not read")
                if len(line) > MAX_LINE_BYTES:
                    self.refuse(f"it has more than {MAX_LINE_BYTES:,} bytes")
                if line.strip():
                    yield self._parsed(line)

    def refuse(self, why: str) -> NoReturn:
        """Fail the step because of the line that is looked at."""
        raise failed(self.step, f"is wrong in line {self.number}: {why}")

    def _parsed(self, line: bytes) -> Line:
        try:
            data = json.loads(line.decode(), object_pairs_hook=unique_keys, parse_constant=_no_constant)
        except RecursionError:
            self.refuse("it is nested too deeply")
        except ValueError as error:  # of UTF-8, too
            self.refuse(f"it is not JSON: {error}")
        if not isinstance(data, dict):
            self.refuse("it is not a JSON object, as {...}")
        kind = next((model for field, model in _KINDS.items() if field in data), None)
        if kind is None:
            near = guess(next(iter(data), "")[:SHOWN], list(_KINDS))
            self.refuse(f"it has no field {', '.join(map(repr, list(_KINDS)[:-1]))} or {list(_KINDS)[-1]!r}{near}")
        try:
            return kind.model_validate(data, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"]))[:SHOWN]
            if first["type"] == "extra_forbidden":
                near = guess(field, list(kind.model_fields)) or f"; it may have {', '.join(kind.model_fields)}"
                self.refuse(f"unknown field {on_one_line(field)!r}{near}")
            self.refuse(f"{field}: {first['msg'][:1].lower()}{first['msg'][1:]}")


def failed(step: OrderStep, why: str) -> JobFailed:
    """Return the failure of a step for its sidecar."""
    return JobFailed(f"the sidecar of step {step.name!r} {why}", fate=Fate.BAD_OUTPUT, step=step.name)


def shown(text: str) -> str:
    """Return a text that a step wrote, as a message has it."""
    return on_one_line(text[:SHOWN])


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a value of JSON")
