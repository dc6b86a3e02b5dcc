"""Names: what each job's files will be called, proven unique before anything runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import cache
from typing import Final, NamedTuple

from nightmill.config.rules import LOG
from nightmill.errors import BadName
from nightmill.files.naming import Template
from nightmill.model.dimensions import DataId
from nightmill.model.pipeline import Stage
from nightmill.planning.problems import Problems
from nightmill.planning.sealed import StageCommon

_LOG: Final = "{pipeline}_{stage}_{unit}_c{campaign:04d}a{attempt:02d}.log"


@cache
def template(text: str) -> Template:
    """Return a template, parsed once."""
    return Template(text)


def output_names(common: StageCommon, data_id: DataId, attempt: int, step: str, role: str) -> tuple[str, ...]:
    """Name the files of one output of one attempt: as many names as it may have files.

    Raises
    ------
    BadName
        Where the template needs what the unit does not have, or makes no fit name of it.
    """
    output = next(each for each in common.stage.steps if each.name == step).outputs[role]
    name = template(common.file_types[output.type].template)
    values: dict[str, object] = {
        **data_id,
        "campaign": common.number,
        "attempt": attempt,
        "stage": common.stage.name,
        "step": step,
        "role": role,
        "file_type": output.type,
    }
    return tuple([name.render({**values, "n": n}) for n in range(1, output.max + 1)])


def log_name(common: StageCommon, data_id: DataId, attempt: int) -> str:
    """Name the file that keeps what the steps of one attempt print."""
    unit = "-".join([str(data_id[dimension]) for dimension in common.stage.per]) or "all"
    return template(_LOG).render(
        {
            "pipeline": common.pipeline,
            "stage": common.stage.name,
            "unit": unit,
            "campaign": common.number,
            "attempt": attempt,
        }
    )


class Claim(NamedTuple):
    """A name, and for what it is meant."""

    name: str
    type: str
    step: str
    """Empty for the log."""
    role: str
    to: str
    """Name of a store or working area, or ``none``."""


def claims(common: StageCommon, data_id: DataId, attempt: int = 1) -> Iterator[Claim]:
    """Yield every name that one attempt at a job may use.

    Raises
    ------
    BadName
        As :func:`output_names`.
    """
    for step in common.stage.steps:
        for role, output in step.outputs.items():
            for name in output_names(common, data_id, attempt, step.name, role):
                yield Claim(name, output.type, step.name, role, output.to)
    yield Claim(log_name(common, data_id, attempt), LOG, "", LOG, common.log_store)


class _Holder(NamedTuple):
    stage: Stage
    unit: str
    data_id: DataId
    claim: Claim


class Names:
    """Every name of a plan with what holds it: no two may be equal."""

    def __init__(self) -> None:
        self._holders: dict[str, _Holder] = {}

    def claim(self, common: StageCommon, unit: str, data_id: DataId, problems: Problems) -> bool:
        """Take every name of a job's first attempt; one that is taken is a problem that tells how to part the two.

        Returns
        -------
        bool
            Whether the job has names, and no other holds them.
        """
        topic = f"stage {common.stage.name!r}"
        free = True
        try:
            for claim in claims(common, data_id):
                holder = _Holder(common.stage, unit, data_id, claim)
                other = self._holders.setdefault(claim.name, holder)
                if other is not holder:
                    text = "" if claim.type == LOG else common.file_types[claim.type].template
                    problems.add(topic, _clash(holder, other, text), claim.name, noun="name")
                    free = False
        except BadName as error:
            problems.add(topic, str(error), unit)
            free = False
        return free

    def of(self, stage: Stage, sealed: Collection[str]) -> Iterator[str]:
        """Yield the names of a stage's units but for those that are sealed already."""
        for name, holder in self._holders.items():
            if holder.stage is stage and holder.unit not in sealed:
                yield name

    def refuse(self, taken: Iterable[str], problems: Problems) -> set[str]:
        """Report names that the catalogue has already, and return the units that wanted them."""
        units = set()
        for name in sorted(taken):
            stage, unit, _data_id, claim = self._holders[name]
            reason = f"the name of output {claim.role!r} ({claim.type}) is taken: the catalogue has a file of that name"
            problems.add(f"stage {stage.name!r}", reason, name, noun="name")
            units.add(unit)
        return units


def _clash(one: _Holder, other: _Holder, text: str) -> str:
    if one.claim.type == LOG:
        return "the logs of two units would have the same name; their dimensions' values differ only in '-'"
    kind = f"the template of file type {one.claim.type!r}, {text!r}"
    if one.stage.name != other.stage.name:
        return (
            f"{kind}, gives outputs of stages {other.stage.name!r} and {one.stage.name!r} the same name; add {{stage}}"
        )
    if one.unit == other.unit:
        return (
            f"{kind}, gives outputs {other.claim.role!r} of step {other.claim.step!r} and {one.claim.role!r} of step"
            f" {one.claim.step!r} the same name; add {'{role}' if one.claim.role != other.claim.role else '{step}'}"
        )
    fields = template(text).fields
    lacking = [
        dimension
        for dimension in one.stage.per
        if one.data_id[dimension] != other.data_id[dimension] and dimension not in fields
    ]
    if not lacking:
        return f"{kind}, gives different units the same name; separate its fields, as with '_'"
    return f"{kind}, lacks {' and '.join(f'{{{each}}}' for each in lacking)}: it cannot tell units apart"
