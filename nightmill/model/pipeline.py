"""Pipelines: ordered stages of steps, as an operator writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from pydantic import ConfigDict, Field

from nightmill.model.base import Frozen
from nightmill.model.calibration import Calibration
from nightmill.model.confinement import Network
from nightmill.model.footprint import TilingMargin
from nightmill.model.observed import Differences
from nightmill.model.retries import Retries

Parameter = str | int | float | bool
Keys = str | tuple[str, ...]
"""One key, or several of which one is enough."""
Junk = Literal["leave", "tar"]
Match = tuple[str, ...] | Mapping[str, Keys | Mapping[str, Keys]]
"""Keys on which files and units must agree: a list, or a mapping of the file's keys to the unit's."""
ALSO: Final = "also"
"""What stands in ``match`` for keys that are asked beside the default ones."""
ACCELERATOR: Final = "gpu"
"""The kind of accelerator of who names none."""
MAX_UNITS: Final = 1_000_000
"""How many units a stage may have, unless it says otherwise."""


def _is_none(value: object) -> bool:
    return value is None


class Source(Frozen):
    """Where a plan may take an input from; nothing set means files of origin raw or manual."""

    stage: str = ""
    """A stage before this one, in the same campaign; with ``campaigns``, a stage of these."""
    campaigns: tuple[str, ...] = ()
    """Results of named campaigns."""
    calibrations: tuple[str, ...] = ()
    """Named calibration sets, searched in their order; takes neither of the others."""

    context: str = Field(default="", exclude_if=lambda context: not context)
    """A name under which the roles of calibrations were pinned: the sets as they stood then."""

    @property
    def own_stage(self) -> str:
        """The stage of the same campaign that it takes from; empty where there is none."""
        return "" if self.campaigns else self.stage


class LookupSetting(Frozen):
    """Which lookup chooses for a unit, and beside its name its options.

    What is known of the options is the lookup's, which is a plug-in: a campaign can be read where it is not installed.
    """

    model_config = ConfigDict(extra="allow")

    strategy: str
    """Name of the lookup: of a plug-in, which is a :class:`~nightmill.model.lookup.Lookup`."""
    level: int | None = Field(default=None, ge=0, exclude_if=_is_none)
    """How good what it finds is for the unit, 0 or 1 the best; kept with every file that it chooses. By default, of
    several lookups of an input, its place among them, from 1."""
    type: str | None = Field(default=None, exclude_if=_is_none)
    """File type, instead of that of the input: raw frames where there is not a master."""
    source: Source | None = Field(default=None, exclude_if=_is_none)
    """Where its files may come from, instead of the source of the input."""
    match: Match | None = Field(default=None, exclude_if=_is_none)
    """Keys on which file and unit must agree, instead of those of the input."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Its options, all of them once the pipeline was loaded, as plain JSON."""
        return self.model_extra or {}

    def with_options(self, options: Frozen) -> LookupSetting:
        """Return the same lookup with these options, each of them written."""
        written = json.loads(options.model_dump_json())  # as JSON has it: infinity is a text
        own = {name: getattr(self, name) for name in LookupSetting.model_fields}
        return LookupSetting.model_validate({**own, **written})


