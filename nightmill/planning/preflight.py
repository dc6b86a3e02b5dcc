"""What can be said of a campaign before any file is looked for: that all it names is known and fits together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from nightmill.config.site import SiteConfig
from nightmill.errors import BadName, guess
from nightmill.model.campaign import Campaign
from nightmill.model.dimensions import DIMENSIONS
from nightmill.model.file_type import FileType
from nightmill.model.pipeline import Input, Output, Pipeline, Stage, Step
from nightmill.model.store import Store
from nightmill.planning.inputs import unit_role
from nightmill.planning.orders import INTERMEDIATE, placeholders, several
from nightmill.planning.outputs import FIELDS, template
from nightmill.planning.problems import Problems

NEEDED_FIELDS: Final = ("campaign", "attempt")
"""What every output's template must hold, for a name must be unique for ever."""
DEFAULT_STORE: Final = "backbone"


def stages_in_order(pipeline: Pipeline) -> tuple[list[Stage], list[Stage]]:
    """Order stages so that each comes after those that it takes from.

    Returns
    -------
    tuple
        The stages in that order, and those that wait for each other in a circle.
    """
    known = {stage.name for stage in pipeline.stages}
    ordered: dict[str, Stage] = {}
    rest = list(pipeline.stages)
    while ready := next((stage for stage in rest if upstream(stage) & known <= ordered.keys()), None):
        ordered[ready.name] = ready
        rest.remove(ready)
    return list(ordered.values()), rest


def upstream(stage: Stage) -> set[str]:
    """Return the names of the stages that a stage takes inputs from."""
    return {declared.source.stage for declared in stage.inputs.values() if declared.source.stage}


def log_store(stores: Mapping[str, Store]) -> str:
    """Return the store that keeps logs: the one called backbone, else the first that is no working area."""
    catalogued = [name for name, store in stores.items() if store.catalogued]
    return DEFAULT_STORE if DEFAULT_STORE in catalogued else next(iter(catalogued), "")


def check_stage(stage: Stage, campaign: Campaign, site: SiteConfig, problems: Problems) -> None:
    """Report everything in a stage that is not known to the site or does not fit together."""
    topic = f"stage {stage.name!r}"
    _known("dimension", stage.per, DIMENSIONS, f"{topic}, per", problems)
    making = unit_role(stage)
    if making not in stage.inputs:
        problems.add(topic, "no input can make its units: each has a lookup; name one in 'units_from'")
    elif stage.inputs[making].lookup is not None:
        problems.add(topic, f"input {making!r} makes its units and cannot have a lookup")
    elif stage.inputs[making].source.calibrations:
        problems.add(topic, f"input {making!r} makes its units and cannot come from calibration sets")
    for role, declared in stage.inputs.items():
        _check_input(f"{topic}, input {role!r}", declared, campaign.pipeline, site, problems)
    for step in stage.steps:
        for role, output in step.outputs.items():
            _check_output(f"{topic}, step {step.name!r}, output {role!r}", output, site, problems)
        _check_texts(f"{topic}, step {step.name!r}", step, stage, campaign, problems)
    if not log_store(site.stores):
        problems.add("site", "no store is configured, so that neither outputs nor logs have a place")


def _known(kind: str, names: Iterable[str], known: Iterable[str], topic: str, problems: Problems) -> bool:
    """Report names that are not known, each with a guess; say whether all are."""
    known = list(known)
    unknown = [name for name in names if name not in known]
    for name in unknown:
        problems.add(topic, f"no {kind} named {name!r}{guess(name, known) or _few(known)}")
    return not unknown


def _few(known: Sequence[str]) -> str:
    return f" (there {'is' if len(known) == 1 else 'are'} {', '.join(known)})" if 0 < len(known) <= 8 else ""


