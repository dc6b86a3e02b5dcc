"""Reading a sidecar: every line is held against what the order of the step says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from nightmill.errors import BadFile
from nightmill.execution.evidence import on_one_line
from nightmill.execution.scratch import Scratch
from nightmill.execution.sidecar.lines import Lines, OutputLine, RowLine, failed
from nightmill.execution.sidecar.outputs import Outputs, Told
from nightmill.execution.sidecar.uses import UseReader, Uses
from nightmill.model.attachment import RowValue
from nightmill.model.index import StepIndex
from nightmill.model.order import JobOrder, OrderStep


@dataclass(frozen=True)
class Sidecar:
    """What a step told."""

    files: Mapping[str, Told] = field(default_factory=dict)
    """Of the files that it made, by its own names for them."""
    uses: Uses = field(default_factory=Uses)
    """Of what it read."""


def read_sidecar(order: JobOrder, step: OrderStep, index: StepIndex, scratch: Scratch) -> Sidecar:
    """Return what a step told.

    Raises
    ------
    JobFailed
        Where it is not a file, is too large, or a line is wrong; says which line, and what is wrong there.
    """
    try:
        with scratch.opened_sidecar() as descriptor:
            return _read(order, step, index, scratch, descriptor) if descriptor is not None else Sidecar()
    except BadFile as error:
        raise failed(step, f"cannot be read: {error.message}") from error


def _read(order: JobOrder, step: OrderStep, index: StepIndex, scratch: Scratch, descriptor: int) -> Sidecar:
    lines = Lines(step)
    outputs = Outputs(order, step, lines.refuse)
    uses = UseReader(order, index, scratch.path, lines.refuse)
    told: dict[str, Told] = {}
    rows: dict[str, list[tuple[RowValue, ...]]] = {}
    described: dict[str, int] = {}
    for about in lines.read(descriptor):
        if not isinstance(about, OutputLine | RowLine):
            uses.take(about, lines.number)
            continue
        output = outputs.named(about.output)
        before = told.setdefault(about.file, Told(about.output, {}, lines.number))
        if before.output != about.output:
            lines.refuse(f"{on_one_line(about.file)} is a file of {before.output!r} by line {before.line}")
        if isinstance(about, RowLine):
            rows.setdefault(about.file, []).append(outputs.row(about, output))
        elif (first := described.setdefault(about.file, lines.number)) != lines.number:
            lines.refuse(f"{on_one_line(about.file)} was told of in line {first}; a file has one line")
        else:
            told[about.file] = Told(about.output, outputs.values(about, output), lines.number)
    return Sidecar({name: replace(each, rows=rows.get(name, ())) for name, each in told.items()}, uses.uses)
