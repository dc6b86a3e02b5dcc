"""What a site says of a stage before any file is looked for: that it knows what is named there."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from nightmill.config.rules import NOWHERE
from nightmill.config.site import SiteConfig
from nightmill.config.stores import BACKBONE
from nightmill.errors import BadName, ExpressionError, RequestRefused, guess
from nightmill.expressions import parse
from nightmill.files.checks import check_class
from nightmill.files.computed import type_of
from nightmill.files.name_patterns import NamePattern, fields_in
from nightmill.files.naming import ATTEMPT_FIELDS, key_of
from nightmill.model.campaign import Campaign
from nightmill.model.dimensions import DIMENSIONS, KeyType
from nightmill.model.file_type import FileType
from nightmill.model.pipeline import Input, Output, Pipeline, Stage, Step
from nightmill.model.store import Store
from nightmill.planning.inputs import takes_one
from nightmill.planning.memberships import columns_of
from nightmill.planning.outputs import template, told_fields
from nightmill.planning.problems import Problems
from nightmill.planning.texts import asked_keys
from nightmill.planning.tilings import TILE

_OF_CATALOGUE: Final = ("origin", "original_name", "registered_at")
"""What an expression over a new file cannot ask."""


def log_store(stores: Mapping[str, Store]) -> str:
    """Return the store that keeps logs: the one called backbone, else the first that is not a working area."""
    catalogued = [name for name, store in stores.items() if store.catalogued]
    return BACKBONE if BACKBONE in catalogued else next(iter(catalogued), "")


def check_inputs(stage: Stage, campaign: Campaign, site: SiteConfig, problems: Problems) -> list[str]:
    """Report every key, file type and source of a stage's inputs that cannot work; return the roles of other inputs."""
    topic = f"stage {stage.name!r}"
    keys = site.keys
    unknown = _check_keys(topic, "per names", stage.per, keys, problems, _written(campaign, stage, "per"))
    making = stage.making
    calibration = bool(stage.inputs[making].lookup or stage.inputs[making].source.calibrations)
    if calibration:
        problems.add(topic, f"input {making!r} makes its units, and so cannot be a calibration or have a lookup")
    return [
        role
        for role, declared in stage.inputs.items()
        if _check_ways(f"{topic}, input {role!r}", declared, campaign.pipeline, site, problems)
        and _check_through(f"{topic}, input {role!r}", declared, stage, site, problems)
        and _check_match(f"{topic}, input {role!r}", role, stage, campaign, site, problems)
        and not ((calibration or unknown) and role == making)
        and _check_staged_as(f"{topic}, input {role!r}", declared, site, problems)
    ]


def _check_keys(
    topic: str, what: str, names: Iterable[str], keys: Mapping[str, KeyType], problems: Problems, written: str = ""
) -> bool:
    """Report names that are not keys of the site, with where they are written; say whether there are any."""
    unknown = [name for name in dict.fromkeys(names) if name not in keys]
    for name in unknown:
        near = guess(name, list(keys)) or f" (there is {', '.join(keys)})"
        problems.add(topic, f"{what} {name!r}, which is not a key of any file type{near}{written}")
    return bool(unknown)


def _written(campaign: Campaign, stage: Stage, key: str) -> str:
    """Say which layer, and which line of it, has a key of a stage."""
    layer = campaign.origins.get(f"pipeline.stages.{stage.name}.{key}")
    return f" ({layer})" if layer is not None else ""


def _check_through(topic: str, declared: Input, stage: Stage, site: SiteConfig, problems: Problems) -> bool:
    """Say whether an input's files can come through the rows that it names; report why not."""
    if declared.tiling is not None:
        return _check_tiling(topic, declared.tiling.tiling, declared, stage, site, problems)
    if not declared.table:
        return True
    type_ = stage.inputs[declared.table].type
    columns = columns_of(site.file_types.get(type_))
    if not columns:
        reason = f"it comes through {declared.table!r}, and files of type {type_!r} have no rows; give the type a"
        problems.add(topic, f"{reason} 'membership'")
    mixed = [
        key
        for key, wanted in declared.asked.items()
        if columns and set(wanted) & set(columns) not in ({*wanted}, set())
    ]
    for key in mixed:
        wanted = ", ".join(declared.asked[key])
        problems.add(topic, f"match compares {key} with {wanted}, of which some are columns of rows and some are not")
    return bool(columns) and not mixed


