"""What a pipeline must be in itself: everything that can be said of it without a site, files or a database."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Final

from nightmill import plugins
from nightmill.config.document import Key
from nightmill.config.lookups import GROUP
from nightmill.config.placeholders import check_texts
from nightmill.errors import BadName, guess
from nightmill.files.name_patterns import fields_in
from nightmill.files.naming import ATTEMPT_FIELDS, Template, is_fit
from nightmill.model.attachment import JUNK
from nightmill.model.calibration import Calibration
from nightmill.model.dimensions import NAME, TIMES
from nightmill.model.fate import Fate
from nightmill.model.pipeline import ALSO, Input, LookupSetting, Output, Pipeline, Stage, Step
from nightmill.model.retries import Retries

Problem = tuple[Key, str]
"""The way to a key as people write it, and what is wrong there."""

_ROLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_CALL: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
LOG: Final = "log"
OWN: Final = (LOG, JUNK)
"""Roles, and file types, that are those of nightmill itself."""
"""File type and role of the file that keeps what a job prints."""
NOWHERE: Final = "none"
"""The destination of files that are known and not kept."""


def check_pipeline(pipeline: Pipeline) -> Iterator[Problem]:
    """Yield everything that is wrong with a pipeline in itself, with the key where it is."""
    yield from _check_name("pipeline", pipeline.name, ("pipeline",))
    if not pipeline.stages:
        yield ("stages",), "a pipeline needs at least one stage"
    for name in pipeline.parameters:
        if not _ROLE.fullmatch(name):
            yield ("parameters", name), f"parameter name {name!r} should have letters, digits, _ and - alone"
    for number, stage in enumerate(pipeline.stages):
        key = ("stages", stage.name)
        yield from _check_name("stage", stage.name, key)
        for rest, text in _check_stage(stage, pipeline, number):
            yield (*key, *rest), text


def check_fit(kind: str, name: str) -> Iterator[str]:
    """Yield what is wrong with a name that people give and that names of files and folders are made of."""
    if not is_fit(name):
        yield f"{kind} {name!r} should have letters, digits and . _ + - alone, and begin with a letter or digit"


def _check_name(kind: str, name: str, key: Key) -> Iterator[Problem]:
    yield from ((key, text) for text in check_fit(f"{kind} name", name))


def _check_stage(stage: Stage, pipeline: Pipeline, number: int) -> Iterator[Problem]:
    yield from _check_keys(stage.per, ("per",))
    for name, role in stage.inputs.items():
        key = ("inputs", name)
        if not _ROLE.fullmatch(name):
            yield key, f"role {name!r} should have letters, digits, _ and - alone"
        for rest, text in _check_input(role, pipeline.stages, number):
            yield (*key, *rest), text
    yield from _check_references(stage)
    yield from _check_missing(stage)
    makers = [name for name, role in stage.inputs.items() if not role.lookup]
    if stage.units_from and stage.units_from not in stage.inputs:
        near = guess(stage.units_from, list(stage.inputs))
        yield ("units_from",), f"units_from names {stage.units_from!r}, which is not an input of the stage{near}"
    elif not makers and not stage.units_from:
        yield ("inputs",), "no input without a lookup: nothing makes the units of the stage"
    if isinstance(stage.when, int) and stage.when < 1:
        yield ("when",), f"when is {stage.when} and should be all, any or a number of jobs"
    yield from _check_retries(stage.retries)
    for name in ("cores", "memory_bytes", "scratch_bytes"):
        value = getattr(stage.resources, name)
        if value is not None and value < 1:
            yield ("resources", name), f"{name} is {value} and should be 1 or more"
    yield from _check_steps(stage, pipeline)


def _check_retries(retries: Retries) -> Iterator[Problem]:
    """Yield where retries say something of a fate that nothing is done after, or nothing at all."""
    for fate, said in ({} if isinstance(retries, int) else retries).items():
        if fate in (Fate.PUBLISHED, Fate.CANCELLED):
            yield ("retries", fate.value), f"a job that ended as {fate} is not one that failed; leave it out"
        elif said.exit and fate is not Fate.STEP_FAILED:
            yield (
                ("retries", fate.value, "exit"),
                f"where the fate is {fate} no step exits; exit goes under step_failed",
            )
        elif not said.exit and "tries" not in said.model_fields_set:
            yield ("retries", fate.value), "tries is missing: how often a job is tried again after this"


def _check_keys(names: Sequence[str], key: Key) -> Iterator[Problem]:
    for name in names:
        if not name.isidentifier():
            yield key, f"{name!r} cannot be the name of a key"
    if len(set(names)) < len(names):
        yield key, f"{', '.join(names)}: a key is named twice"


def _check_references(stage: Stage) -> Iterator[Problem]:
    """Yield what is wrong with the keys of other inputs that inputs are matched by."""
    for name, role in stage.inputs.items():
        for other in role.references:
            if other not in stage.inputs:
                near = guess(other, list(stage.inputs))
                key, what = (
                    ("through", "through names") if other == role.table else ("match", "match asks for a key of")
                )
                yield ("inputs", name, key), f"{what} {other!r}, which is not an input of the stage{near}"
        yield from ((("inputs", name, "through"), text) for text in _check_through(name, role))
    try:
        TopologicalSorter({name: role.references for name, role in stage.inputs.items()}).prepare()
    except CycleError as error:
        round_ = " and ".join(dict.fromkeys(error.args[1]))
        yield ("inputs",), f"inputs {round_} are matched by each other: nothing can be chosen first"


def _check_missing(stage: Stage) -> Iterator[Problem]:
    """Yield where ``missing`` says something of an input that cannot lack files."""
    for name, role in stage.inputs.items():
        key = ("inputs", name, "missing")
        if role.missing != "refuse" and name == stage.making:
            yield key, f"{name!r} makes the units of the stage, so that no unit lacks it; leave missing out"
        elif role.missing != "refuse" and role.min == 0:
            yield key, f"{name!r} has min 0, so that no unit lacks it; leave missing out"


def _check_through(name: str, role: Input) -> Iterator[str]:
    if role.table == name:
        yield f"input {name!r} comes through itself; rows of its own files make the units where 'per' has their columns"
    if role.through and role.lookup is not None:
        yield f"input {name!r} comes through rows, which choose its files; leave the lookup out"


def _check_match(role: Input) -> Iterator[Problem]:
    key = ("match",)
    if isinstance(role.match, Mapping) and role.adds and len(role.match) > 1:
        others = ", ".join(name for name in role.match if name != ALSO)
        yield key, f"match has {ALSO} and {others}; put them under {ALSO}, or leave {ALSO} out"
    elif isinstance(role.match, Mapping) and not role.adds and any(map(_is_mapping, role.match.values())):
        yield key, "match maps a key of the file to a key of the unit, or to a list of them"
    else:
        yield from _check_keys(role.match if isinstance(role.match, tuple) else tuple(role.asked), key)
        for keys in role.asked.values():
            yield from _check_keys([each.rpartition(".")[2] for each in keys], key)


def _is_mapping(value: object) -> bool:
    return isinstance(value, Mapping)


def _check_input(role: Input, stages: Sequence[Stage], number: int) -> Iterator[Problem]:
    if role.min < 0 or (role.max is not None and role.max < max(role.min, 1)):
        yield ("max",), f"min is {role.min} and max is {role.max}: no number of files is both"
    if role.lookup == ():
        yield ("lookup",), "lookup is an empty list; leave it out, or say what chooses"
    if role.staged_as:
        yield from ((("staged_as",), text) for text in _check_staged_as(role))
    yield from _check_match(role)
    for place, way in enumerate(role.ways):
        of_way: Key = ("lookup", place) if isinstance(role.lookup, tuple) else ("lookup",)
        own = way.lookup if isinstance(way.lookup, LookupSetting) else None
        yield from _check_source(way, of_way if own is not None and own.source is not None else (), stages, number)
        if own is not None and own.match is not None:
            yield from (((*of_way, *key), text) for key, text in _check_match(way))


def _check_staged_as(role: Input) -> Iterator[str]:
    try:
        fields = Template(role.staged_as).fields
    except BadName as error:
        yield str(error)
        return
    if not fields and role.max != 1:
        yield f"staged_as {role.staged_as!r} gives every file of the input one name; put a key of the files into it"


def _check_source(way: Input, key: Key, stages: Sequence[Stage], number: int) -> Iterator[Problem]:
    source = way.source
    others = [name for name in ("stage", "campaigns") if getattr(source, name)]
    if source.calibrations and others:
        yield (
            (*key, "source"),
            f"source has {' and '.join([*others, 'calibrations'])}; sets of calibrations stand alone",
        )
    if source.context and not source.calibrations:
        yield (*key, "source"), f"context {source.context!r} pins calibrations; name the sets in calibrations"
    if source.own_stage:
        yield from (((*key, *rest), text) for rest, text in _check_source_stage(way, stages, number))
    if not way.lookup and source.calibrations:
        known = ", ".join(plugins.names(GROUP))
        yield (*key, "source"), f"calibrations are chosen by a lookup; add lookup: {{strategy: NAME}}; there is {known}"


def _check_source_stage(role: Input, stages: Sequence[Stage], number: int) -> Iterator[Problem]:
    wanted, own = role.source.stage, stages[number].name
    key = ("source", "stage")
    names = [stage.name for stage in stages]
    before = names[:number]
    if wanted not in names:
        yield key, f"there is no stage {wanted!r}{guess(wanted, before)}"
    elif wanted == own:
        yield key, f"stage {own!r} cannot take files from itself; take them from a stage before it"
    elif wanted not in before:
        yield key, f"stage {wanted!r} comes after {own!r}; take files from a stage before this one, or move it up"
    else:
        outputs = [output for step in stages[names.index(wanted)].steps for output in step.outputs.values()]
        kept = sorted({output.type for output in outputs if output.to != NOWHERE})
        if role.type not in kept:
            makes = f"it makes {', '.join(kept)}" if kept else "it keeps nothing"
            yield key, f"stage {wanted!r} keeps no files of type {role.type!r}{guess(role.type, kept) or f' ({makes})'}"


def _check_steps(stage: Stage, pipeline: Pipeline) -> Iterator[Problem]:
    if not stage.steps:
        yield ("steps",), "a stage needs at least one step"
    made: dict[str, str] = {}
    for step in stage.steps:
        key = ("steps", step.name)
        yield from _check_name("step", step.name, key)
        for rest, text in _check_step(step, stage, pipeline, made):
            yield (*key, *rest), text
        made |= dict.fromkeys(step.outputs, step.name)


def _check_step(step: Step, stage: Stage, pipeline: Pipeline, made: dict[str, str]) -> Iterator[Problem]:
    if bool(step.argv) == bool(step.call):
        both = "both argv and call" if step.argv else "neither argv nor call"
        yield (), f"step {step.name!r} has {both}, and takes one of them"
    if step.call and not _CALL.fullmatch(step.call):
        yield ("call",), f"call {step.call!r} should be package.module:function"
    if step.arguments and not step.call:
        yield ("arguments",), "arguments are for a call; write them into argv"
    yield from ((("warm",), text) for text in _check_warm(step))
    yield from _check_step_inputs(step, [*stage.inputs, *made])
    for role, output in step.outputs.items():
        for rest, text in _check_output(role, output, stage, made):
            yield ("outputs", role, *rest), text
    if not 0 < step.wall_seconds < float("inf"):
        yield ("wall_seconds",), f"wall_seconds is {step.wall_seconds:g} and should be more than 0"
    for role in (role for role, output in step.outputs.items() if step.on_failure == "continue" and output.required):
        yield ("outputs", role), "it may be lacking, as the job goes on where its step fails; say required: false"
    for program, argv in step.software.items():
        if not argv:
            yield ("software", program), f"software {program!r} needs the argv that prints its version"
    yield from check_texts(step, stage, pipeline)


def _check_warm(step: Step) -> Iterator[str]:
    """Yield why a step cannot be a fork of a process that has imported modules."""
    for name in step.warm:
        if not all(map(str.isidentifier, name.split("."))):
            yield f"warm names modules to import, as astropy.io.fits, and {name!r} cannot be one"
    python, first, *_ = *step.argv, "", ""
    if step.warm and not step.call and (python != "{python}" or not first or (first[0] == "-" and first != "-m")):
        yield "warm needs a step that begins with '{python}' and a script, or '{python}', '-m' and a module"


def _check_step_inputs(step: Step, known: Sequence[str]) -> Iterator[Problem]:
    for role in step.inputs:
        if role not in known:
            where = "an input of the stage or an output of an earlier step"
            yield ("inputs",), f"{role!r} is not {where}{guess(role, known)}"
    for role in dict.fromkeys(step.inputs):
        if step.inputs.count(role) > 1:
            yield ("inputs",), f"{role!r} is named twice; name it once"


def _check_output(role: str, output: Output, stage: Stage, made: dict[str, str]) -> Iterator[Problem]:
    if not _ROLE.fullmatch(role):
        yield (), f"role {role!r} should have letters, digits, _ and - alone"
    if role in stage.inputs:
        yield (), f"role {role!r} is an input of the stage already; give the output a name of its own"
    if role in made:
        yield (), f"role {role!r} is an output of step {made[role]!r} already; give this output a name of its own"
    if role in OWN:
        yield (), f"role {role!r} is one that nightmill has itself; give the output a name of its own"
    if output.min < 0 or output.max < max(output.min, 1):
        yield ("max",), f"min is {output.min} and max is {output.max}: no number of files is both"
    if output.max > 1 and not output.produces:
        yield ("max",), f"max is {output.max}: an output of several files needs produces: a pattern of their names"
    yield from _check_told(output, stage) if output.type else _check_scratch_file(output)
    if output.calibration is not None:
        if output.to == NOWHERE:
            yield ("calibration",), "a file that is not kept (to: none) cannot be a calibration"
        yield from check_calibration(output.calibration)


def _check_told(output: Output, stage: Stage) -> Iterator[Problem]:
    """Yield what is wrong with the names that a step gives to files of an output, and with what the files tell."""
    key = ("produces",)
    if "/" in output.produces:
        yield key, f"produces {output.produces!r} should be a pattern of names, without folders"
    yield from _check_keys(output.tells, ("tells",))
    for name in output.tells:
        if name in (*ATTEMPT_FIELDS, *TIMES, NAME):
            yield ("tells",), f"{name!r} cannot be told by a file: it is told otherwise already"
        elif name in stage.per:
            yield ("tells",), f"{name!r} is a key of the unit (per), which is known before; leave it out"
    try:
        fields = fields_in(output.produces)
    except BadName as error:
        yield key, str(error)
        return
    known = [*output.tells, *(name for name in stage.per if name != NAME)]
    for name in fields:
        if name not in known:
            near = guess(name, known)
            yield key, f"produces {output.produces!r} has {{{name}}}{near}; say that it is told: tells: [{name}]"
    if fields and any(each in output.produces for each in "*?["):
        yield (
            key,
            f"produces {output.produces!r} has fields and wildcards; a name that tells values has fields alone",
        )
    if output.where and not output.produces:
        yield ("where",), "where tells files of one pattern apart, and this output has none; add produces"


def _check_scratch_file(output: Output) -> Iterator[Problem]:
    if output.to != NOWHERE:
        yield ("type",), f"a file that is kept (to: {output.to}) needs a type; without one, say to: {NOWHERE}"
    elif not output.produces or "/" in output.produces:
        yield ("produces",), "a file without a type keeps its name: say in produces which it is, without folders"
    for name in ("tells", "where"):
        if getattr(output, name):
            yield (name,), f"{name} is about what files say of themselves, which their type knows; add type"


def check_calibration(calibration: Calibration) -> Iterator[Problem]:
    """Yield what is wrong with how a file becomes a calibration, under the key that says so."""
    if calibration.valid_days_before < 0 or calibration.valid_days_after < 0:
        yield ("calibration",), "valid_days_before and valid_days_after should be 0 or more"