class Input(Frozen):
    """An input of a stage: a role, and the files of a type that fill it for a unit."""

    type: str
    """File type."""
    source: Source = Source()
    """Where its files may come from; by default the raw and manual ones."""
    where: str = ""
    """An expression that the files must fulfil."""
    match: Match | None = None
    """Keys on which file and unit must agree, as a list, or as a mapping of the file's keys to the unit's: to one, to
    several of which one must agree, or as ``ROLE.KEY`` to those of another input's files. By default all of the unit's
    that the file has a value for; a list or mapping under ``also`` adds to these."""
    through: str | TilingMargin = Field(default="", exclude_if=lambda through: not through)
    """Another input, whose files hold a table: its rows say which files belong to which units. ``match`` then names
    columns of these rows. Or a tiling, and files belong to the tiles that they touch."""
    lookup: LookupSetting | tuple[LookupSetting, ...] | None = None
    """What chooses for a unit, where several files may fill the role; of several, the first that finds enough."""
    min: int = 1
    """The least number of files."""
    max: int | None = 1
    """``null`` for any number. A role with max 1 that finds more files is a problem of the plan."""
    staged_as: str = Field(default="", exclude_if=lambda staged_as: not staged_as)
    """A name with keys of the file, as ``{exposure}.weight.fits``, by which a job finds it; by default its own."""
    missing: Literal["refuse", "skip", "hold"] = Field(default="refuse", exclude_if=lambda missing: missing == "refuse")
    """What becomes of a unit that lacks files of it: a problem of the plan, left out, or held until they come."""
    why: str = Field(default="", exclude_if=lambda why: not why)
    """Why it takes these files, where somebody asks: shown with the rule that chooses them, and kept."""

    @property
    def ways(self) -> tuple[Input, ...]:
        """The same input once for each of its lookups, in their order, with what that one says instead of it."""
        if not isinstance(self.lookup, tuple):
            settings: tuple[LookupSetting | None, ...] = (self.lookup,)
        else:
            settings = self.lookup
        return tuple([self._by(place, setting) for place, setting in enumerate(settings, start=1)])

    def _by(self, place: int, setting: LookupSetting | None) -> Input:
        if setting is None:
            return self
        if isinstance(self.lookup, tuple) and setting.level is None:
            setting = setting.model_copy(update={"level": place})
        own = {"type": setting.type, "source": setting.source, "match": setting.match}
        said = {name: value for name, value in own.items() if value is not None}
        return self.model_copy(update={"lookup": setting, **said})

    @property
    def asked(self) -> Mapping[str, tuple[str, ...]]:
        """The keys that ``match`` names: those that a file must have, each with the unit's that it is compared with."""
        match: Keys | Mapping[str, Any] = self.match or ()
        if isinstance(match, Mapping) and ALSO in match:
            match = match[ALSO]
        if isinstance(match, Mapping):
            return {key: (each,) if isinstance(each, str) else tuple(each) for key, each in match.items()}
        return {key: (key,) for key in ([match] if isinstance(match, str) else match)}

    @property
    def references(self) -> tuple[str, ...]:
        """The other inputs whose files' keys it asks for, and that whose rows it comes through."""
        keys = [key for way in self.ways for keys in way.asked.values() for key in keys if "." in key]
        return tuple(dict.fromkeys([*(key.partition(".")[0] for key in keys), *([self.table] if self.table else ())]))

    @property
    def table(self) -> str:
        """The input through whose rows it comes; empty where there is none."""
        return self.through if isinstance(self.through, str) else ""

    @property
    def tiling(self) -> TilingMargin | None:
        """The tiling through which it comes."""
        return None if isinstance(self.through, str) else self.through

    @property
    def adds(self) -> bool:
        """Whether these keys are asked beside those that are asked by default."""
        return self.match is None or (isinstance(self.match, Mapping) and ALSO in self.match)


class Output(Frozen):
    """A declared output of a step: a role, and the file or files of a type that fill it."""

    type: str = ""
    """File type; its template names the file. Empty for a scratch file, which later steps of the stage alone see."""
    to: str = "backbone"
    """Name of a store or working area; ``none`` for an intermediate file, known but not kept."""
    required: bool = True
    """Whether a step that does not make it has failed."""
    produces: str = ""
    """A glob, for a step that insists on names of its own: the job renames after the step and records both. Or a name
    with fields, as ``im{exposure:06d}.head``, which tells the values of these keys."""
    where: str = Field(default="", exclude_if=lambda where: not where)
    """An expression over what files say of themselves, by which several outputs of one glob are told apart."""
    tells: tuple[str, ...] = Field(default=(), exclude_if=lambda tells: not tells)
    """Keys, beside those of the unit, whose values each file tells: its header, its name, or the step's sidecar."""
    min: int = 1
    """The least number of files."""
    max: int = 1
    """More than 1 needs ``produces`` and, in the type's template, ``{n}`` or keys that the files tell."""
    calibration: Calibration | None = None
    """Makes it a calibration, where it is one."""

    @property
    def later(self) -> bool:
        """Whether the names of its files may be known when they are made, and not before."""
        is_one_name = not any(each in self.produces for each in "*?[")
        return bool(self.produces) and (bool(self.tells) if self.type else not is_one_name)


class StepFile(Frozen):
    """A list or configuration file that is written for a step before it begins; it has lines, or a template."""

    lines: tuple[str, ...] = ()
    """With placeholders; a line with a role that may have several files becomes a line a file."""
    template: str = ""
    """Path, in the bundle, of a Jinja template."""