def _check_tiling(topic: str, tiling: str, declared: Input, stage: Stage, site: SiteConfig, problems: Problems) -> bool:
    """Say whether an input's files can be told by the tiles that they touch; report why not."""
    if not _known("tiling", tiling, site.tilings, topic, problems):
        return False
    file_type = site.file_types.get(declared.type)
    if TILE not in stage.per:
        problems.add(topic, f"it comes through tiling {tiling!r}, and 'per' of the stage has no {TILE}")
    if file_type is not None and file_type.footprint is None:
        reason = f"it comes through tiling {tiling!r}, and files of type {declared.type!r} have no footprint"
        problems.add(topic, f"{reason}; give the type a 'footprint'")
    return TILE in stage.per and file_type is not None and file_type.footprint is not None


def _check_match(topic: str, role: str, stage: Stage, campaign: Campaign, site: SiteConfig, problems: Problems) -> bool:
    """Say whether the keys that an input is matched by are known; report those that are not."""
    pairs = [pair for way in stage.inputs[role].ways for pair in way.asked.items()]
    through = stage.inputs[role].table
    columns = columns_of(site.file_types.get(stage.inputs[through].type)) if through else ()
    of_unit = [each.rpartition(".")[2] for _key, wanted in pairs for each in wanted if each not in columns]
    return not _check_keys(
        topic,
        "match names",
        [*(key for key, _wanted in pairs), *of_unit],
        site.keys,
        problems,
        _written(campaign, stage, f"inputs.{role}.match"),
    )


def _check_staged_as(topic: str, declared: Input, site: SiteConfig, problems: Problems) -> bool:
    """Say whether the site knows the keys that the names of an input's files in the scratch are made of."""
    names = [key_of(field) for field in template(declared.staged_as).fields]
    return not _check_keys(topic, "staged_as asks for", names, site.keys, problems)


def check_images(stage: Stage, site: SiteConfig, problems: Problems) -> None:
    """Report the images of a stage's steps that the hosts of a site cannot run, by what it says."""
    for step in stage.steps:
        if step.image and (lacking := site.containers.lacking(step.image)):
            problems.add(f"stage {stage.name!r}, step {step.name!r}", f"it runs in image {step.image}, and {lacking}")


def check_texts(stage: Stage, site: SiteConfig, templates: Collection[str], problems: Problems) -> bool:
    """Say whether the site knows every key of files that texts of a stage ask for, and their templates are there."""
    fit = True
    for step in stage.steps:
        topic = f"stage {stage.name!r}, step {step.name!r}"
        fit = not _check_keys(topic, "a text asks for", asked_keys(step), site.keys, problems) and fit
        for name, file in step.files.items():
            if file.template and file.template not in templates:
                problems.add(topic, f"file {name!r} has a template, {file.template!r}, and the pipeline has no folder")
                fit = False
    return fit


def check_outputs(stage: Stage, site: SiteConfig, problems: Problems) -> None:
    """Report every file type, store and template of a stage's outputs that cannot work on this site."""
    for step in stage.steps:
        for role, output in step.outputs.items():
            topic = f"stage {stage.name!r}, step {step.name!r}, output {role!r}"
            _check_output(topic, output, stage, site, problems)
            if output.type in site.file_types:
                _check_compared(topic, step, site.file_types[output.type], problems)
    if not log_store(site.stores):
        problems.add("site", "it has no store, so that neither outputs nor logs have a place")


def _known(kind: str, name: str, known: Iterable[str], topic: str, problems: Problems) -> bool:
    """Say whether a name is known; report one that is not, with a guess or with what there is."""
    names = list(known)
    if name in names:
        return True
    near = guess(name, names) or f" (there is {', '.join(names) or 'none'})"
    problems.add(topic, f"no {kind} named {name!r}{near}")
    return False


def _check_ways(topic: str, declared: Input, pipeline: Pipeline, site: SiteConfig, problems: Problems) -> bool:
    """Say whether files can be looked for in every way in which an input is filled; report why not."""
    fit = [_check_input(topic, way, pipeline, site, problems) for way in declared.ways]
    return all(fit)


def _check_input(topic: str, declared: Input, pipeline: Pipeline, site: SiteConfig, problems: Problems) -> bool:
    """Say whether an input's files can be looked for; report why not."""
    if not _known("file type", declared.type, site.file_types, topic, problems):
        return False
    if declared.source.own_stage:
        steps = pipeline.stage(declared.source.own_stage).steps
        made = [output for step in steps for output in step.outputs.values() if output.type == declared.type]
        if not any(_is_kept(output, site) for output in made):
            where = f"stage {declared.source.own_stage!r} delivers its {declared.type} to a working area"
            problems.add(topic, f"{where}, and jobs read from stores alone; send it to a store")
            return False
    return True


