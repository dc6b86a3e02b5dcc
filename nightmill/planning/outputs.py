"""Names: what each job's files will be called, proven unique before anything runs."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Final, NamedTuple

from nightmill.config.rules import LOG, OWN
from nightmill.files.naming import STEM, Template, key_of, slug, stem_of
from nightmill.model.attachment import JUNK
from nightmill.model.dimensions import DIMENSIONS, NAME, DataId
from nightmill.model.file_type import FileType
from nightmill.model.order import junk_name
from nightmill.model.pipeline import Output, Stage
from nightmill.planning.problems import Problems
from nightmill.planning.sealed import StageCommon, StageView

FEW: Final = 200_000
"""So many names are compared as they are: 100 bytes each, for a moment."""
_LOG: Final = "{pipeline}_{stage}_{unit}_c{campaign:04d}a{attempt:02d}.log"


@cache
def template(text: str) -> Template:
    """Return a template, parsed once."""
    return Template(text)


def output_names(common: StageCommon, data_id: DataId, attempt: int, step: str, role: str) -> tuple[str, ...]:
    """Name the files of one output of one attempt: as many names as it may have files.

    Returns
    -------
    tuple of str
        Where the files tell what makes their names, one: with fields for what they tell. None of scratch files.

    Raises
    ------
    BadName
        Where the template needs what the unit does not have, or makes no fit name of it.
    """
    output = next(each for each in common.stage.steps if each.name == step).outputs[role]
    if not output.type:
        return ()
    name = template(common.file_types[output.type].template)
    values: dict[str, object] = {
        **data_id,
        **({STEM: stem_of(str(data_id[NAME]))} if NAME in data_id else {}),
        "campaign": common.number,
        "attempt": attempt,
        "stage": common.stage.name,
        "step": step,
        "role": role,
        "file_type": output.type,
    }
    if output.tells and (told := told_fields(output, name)):
        return (name.open(values, told),)
    return tuple([name.render({**values, "n": n}) for n in range(1, output.max + 1)])


def told_fields(output: Output, name: Template) -> list[str]:
    """Return the fields of an output's names that its files tell."""
    return [field for field in name.fields if field in output.tells]


def log_name(common: StageCommon, data_id: DataId, attempt: int) -> str:
    """Name the file that keeps what the steps of one attempt print."""
    unit = "-".join([slug(str(data_id[key])) for key in common.stage.per]) or "all"
    return template(_LOG).render(
        {
            "pipeline": common.pipeline,
            "stage": common.stage.name,
            "unit": unit,
            "campaign": common.number,
            "attempt": attempt,
        }
    )


def naming_keys(stage: Stage, file_types: Mapping[str, FileType], keys: Iterable[str]) -> frozenset[str]:
    """Return the keys of files that the names of a stage's outputs are made of, beside dimensions."""
    outputs = [output for step in stage.steps for output in step.outputs.values() if output.type in file_types]
    fields = {
        key_of(field)
        for output in outputs
        if (text := file_types[output.type].template)
        for field in template(text).fields
        if field not in output.tells
    }
    return frozenset(fields & set(keys) - set(DIMENSIONS))


class Claim(NamedTuple):
    """A name, and for what it is meant."""

    name: str
    """With fields for what the file tells that will have it."""
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
    log = log_name(common, data_id, attempt)
    yield Claim(log, LOG, "", LOG, common.log_store)
    if common.stage.junk == "tar":
        yield Claim(junk_name(log), JUNK, "", JUNK, common.log_store)


class _Holder(NamedTuple):
    stage: Stage
    unit: str
    data_id: DataId
    claim: Claim


class Names:
    """Proves that no two names of a plan are equal: a name costs eight bytes until two may be."""

    def __init__(self) -> None:
        self._hashes = array("q")

    def take(self, names: Iterable[str]) -> None:
        """Take all names of a job."""
        self._hashes.extend(map(hash, names))

    def clashes(self, stages: Iterable[StageView], problems: Problems) -> set[int]:
        """Report the names of the last of these stages that were taken before; return the places of the jobs.

        Parameters
        ----------
        stages
            All whose names were taken, in the order in which they were.
        """
        if not (repeated := self._repeated()):
            return set()
        holders: dict[str, _Holder] = {}
        refused: set[int] = set()
        *before, last = stages
        for stage in (*before, last):
            topic = f"stage {stage.stage.name!r}"
            for place, job in enumerate(stage.jobs):
                for claim in claims(stage.common, job.data_id):
                    if hash(claim.name) not in repeated:
                        continue
                    holder = _Holder(stage.stage, job.unit, job.data_id, claim)
                    other = holders.setdefault(claim.name, holder)
                    if other is not holder and stage is last:
                        text = "" if claim.type in OWN else stage.common.file_types[claim.type].template
                        problems.add(topic, _clash(holder, other, text), claim.name, noun="name")
                        refused.add(place)
        return refused

    def _repeated(self) -> set[int]:
        """Return the hashes of names that may be equal."""
        if len(self._hashes) <= FEW:
            return {hash_ for hash_, count in Counter(self._hashes).items() if count > 1}
        import numpy as np  # a quarter of a second, which a small plan does without

        hashes = np.sort(np.frombuffer(self._hashes, dtype=np.int64))
        return set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())


def _clash(one: _Holder, other: _Holder, text: str) -> str:
    if one.claim.type in OWN:
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