def _check_input(topic: str, declared: Input, pipeline: Pipeline, site: SiteConfig, problems: Problems) -> None:
    _known("file type", [declared.type], site.file_types, topic, problems)
    _known("dimension", declared.match or (), DIMENSIONS, f"{topic}, match", problems)
    lookup, source = declared.lookup, declared.source
    if lookup is not None and lookup.strategy == "valid" and not source.calibrations:
        problems.add(topic, "lookup 'valid' needs files with a validity range: say 'source: {calibrations: [SET]}'")
    stages = {stage.name: stage for stage in pipeline.stages}
    if source.stage and _known("stage", [source.stage], stages, topic, problems):
        outputs = [output for step in stages[source.stage].steps for output in step.outputs.values()]
        made = [output for output in outputs if output.type == declared.type]
        if not made:
            types = sorted({output.type for output in outputs})
            problems.add(topic, f"stage {source.stage!r} makes no {declared.type} but {', '.join(types)}")
        elif not any(_is_kept(output, site) for output in made):
            problems.add(
                topic,
                f"stage {source.stage!r} keeps no {declared.type} where another job can read it (to: {made[0].to});"
                " send it to a store",
            )


def _is_kept(output: Output, site: SiteConfig) -> bool:
    store = site.stores.get(output.to)
    return output.to != INTERMEDIATE and (store is None or store.catalogued)


def _check_output(topic: str, output: Output, site: SiteConfig, problems: Problems) -> None:
    _known("store or working area", [output.to], [*site.stores, INTERMEDIATE], topic, problems)
    if output.calibration is not None and not _is_kept(output, site):
        problems.add(topic, f"a calibration must be kept in a store, and it goes to {output.to!r}")
    if _known("file type", [output.type], site.file_types, topic, problems):
        _check_template(topic, output, site.file_types[output.type], problems)


def _check_template(topic: str, output: Output, file_type: FileType, problems: Problems) -> None:
    kind = f"file type {file_type.name!r}"
    if not file_type.template:
        problems.add(topic, f"{kind} has no template to name an output with; its files keep the names they come with")
        return
    try:
        fields = template(file_type.template).fields
    except BadName as error:
        problems.add(topic, f"{kind}: {error}")
        return
    written = f"the template of {kind}, {file_type.template!r},"
    _known("field", sorted(fields), FIELDS, f"{topic}, template of {kind}", problems)
    meanings = {"campaign": "two campaigns", "attempt": "two attempts at a job"}
    for needed in NEEDED_FIELDS:
        if needed not in fields:
            problems.add(topic, f"{written} lacks {{{needed}:02d}}: it cannot tell {meanings[needed]} apart")
    if output.max > 1 and "n" not in fields:
        problems.add(topic, f"{written} lacks {{n}}: it cannot tell the up to {output.max} files of the output apart")


def _check_texts(topic: str, step: Step, stage: Stage, campaign: Campaign, problems: Problems) -> None:
    """Report what the command line of a step names and does not have."""
    made = {role for other in stage.steps[: stage.steps.index(step)] for role in other.outputs}
    readable = [role for role in (*stage.inputs, *made) if role in step.inputs]
    _known("input", step.inputs, [*stage.inputs, *made], topic, problems)
    known: Mapping[str, Iterable[str]] = {
        "inputs": readable,
        "outputs": step.outputs,
        "parameters": campaign.parameters,
        "unit": DIMENSIONS,
    }
    for text in (*step.argv, *step.arguments.values()):
        for kind, name in placeholders(text):
            if _known(kind.removesuffix("s"), [name], known[kind], f"{topic}, {text!r}", problems) and kind == "inputs":
                _check_standing(topic, text, name, stage, problems)


def _check_standing(topic: str, text: str, role: str, stage: Stage, problems: Problems) -> None:
    declared = stage.inputs.get(role)
    if text != f"{{inputs.{role}}}" and declared is not None and several(declared):
        reason = f"{text!r} holds input {role!r} inside of a longer text, and it may be several files"
        problems.add(topic, f"{reason}; let {{inputs.{role}}} stand alone")
