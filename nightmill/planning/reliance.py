"""What a campaign relies on: which calibrations serve its units, how well, and what is lacking.

It is told of unit after unit, by a plan while it is made or of what is sealed; of each unit it keeps a number.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.catalogue.files import found_columns, found_files
from nightmill.backbone.schema import FileRow, JobRow, PlanRow
from nightmill.config.keys import own_kinds
from nightmill.files.name_patterns import fields_in
from nightmill.model.dimensions import DIMENSIONS, EPOCHS, written
from nightmill.model.file_type import FileType
from nightmill.model.found_file import FoundFile
from nightmill.model.pipeline import Input, LookupSetting, Stage
from nightmill.model.unit import Unit, middle
from nightmill.planning.inputs import Chooser
from nightmill.planning.jobs import BLOCK, blocks
from nightmill.planning.lookups.index import Chosen, Differing
from nightmill.planning.sealed import Choice, JobDetail, commons

DAY_SECONDS: Final = 86_400.0
OLDER_DAYS: Final = 30.0
"""How far from its unit in time a calibration counts as too old, unless somebody says otherwise."""


def looks_up(declared: Input) -> bool:
    """Say whether an input is a calibration: something is looked up for each unit, or taken from sets."""
    return any(way.lookup is not None or way.source.calibrations for way in declared.ways)


@dataclass
class Role:
    """One input of a stage, and what serves it.

    Parameters
    ----------
    types
        Its file types, in the order of its lookups.
    best
        The best level of its lookups; None where they have none.
    levels
        Units by the level of the lookup that matched; those of a lookup without one are not among them.
    lacking
        How many units it could not be filled for.
    poorer
        How many got another than the best level.
    older
        How many got a file that is further away in time than what was asked for.
    files
        The files that serve it, each with the number of its units.
    """

    stage: str
    role: str
    types: tuple[str, ...]
    best: int | None
    levels: Counter[int] = field(default_factory=Counter)
    served: int = 0
    lacking: int = 0
    poorer: int = 0
    older: int = 0
    files: Counter[str] = field(default_factory=Counter)
    days: array[float] = field(default_factory=lambda: array("d"))
    nights: dict[int, bool] = field(default_factory=dict)
    """The nights of its units, and whether a unit of the night is served."""

    @property
    def units(self) -> int:
        """How many units want it."""
        return self.served + self.lacking

    @property
    def median_days(self) -> float | None:
        """How far away in time the files are, in the middle of all units whose distance is known."""
        return median(self.days) if self.days else None

    @property
    def worst_days(self) -> float | None:
        """How far away in time the farthest is."""
        return max(self.days, default=None)

    @property
    def nights_without(self) -> list[int]:
        """The nights of which no unit is served."""
        return sorted(night for night, served in self.nights.items() if not served)


@dataclass
class Wanted:
    """A calibration that would help units which lack one, or have a poorer or an older one than might be.

    Parameters
    ----------
    type
        Its file type.
    of
        What it must be of; without what says when.
    nights
        Of the units that it would help, where they have one.
    """

    type: str
    of: tuple[tuple[str, str], ...]
    lacking: int = 0
    poorer: int = 0
    older: int = 0
    worst_days: float | None = None
    nights: set[int] = field(default_factory=set)


class Reliance:
    """Collects what the calibration inputs of a campaign rely on.

    Parameters
    ----------
    file_types
        Of the site, by name.
    older_days
        How far from its unit in time a calibration counts as too old.
    units
        The only units that are looked at, by stage; by default all of them.
    """

    def __init__(
        self,
        file_types: Mapping[str, FileType],
        *,
        older_days: float = OLDER_DAYS,
        units: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self.older_days = older_days
        self._types = file_types
        self._units = units
        self._roles: dict[tuple[str, str], Role] = {}
        self._wanted: dict[tuple[str, tuple[tuple[str, str], ...]], Wanted] = {}

    @property
    def roles(self) -> list[Role]:
        """Every input that was told of, in the order in which they were."""
        return list(self._roles.values())

    @property
    def wanted(self) -> list[Wanted]:
        """What to ask for: first what most units lack, then what most have a poorer or an older one of."""
        return sorted(
            self._wanted.values(), key=lambda each: (-each.lacking, -each.poorer, -each.older, each.type, each.of)
        )

    def note(self, stage: Stage, chooser: Chooser, unit: Unit, chosen: Chosen, choice: Choice | None) -> None:
        """Take in what a plan has chosen for a unit; None where it could not be filled.

        A unit that does without a file, since the input has a ``min`` of 0, lacks one all the same.
        """
        if not any(way.lookup is not None or way.declared.source.calibrations for way in chooser.ways):
            return
        if self._units is not None and unit.name not in self._units.get(stage.name, ()):
            return
        nights = unit.values("night")
        night = nights[0] if len(nights) == 1 and isinstance(nights[0], int) else None
        if choice is not None and choice.files:
            level = chooser.rules.levels.get(choice.rule)
            self.serves(stage.name, chooser.role, chooser.declared, unit.middle, night, choice.files, level)
        else:
            self.lacks(stage.name, chooser.role, chooser.declared, night, self._keys(chooser, unit, chosen))

    def serves(
        self,
        stage: str,
        role: str,
        declared: Input,
        when: float | None,
        night: int | None,
        files: Sequence[FoundFile],
        level: int | None,
    ) -> None:
        """Take in that files serve an input of a unit.

        Parameters
        ----------
        when
            The middle of the unit, in seconds since the epoch; None where that is not known.
        level
            Of the lookup that chose them.
        """
        told = self._role(stage, role, declared)
        told.served += 1
        told.files.update(file.name for file in files)
        if night is not None:
            told.nights[night] = True
        if level is not None:
            told.levels[level] += 1
        times = [middle(file.begins_at, file.ends_at) for file in files]
        away = [abs(time - when) / DAY_SECONDS for time in times if time is not None and when is not None]
        days = max(away, default=None)
        if days is not None:
            told.days.append(days)
        poorer = level is not None and told.best is not None and level > told.best
        older = days is not None and days > self.older_days
        told.poorer += poorer
        told.older += older
        if poorer or older:
            wanted = self._want(told.types[0], _of(declared, files[0]), night)
            wanted.poorer += poorer
            wanted.older += older
            wanted.worst_days = max((each for each in (wanted.worst_days, days) if each is not None), default=None)

    def lacks(self, stage: str, role: str, declared: Input, night: int | None, of: Mapping[str, str]) -> None:
        """Take in that an input could not be filled for a unit.

        Parameters
        ----------
        of
            What a file would have to be of.
        """
        told = self._role(stage, role, declared)
        told.lacking += 1
        if night is not None:
            told.nights.setdefault(night, False)
        self._want(told.types[0], tuple(of.items()), night).lacking += 1

    def _role(self, stage: str, role: str, declared: Input) -> Role:
        if (known := self._roles.get((stage, role))) is not None:
            return known
        ways = declared.ways
        levels = [way.lookup.level for way in ways if isinstance(way.lookup, LookupSetting)]
        best = min((level for level in levels if level is not None), default=None)
        types = tuple(dict.fromkeys(way.type for way in ways))
        return self._roles.setdefault((stage, role), Role(stage, role, types, best))

    def _want(self, type_: str, of: tuple[tuple[str, str], ...], night: int | None) -> Wanted:
        wanted = self._wanted.setdefault((type_, of), Wanted(type_, of))
        if night is not None:
            wanted.nights.add(night)
        return wanted

    def _keys(self, chooser: Chooser, unit: Unit, chosen: Chosen) -> dict[str, str]:
        """Return what a file would have to be of: what candidates are asked for, or what its type tells."""
        way = chooser.ways[0]
        try:
            keys = way.keys(unit, chosen) or {key: unit.values(key) for key in self.told(way.declared)}
        except Differing:
            return {}
        texts = {key: "|".join(map(written, values)) for key, values in sorted(keys.items()) if key not in EPOCHS}
        return {key: text for key, text in texts.items() if text}

    def told(self, declared: Input) -> set[str]:
        """Return the keys of its files by which an input may be chosen."""
        if not declared.adds or (file_type := self._types.get(declared.type)) is None:
            return set(declared.asked)
        tells = {*own_kinds(file_type), *fields_in(file_type.template)}
        return {*declared.asked, *(tells & DIMENSIONS.keys())}


def _of(declared: Input, file: FoundFile) -> tuple[tuple[str, str], ...]:
    """Return what a file is of, without what says when."""
    keys = {*(key for key in DIMENSIONS if key in file.data_id), *declared.asked} - EPOCHS
    return tuple([(key, written(value)) for key in sorted(keys) if (value := file.get(key)) is not None])


def tell_sealed(session: Session, campaign_id: int, reliance: Reliance) -> set[str]:
    """Tell what the sealed jobs of a campaign rely on, streamed; return the stages that are sealed.

    Of their files, the calibrations alone are looked at.
    """
    sealed: set[str] = set()
    known: dict[int, FoundFile] = {}
    plans = select(PlanRow.id).where(PlanRow.campaign_id == campaign_id).order_by(PlanRow.position, PlanRow.revision)
    for plan_id in session.scalars(plans).all():
        [(_digest, common)] = commons(session, [plan_id]).values()
        sealed.add(common.stage.name)
        roles = [role for role, declared in common.stage.inputs.items() if looks_up(declared)]
        details = select(JobRow.detail).where(JobRow.plan_id == plan_id).order_by(JobRow.id)
        rows = session.scalars(details.execution_options(yield_per=BLOCK)) if roles else ()
        for block in blocks(map(JobDetail.model_validate, rows)):
            new = {id_ for job in block for role in roles for id_ in job.inputs[role][1]} - known.keys()
            found = found_files(session, found_columns(session, stored=False).where(among(FileRow.id, new)))
            known |= {file.id: file for file in found}
            for job in block:
                inputs = common.of(job).stage.inputs
                for role in roles:
                    rule, ids = job.inputs[role]
                    if not ids:
                        keys = sorted((reliance.told(inputs[role].ways[0]) - EPOCHS) & job.data_id.keys())
                        of = {key: written(job.data_id[key]) for key in keys}
                        reliance.lacks(common.stage.name, role, inputs[role], _night(job), of)
                        continue
                    reliance.serves(
                        common.stage.name,
                        role,
                        inputs[role],
                        middle(job.begins_at, job.ends_at),
                        _night(job),
                        [known[id_] for id_ in ids],
                        common.levels.get(rule),
                    )
    return sealed


def _night(job: JobDetail) -> int | None:
    night = job.data_id.get("night")
    return night if isinstance(night, int) else None