def _is_kept(output: Output, site: SiteConfig) -> bool:
    """Say whether later jobs can read an output; of a place that the site does not know, which is told, yes."""
    store = site.stores.get(output.to)
    return output.to != NOWHERE and (store is None or store.catalogued)


def _check_output(topic: str, output: Output, stage: Stage, site: SiteConfig, problems: Problems) -> None:
    _known("store or working area", output.to, [*site.stores, NOWHERE], topic, problems)
    if output.to in site.stores and site.stores[output.to].read_only:
        problems.add(topic, f"it goes to store {output.to!r}, which is read-only; send it to another")
    if output.calibration is not None and not _is_kept(output, site):
        problems.add(topic, f"a calibration must be kept in a store, and it goes to {output.to!r}")
    if output.type and _known("file type", output.type, site.file_types, topic, problems):
        file_type = site.file_types[output.type]
        _check_template(topic, output, stage, site, problems)
        _check_told(topic, output, site, file_type, problems)


def _check_compared(topic: str, step: Step, file_type: FileType, problems: Problems) -> None:
    """Report checks that compare an output with inputs that its step does not read."""
    for name, options, _warns in file_type.checks.asked():
        kind = check_class(name)
        roles = kind.input_roles(kind.Options.model_validate(options)) if hasattr(kind, "input_roles") else ()
        for role in roles:
            if role not in step.inputs:
                near = guess(role, step.inputs) or f" (it reads {', '.join(step.inputs) or 'nothing'})"
                what = f"check {name!r} of file type {file_type.name!r} compares it with input {role!r}"
                problems.add(topic, f"{what}, which its step does not read{near}")


def _check_template(topic: str, output: Output, stage: Stage, site: SiteConfig, problems: Problems) -> None:
    file_type = site.file_types[output.type]
    kind = f"file type {file_type.name!r}"
    name = template(file_type.template)
    fields, told = name.fields, told_fields(output, name)
    free = [each for each in fields if each not in (*ATTEMPT_FIELDS, *told) and key_of(each) not in stage.per]
    if takes_one(stage, site.file_types):
        free = []
    if free:
        reason = (
            f"the template of {kind}, {file_type.template!r}, has {' and '.join(f'{{{each}}}' for each in free)}, which"
            f" may differ between the files of one unit; add {' and '.join(free)} to 'per' of the stage, or to 'tells'"
            " of the output where its files tell it"
        )
        problems.add(topic, reason)
    if not file_type.template:
        problems.add(topic, f"{kind} has no template to name outputs with: its files keep the names they come with")
    elif output.tells and "n" in fields:
        problems.add(
            topic,
            f"the template of {kind}, {file_type.template!r}, has {{n}}, which numbers files that nothing tells apart,"
            f" and these tell {' and '.join(output.tells)}; put that into the template, or leave out 'tells'",
        )
    elif told and not output.produces:
        problems.add(
            topic,
            f"the template of {kind}, {file_type.template!r}, has {' and '.join(f'{{{each}}}' for each in told)}, which"
            " the file is yet to tell, so that its step cannot know its name; say in 'produces' what it calls it",
        )
    elif output.max > 1 and "n" not in fields and not told:
        problems.add(
            topic,
            f"the template of {kind}, {file_type.template!r}, lacks {{n}}, and keys that the files tell: it cannot tell"
            f" the up to {output.max} files of the output apart",
        )


def _check_told(topic: str, output: Output, site: SiteConfig, file_type: FileType, problems: Problems) -> None:
    """Report keys that files cannot tell, a pattern that cannot be read back, and a wrong expression over files."""
    kinds = {**{name: kind for name, kind in site.keys.items() if name in DIMENSIONS}}
    kinds |= {name: type_of(key) for name, key in file_type.metadata.items()}
    for name in output.tells:
        if name not in kinds:
            near = guess(name, list(kinds))
            problems.add(
                topic,
                f"it tells {name!r}, which is neither a dimension nor metadata of file type {file_type.name!r}{near};"
                f" add it there, as {name}: {{type: int, told: true}}",
            )
            return
    try:
        if fields := fields_in(output.produces):
            known = {**site.keys, **kinds}
            NamePattern(output.produces, known)
            for name in (name for name in fields if known.get(name) == "time"):
                raise BadName(f"produces {output.produces!r} has {{{name}}}, a time, and a step's names tell none")
        if output.where:
            for name in parse(output.where, metadata_keys=file_type.metadata).names & set(_OF_CATALOGUE):
                raise ExpressionError(f"{name} is what the catalogue says of a file, not its header", text=output.where)
    except RequestRefused as error:
        problems.add(topic, str(error))
