"""Campaigns: a pipeline, what to run it on, and what to change."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from pydantic import Field

from nightmill.model.base import Frozen
from nightmill.model.breakpoint import Breakpoint
from nightmill.model.exclusion import CampaignExclusion
from nightmill.model.observed import WantedLevel
from nightmill.model.partner import Types
from nightmill.model.pipeline import Parameter, Pipeline, Stage


class Layer(Frozen):
    """Where an effective value came from."""

    name: str
    """``pipeline``, ``campaign``, ``command line``..."""
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.name} ({self.file}:{self.line})" if self.file else self.name


class Hosts(Frozen):
    """The hosts that the jobs of a campaign may run on, by patterns over their names, as ``node1*``."""

    use: tuple[str, ...] = ()
    """Run on no other; none for any host."""
    avoid: tuple[str, ...] = ()
    """Never run on these, even where ``use`` names them."""

    def bar(self, host: str) -> str:
        """Say why a host may not be used; nothing where it may. It is known by its name without its domain as well."""
        names = (host, host.partition(".")[0])

        def fits(pattern: str) -> bool:
            return any(fnmatchcase(name, pattern) for name in names)

        for pattern in self.avoid:
            if fits(pattern):
                return f"host {host} is to be avoided ({pattern})"
        if self.use and not any(map(fits, self.use)):
            return f"host {host} is not among those to use ({', '.join(self.use)})"
        return ""

    def written(self) -> dict[str, list[str]] | None:
        """Return them as they stand in the database: None for any host."""
        return self.model_dump(mode="json", exclude_defaults=True) or None


class ExecutionSettings(Frozen):
    """How the jobs of a campaign are carried out; changes nothing of what they make."""

    threads: int = Field(default=0, ge=0)
    """Jobs at a time in one slice, at most; 0 for as many as their resources let run on the host."""
    jobs_per_slice: int = Field(default=1000, ge=1, le=1000)
    """Jobs that one flow run works on, at most."""
    jobs_per_task: int = Field(default=0, ge=0)
    """1: a Prefect task run per job. More: chunks of so many. 0: chosen from measured run times."""
    priority: int = 0
    """Where jobs wait for cores, those of the campaign with the highest get them first; ``nightmill priority`` changes
    it later."""
    jobs: int = Field(default=0, ge=0, exclude_if=lambda jobs: not jobs)
    """Jobs of the campaign at a time, in all its slices on all hosts, at most; 0 for no limit. ``nightmill limit``
    changes it later, and the hosts."""
    hosts: Hosts = Field(default=Hosts(), exclude_if=lambda hosts: hosts == Hosts())
    """Where they run."""
    engine: str = Field(default="", exclude_if=lambda engine: not engine)
    """Which of the site's engines carries them out; by default threads of the slice's own process."""
    engines: Mapping[str, str] = Field(default_factory=dict, exclude_if=lambda engines: not engines)
    """The same for single stages, by their names: ``{detect: cluster}``."""

    level: WantedLevel = Field(default="standard", exclude_if=lambda level: level == "standard")
    """``audit``: every path that a step tries is known by name, and one that tries what it was not given fails."""

    def engine_of(self, stage: str) -> str:
        """Return the name of the engine that carries out the jobs of a stage; empty for the default."""
        return self.engines.get(stage, self.engine)


class Home(Frozen):
    """Where the outputs of a campaign come home to, beside the stores of its own site."""

    site: str = ""
    """A site of the catalogue, which fetches them; by default none."""
    types: Types = "all"
    """Types of files that come home, or ``all``."""


def unit_keys(units: str) -> dict[str, str]:
    """Return the keys that units are named by, with their values: of ``exposure=12,detector=3`` two.

    Returns
    -------
    dict
        Empty where that does not name units.
    """
    parts = [part.strip().partition("=") for part in units.split(",")]
    keys = {key: value for key, _, value in parts if key.isidentifier() and value}
    return keys if len(keys) == len(parts) else {}


class Variant(Frozen):
    """What a campaign does otherwise for some of its units."""

    units: str
    """The keys that they have, as ``exposure=12,detector=3``."""
    why: str = ""
    parameters: Mapping[str, Parameter]
    """Effective values, all of them."""
    stages: Mapping[str, Stage] = Field(default_factory=dict)
    """The stages that are otherwise for them, by name."""
    origins: Mapping[str, Layer] = Field(default_factory=dict)
    """Of the values that come from elsewhere than those of the campaign."""


class Campaign(Frozen):
    """A named processing effort, with every layer merged: what was written, what a flag changed, and the origins."""

    name: str
    description: str = ""
    pipeline: Pipeline
    where: str = ""
    """An expression over raw and manual files: the selection of the campaign."""
    exclude: tuple[CampaignExclusion, ...] = Field(default=(), exclude_if=lambda exclude: not exclude)
    """What must not be an input of it, beside what is excluded in the catalogue."""
    breakpoints: tuple[Breakpoint, ...] = Field(default=(), exclude_if=lambda breakpoints: not breakpoints)
    """Where it waits for a sign-off."""
    parameters: Mapping[str, Parameter] = Field(default_factory=dict)
    """Effective values: the pipeline's defaults with the campaign's and the command line's on top."""
    execution: ExecutionSettings = ExecutionSettings()
    home: Home = Field(default=Home(), exclude_if=lambda home: home == Home())
    """Where its outputs come home to."""
    variants: tuple[Variant, ...] = Field(default=(), exclude_if=lambda variants: not variants)
    """What it does otherwise for some of its units."""
    origins: Mapping[str, Layer] = Field(default_factory=dict)
    """Dotted key to the origin of each value that is not a default."""
