"""The index of a step: the files that it may read, as it sees them, and what it is to make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from nightmill.model.dimensions import DataId
from nightmill.model.index import IndexInput, IndexOutput, StepIndex
from nightmill.model.layout import INPUTS, OUTPUTS, seen
from nightmill.model.order import JobOrder, OrderOutput, OrderStep, later_names

VARIABLE: Final = "NIGHTMILL_INDEX"
"""The environment variable by which a step finds it."""
Made = Mapping[str, Sequence[str]]


def index_of(
    order: JobOrder, step: OrderStep, made: Made, told: Mapping[str, DataId] = MappingProxyType({})
) -> StepIndex:
    """Return the index of a step, now that the steps before it have run.

    Parameters
    ----------
    made
        The names of what these made, by role.
    told
        Keys of data IDs that were found out of them, by name.
    """
    return StepIndex(
        attempt=order.attempt,
        step=step.name,
        data_id=order.data_id,
        inputs=tuple(_inputs(order, step, made, told)),
        outputs=tuple([_output(each) for each in step.outputs]),
    )


def _inputs(order: JobOrder, step: OrderStep, made: Made, told: Mapping[str, DataId]) -> Iterator[IndexInput]:
    staged = {file.name: file for file in order.inputs}
    outputs = [output for each in order.steps for output in each.outputs]
    of = {name: output for output in outputs for name in made.get(output.role, ())}
    later = {later_names(output.role): made.get(output.role, ()) for output in outputs if output.later}
    for name in dict.fromkeys(step.inputs):
        if (file := staged.get(name)) is not None:
            yield IndexInput(
                name=name,
                path=seen(INPUTS, file.staged_name),
                roles=file.roles,
                type=file.type,
                data_id=file.data_id,
                excluded=file.excluded,
            )
            continue
        for each in later.get(name, (name,)):
            if (output := of.get(each)) is not None:  # an optional output of an earlier step may not be
                yield IndexInput(
                    name=each,
                    path=seen(OUTPUTS, each),
                    roles=(output.role,),
                    type=output.type,
                    data_id={**output.data_id, **told.get(each, {})},
                )


def _output(output: OrderOutput) -> IndexOutput:
    chosen = output.produces if any(each in output.produces for each in "*?[{") else ""
    name = "" if chosen else output.produces or output.names[0]
    return IndexOutput(
        role=output.role,
        type=output.type,
        name=name,
        produces=chosen,
        tells=output.tells,
        data_id=output.data_id,
        required=output.required,
    )
