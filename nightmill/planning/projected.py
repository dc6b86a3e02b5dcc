"""Projected stages: the files that a stage is planned to make stand in for those that it will make."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from nightmill.config.rules import NOWHERE
from nightmill.errors import ExpressionError
from nightmill.expressions import parse
from nightmill.model.dimensions import KeyType, split
from nightmill.model.found_file import FoundFile
from nightmill.model.pipeline import Stage
from nightmill.planning.outputs import output_names
from nightmill.planning.problems import Problems
from nightmill.planning.sealed import StageView


@dataclass(frozen=True)
class Projected:
    """What a stage is planned to make; its files are made up when they are asked for.

    Parameters
    ----------
    known_after
        The stage that must end before the units of this one are known; empty where they are known.
    """

    plan: StageView
    known_after: str = ""

    def files(self, type_: str) -> Iterator[FoundFile]:
        """Yield the files of a type that later stages can read, in the order of the jobs; their IDs are negative."""
        number = 0
        outputs = [
            (step.name, role, output)
            for step in self.plan.stage.steps
            for role, output in step.outputs.items()
            if output.type == type_ and output.to != NOWHERE
        ]
        for job in self.plan.jobs if outputs else ():
            dimensions, metadata = split(job.data_id)
            for step, role, output in outputs:
                names = output_names(self.plan.common, job.data_id, 1, step, role)
                count = max(output.min, 1)
                for name in names * count if output.tells else names[:count]:
                    number -= 1
                    yield FoundFile(
                        number, name, type_, 0, "", dimensions, job.begins_at, job.ends_at, metadata, output.to, ""
                    )

    def unforeseen(self, type_: str, asked: Collection[str]) -> bool:
        """Say whether files of a type cannot be foreseen as far as some keys of them are asked.

        So it is where they tell one of these when they are made, or where the units of their stage are not known yet.
        """
        outputs = [output for step in self.plan.stage.steps for output in step.outputs.values() if output.type == type_]
        return bool(self.known_after) or any(set(output.tells) & set(asked) for output in outputs)

    def in_order_of(self, per: Sequence[str]) -> bool:
        """Say whether its files come in the order of the values of these dimensions."""
        return self.plan.stage.per[: len(per)] == tuple(per)


def known_after_of(
    stage: Stage, projected: Mapping[str, Projected], keys: Mapping[str, KeyType], problems: Problems
) -> str:
    """Return the stage that must end before the units of another, and what these read, can be foreseen; else nothing.

    Parameters
    ----------
    projected
        By stage: what those before it are planned to make.
    keys
        Every key that the site knows.
    problems
        Where a wrong expression is told.
    """
    for role, declared in ((role, way) for role, each in stage.inputs.items() for way in each.ways):
        source = projected.get(declared.source.own_stage)
        if source is None:
            continue
        asked = {*stage.per, *declared.asked}
        try:
            for text in filter(None, (stage.where, declared.where)):
                asked |= {name.removeprefix("metadata.") for name in parse(text, metadata_keys=keys).names}
        except ExpressionError as error:
            problems.add(f"stage {stage.name!r}, input {role!r}", str(error))
        if source.unforeseen(declared.type, asked):
            return source.plan.stage.name
    return ""