class Step(Frozen):
    """One command with declared inputs and outputs.

    Items of ``argv`` may hold ``{inputs.ROLE}``, ``{inputs.ROLE.KEY}``, ``{outputs.ROLE}``, ``{parameters.NAME}``,
    ``{unit.KEY}``, ``{files.NAME}``, ``{python}`` and ``{pipeline_dir}``; an item that is nothing but ``{inputs.ROLE}``
    becomes one item a file. The same in ``arguments`` and, ``{python}`` excepted, in ``environment`` and the lines of
    ``files``. ``{pipeline_dir}`` is the bundle.
    """

    name: str
    """Name of the step, in its stage."""
    argv: tuple[str, ...] = ()
    """The command, an item an argument; no shell reads it."""
    call: str = ""
    """Instead of ``argv``: ``package.module:function``, called with ``arguments`` in a Python process of its own."""
    arguments: Mapping[str, str] = Field(default_factory=dict)
    """Of the function that is called, by name."""
    inputs: tuple[str, ...] = ()
    """Roles of the stage's inputs, or of outputs of earlier steps of the stage."""
    outputs: Mapping[str, Output] = Field(default_factory=dict)
    """What it makes, by role."""
    environment: Mapping[str, str] = Field(default_factory=dict)
    """Variables that it sees, beside a few that every step has."""
    files: Mapping[str, StepFile] = Field(default_factory=dict, exclude_if=lambda files: not files)
    """What is written for it before it begins, by name; ``{files.NAME}`` is the path."""
    wall_seconds: float = 3600.0
    """How long it may run, seconds; then it is killed."""
    warm: tuple[str, ...] = Field(default=(), exclude_if=lambda warm: not warm)
    """Modules of which a worker keeps a process that has imported them: each run of the step is a fork of it."""
    on_failure: Literal["stop", "continue"] = Field(default="stop", exclude_if=lambda done: done == "stop")
    """What becomes of the job where its process fails: it ends, or goes on without what this step was to make."""
    software: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Programs to the argv that prints their version; asked once a process."""
    image: str = Field(default="", exclude_if=lambda image: not image)
    """The image that it runs in, as ``NAME@sha256:...``; by default its stage's, ``none`` for none."""
    network: Network = Field(default="off", exclude_if=lambda network: network == "off")
    """What of the network it may use: ``off``, ``on``, or a list of the TCP ports that it may connect to."""
    sockets: bool = Field(default=False, exclude_if=lambda sockets: not sockets)
    """Whether it may make UNIX sockets, as a server of its own that listens on one."""
    shared_memory: bool = Field(default=False, exclude_if=lambda shared: not shared)
    """Whether it may use the shared memory of its host, ``/dev/shm``, as ``multiprocessing`` of Python does."""
    may_eliminate: bool = Field(default=False, exclude_if=lambda may: not may)
    """Whether it may leave out some of its inputs, for reasons of its own: it then tells what it used."""
    differences: Differences = Field(default_factory=dict, exclude_if=lambda said: not said)
    """What follows from differences between what was planned, seen and told, over what its stage says."""


class Resources(Frozen):
    """What one job of a stage needs, and keeps from others on its host."""

    cores: int = 1
    """CPU cores."""
    memory_bytes: int | None = None
    """Memory, bytes."""
    scratch_bytes: int | None = None
    """Room in the scratch, bytes."""
    accelerators: int = Field(default=0, ge=0, exclude_if=lambda count: not count)
    """Accelerators, as GPUs; which engines have some their site says."""
    accelerator: str = Field(
        default=ACCELERATOR, pattern=r"^[\w.-]+(:[\w.-]+)?$", exclude_if=lambda kind: kind == ACCELERATOR
    )
    """Of which kind, by the name that its engine knows it by: ``gpu``, ``gpu:a100``."""

    @classmethod
    def most(cls, wanted: Sequence[Resources]) -> Resources:
        """Return the most that any of some jobs asks for; of accelerators that of the job that asks for most."""
        accelerated = max(wanted, key=lambda each: each.accelerators, default=Resources())
        return cls(
            cores=max([each.cores for each in wanted], default=1),
            memory_bytes=max([each.memory_bytes or 0 for each in wanted], default=0) or None,
            scratch_bytes=max([each.scratch_bytes or 0 for each in wanted], default=0) or None,
            accelerators=accelerated.accelerators,
            accelerator=accelerated.accelerator,
        )


class Stage(Frozen):
    """Steps that are run once per unit."""

    name: str
    """Name of the stage, in its pipeline."""
    per: tuple[str, ...]
    """Dimensions that make a unit."""
    units_from: str = ""
    """The input role whose files make the units; by default the first without a lookup."""
    max_units: int = Field(default=MAX_UNITS, ge=1, exclude_if=lambda most: most == MAX_UNITS)
    """The most units that it may have; a plan that finds more is refused."""
    where: str = ""
    """An expression over the units' files; units that have none left are not made."""
    inputs: Mapping[str, Input]
    """What a job reads, by role."""
    steps: tuple[Step, ...]
    """Commands, carried out in their order."""
    resources: Resources = Resources()
    """What one job needs."""
    when: Literal["all", "any"] | int = "all"
    """How many jobs of the stages it depends on must be done: ``all``, ``any`` (at least one), or a least number."""
    retries: Retries = 0
    """How often a job is tried again by itself, where its fate says that this may help; or what is done by fate."""
    keep_on_failure: bool = Field(default=False, exclude_if=lambda keep: not keep)
    """Whether what the steps before the one that fails made is kept for a while, for a rerun that begins with that."""
    junk: Junk | None = Field(default=None, exclude_if=_is_none)
    """What becomes of files that no output declares, and of those that the gate refused: they are left in the scratch,
    and removed with it, or kept in a tar beside the log; by default as the pipeline says."""
    image: str = Field(default="", exclude_if=lambda image: not image)
    """The image of its steps that name none; by default the pipeline's, ``none`` for none."""
    differences: Differences = Field(default_factory=dict, exclude_if=lambda said: not said)
    """What follows from differences between what was planned, seen and told, over what the pipeline says."""

    @property
    def making(self) -> str:
        """The input whose files make the units; empty where none can."""
        return self.units_from or next((role for role, declared in self.inputs.items() if not declared.lookup), "")

    @property
    def tables(self) -> frozenset[str]:
        """The inputs through whose rows others come, and these."""
        through = {role for role, declared in self.inputs.items() if declared.through}
        return frozenset(through | {self.inputs[role].table for role in through})

    @property
    def upstream(self) -> tuple[str, ...]:
        """The stages of the same campaign that it takes inputs from."""
        ways = [way.source.own_stage for declared in self.inputs.values() for way in declared.ways]
        return tuple(sorted(set(ways) - {""}))


def several_of(stage: Stage) -> frozenset[str]:
    """Return the roles of a stage that may have more files than one."""
    inputs = {role for role, declared in stage.inputs.items() if declared.max is None or declared.max > 1}
    outputs = {role for step in stage.steps for role, output in step.outputs.items() if output.max > 1}
    return frozenset(inputs | outputs)


def staged_roles(stage: Stage) -> frozenset[str]:
    """Return the inputs of a stage whose files its jobs stage: all but tables that choose others and no step reads."""
    through = {declared.table for declared in stage.inputs.values()}
    read = {role for step in stage.steps for role in step.inputs}
    return frozenset(role for role in stage.inputs if role in read or role not in through)


class BundleRules(Frozen):
    """What of the pipeline's folder goes with its orders."""

    include: tuple[str, ...] = ()
    """Patterns of files and folders to take; none means everything."""
    exclude: tuple[str, ...] = ()
    """Patterns of files and folders to leave out, beside those that are left out anyway."""
    max_mb: float = Field(default=50.0, gt=0)
    """The most that its files may have together, MB."""


class Pipeline(Frozen):
    """Ordered stages, with a name and a version."""

    name: str
    """Name of the pipeline."""
    version: str
    """A text, which its campaigns keep."""
    description: str = ""
    """What it makes, in words."""
    parameters: Mapping[str, Parameter] = Field(default_factory=dict)
    """Names with their defaults: what a campaign may set."""
    stages: tuple[Stage, ...]
    """In their order: a stage takes files from those before it."""
    bundle: BundleRules = Field(default=BundleRules(), exclude_if=lambda rules: rules == BundleRules())
    """What of the folder goes with the orders.

    Left out at its default: a definition that was sealed before there were bundles stays the same.
    """
    junk: Junk = Field(default="leave", exclude_if=lambda junk: junk == "leave")
    """What becomes of files that no output declares, in stages that say nothing of it: ``leave`` or ``tar``."""
    intermediates: str = Field(default="none", exclude_if=lambda store: store == "none")
    """Where outputs go that are intermediate files (``to: none``): the name of a store or working area, or ``none``."""
    image: str = Field(default="", exclude_if=lambda image: not image)
    """The image of steps for which neither they nor their stages name one."""
    differences: Differences = Field(default_factory=dict, exclude_if=lambda said: not said)
    """What follows from differences between what was planned, what a step opened or made, and what it told."""
    directory: str = ""
    """Folder of the YAML file, which is packed at submit. Set by the loader."""

    def stage(self, name: str) -> Stage:
        """Return a stage by its name.

        Raises
        ------
        KeyError
            Where there is none.
        """
        return {stage.name: stage for stage in self.stages}[name]
