"""A plan as text, a line a job: by it plans have a digest, are kept, and are compared.

The digest covers units, names of inputs with their checksums, the rules that chose them, names of outputs, the bundle
and the effective configuration. It covers neither IDs nor where copies are, nor the order of the jobs: the same plan
has the same digest in every database.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from tempfile import TemporaryFile
from typing import IO, Any, Literal, NamedTuple, Self
from weakref import finalize

from sqlalchemy import select
from sqlalchemy.orm import Session

from nightmill.backbone.schema import CampaignRow, LeftOutRow, PlanRow
from nightmill.config.document import dotted, leaves
from nightmill.config.explain import plain_of
from nightmill.config.rules import OWN
from nightmill.errors import RequestRefused
from nightmill.model.base import Frozen, canonical_json
from nightmill.model.campaign import Campaign
from nightmill.planning.outputs import claims
from nightmill.planning.planned import CampaignPlan, StagePlan
from nightmill.planning.sealed import PlannedJob, StageCommon, StageView, commons, sealed_stages


class PlanHead(Frozen):
    """What a whole plan says."""

    version: Literal[1] = 1
    campaign: str
    bundle: str
    """Digest of the pipeline's folder; empty where it has none."""
    config: Mapping[str, Any]
    """Effective values by their dotted keys."""
    number: int
    """Of the campaign. The digest covers it as far as it stands in names."""
    origins: Mapping[str, str]
    """The layers that set values; not covered, since a line more in a file changes them."""

    def covered(self) -> str:
        """Return what the digest covers of it."""
        return canonical_json(self.model_dump(mode="json", exclude={"number", "origins"}))


class StageHead(Frozen):
    """What all jobs of a stage share."""

    stage: str
    making: str
    """The input that makes its units."""
    known: bool
    """Whether its units are known."""
    projected: bool
    config: Mapping[str, Any]
    """File types of its outputs, by dotted keys."""
    origins: Mapping[str, Mapping[str, str]] = {}
    """Units of which something else is said, or an empty text, to the layer that set the rule of each input."""
    absent: Mapping[str, str] = {}
    """Units that are left out, with the reason, as far as they are named; an empty text for others, and what may be."""

    def covered(self) -> str:
        """Return what the digest covers of it."""
        return canonical_json(self.model_dump(mode="json", exclude={"origins", "absent"}))


class FileLine(NamedTuple):
    """A file that a job reads."""

    name: str
    sha256: str
    """Empty where it is yet to be made."""
    type: str
    excluded: tuple[str, ...]
    """Parts of it that must not be used."""


class InputLine(NamedTuple):
    """What fills an input of a job, and why."""

    rule: str
    level: int | None
    files: tuple[FileLine, ...]


class OutputLine(NamedTuple):
    """A name that a job may use."""

    name: str
    type: str
    to: str


class JobLine(NamedTuple):
    """A job.

    Parameters
    ----------
    units
        Of which the campaign says something else, where it is one of them.
    inputs
        By role.
    outputs
        By step and role, as ``reduce.image``; logs have names that say nothing else.
    """

    unit: str
    units: str
    inputs: Mapping[str, InputLine]
    outputs: Mapping[str, tuple[OutputLine, ...]]


@dataclass
class StageText:
    """A stage: what its jobs share, and where their lines stand."""

    head: StageHead
    places: dict[str, int] = field(default_factory=dict)
    """Unit to the place of its line."""
    digest: str = ""
    """Of the jobs, in whatever order they stand, and of what they share."""


class PlanLines:
    """The lines of a plan, in a file without a name; few bytes of each job are held in memory.

    Parameters
    ----------
    head
        Of the plan.
    what
        What plan it is, in words: ``as it would be submitted now``.

    Raises
    ------
    RequestRefused
        Where there is no room for them.
    """

    def __init__(self, head: PlanHead, what: str) -> None:
        self.head = head
        self.what = what
        self.stages: dict[str, StageText] = {}
        self._file: IO[bytes] = TemporaryFile(prefix="nightmill-plan-")  # noqa: SIM115 - lives as long as this
        finalize(self, self._file.close)
        self._end = 0
        self._write(head.model_dump_json().encode() + b"\n")

    @property
    def digest(self) -> str:
        """The digest of the plan."""
        return sha256(
            "\n".join([self.head.covered(), *(each.digest for each in self.stages.values())]).encode()
        ).hexdigest()

    @property
    def later(self) -> list[str]:
        """The stages that are planned in their turn: the digest covers their rules, and what is foreseen of them."""
        return [name for name, each in self.stages.items() if each.head.projected or not each.head.known]

    def add(self, head: StageHead, jobs: Iterable[tuple[str, bytes]]) -> None:
        """Add a stage with its jobs: the unit and the line of each."""
        stage = self.stages[head.stage] = StageText(head)
        self._write(head.model_dump_json().encode() + b"\n")
        stage.digest = _digest(head, self._put(stage, jobs))
        self._write(b"", flush=True)

    def raw(self, stage: str, unit: str) -> bytes:
        """Return the line of a job as it stands."""
        self._file.seek(self.stages[stage].places[unit])
        return self._file.readline()

    def lines(self) -> Iterator[bytes]:
        """Yield every line."""
        self._file.seek(0)
        yield from self._file

    @classmethod
    def read(cls, lines: Iterable[bytes], what: str) -> Self:
        """Make it of lines, as :meth:`lines` yields them."""
        rest = iter(lines)
        made = cls(PlanHead.model_validate_json(next(rest, b"")), what)
        line = next(rest, b"")
        while line:
            head, line = StageHead.model_validate_json(line), b""

            def jobs() -> Iterator[tuple[str, bytes]]:
                nonlocal line
                for line in rest:
                    if line.startswith(b"{"):
                        return
                    yield json.loads(line)[0], line
                line = b""

            made.add(head, jobs())
        return made

    def _put(self, stage: StageText, jobs: Iterable[tuple[str, bytes]]) -> Iterator[bytes]:
        for unit, line in jobs:
            stage.places[unit] = self._end
            self._write(line)
            yield line

    def _write(self, line: bytes, *, flush: bool = False) -> None:
        try:
            self._file.write(line)
            if flush:
                self._file.flush()
        except OSError as error:
            raise RequestRefused(
                f"the folder for temporary files cannot hold the plan: {error.strerror}",
                remedy="make room there, or name another folder in TMPDIR",
            ) from error
        self._end += len(line)


def job_line(line: bytes) -> JobLine:
    """Read the line of a job."""
    unit, units, inputs, outputs = json.loads(line)
    return JobLine(
        unit,
        units,
        {
            role: InputLine(
                rule,
                level,
                tuple([FileLine(file, digest, type_, tuple(parts)) for file, digest, type_, parts in files]),
            )
            for role, (rule, level, files) in inputs.items()
        },
        {role: tuple([OutputLine(*each) for each in named]) for role, named in outputs.items()},
    )


def text_of(plan: CampaignPlan, what: str = "") -> PlanLines:
    """Write a plan as text; of one with problems, what has none."""
    when = "as it would be submitted now" if plan.as_of is None else f"as of {plan.as_of:%Y-%m-%d %H:%M:%S} UTC"
    made = PlanLines(_plan_head(plan.campaign, plan.number, [stage.common for stage in plan.stages]), what or when)
    for stage in plan.stages:
        absent = {unit.unit: f"{unit.role}: {unit.why}" for unit in stage.left_out}
        told = {each: f"excluded: {each.place}: {each.rule}; {each.why}" for each in stage.excluded if each.units}
        absent |= {unit: why for each, why in told.items() for unit in each.unit_names}
        if more := [why for each, why in told.items() if each.units > len(each.unit_names)]:
            absent[""] = " or ".join(more)
        made.add(_stage_head([stage], absent), _jobs([stage]))
    return made


def sealed_text(session: Session, row: CampaignRow) -> PlanLines:
    """Write what was sealed of a campaign as text: stages that were not planned yet have no jobs."""
    campaign = Campaign.model_validate(row.definition)
    query = select(LeftOutRow.stage, LeftOutRow.unit, LeftOutRow.role, LeftOutRow.why)
    left_out = session.execute(query.where(LeftOutRow.campaign_id == row.id)).all()
    first = (
        select(PlanRow.id).where(PlanRow.campaign_id == row.id).order_by(PlanRow.position, PlanRow.revision).limit(1)
    )
    common = [each for _digest, each in commons(session, session.scalars(first).all()).values()]
    made = PlanLines(_plan_head(campaign, row.id, common), "as it was sealed")
    groups = groupby(sealed_stages(session, row.id), lambda view: view.stage.name)
    name, revisions = next(groups, ("", iter(())))
    for stage in campaign.pipeline.stages:
        if stage.name != name:
            made.add(StageHead(stage=stage.name, making=stage.making, known=False, projected=True, config={}), ())
            continue
        absent = {unit: f"{role}: {why}" for place, unit, role, why in left_out if place == name}
        views = list(revisions)
        made.add(_stage_head(views, absent), _jobs(views))
        name, revisions = next(groups, ("", iter(())))
    return made


def sealed_first(session: Session, campaign_id: int) -> dict[str, str]:
    """Return the digests of stages as they were sealed first, by the stage."""
    found: dict[str, str] = {}
    for view in sealed_stages(session, campaign_id):
        if view.stage.name not in found:
            lines = (line for _unit, line in _jobs([view]))
            found[view.stage.name] = _digest(_stage_head([view], {}), lines)
    return found


def _digest(head: StageHead, lines: Iterable[bytes]) -> str:
    """Return the digest of a stage; the order of its jobs does not count."""
    digests = sorted(sha256(line).digest() for line in lines)
    return sha256(b"".join([head.covered().encode(), *digests])).hexdigest()


def _plan_head(campaign: Campaign, number: int, commons: Iterable[StageCommon]) -> PlanHead:
    bundle = next((each.bundle.digest for each in commons if each.bundle is not None), "")
    origins = {key: str(layer) for key, layer in campaign.origins.items()}
    for variant in campaign.variants:
        origins |= {f"units.{variant.units}.{key}": str(layer) for key, layer in variant.origins.items()}
    return PlanHead(campaign=campaign.name, bundle=bundle, config=_effective(campaign), number=number, origins=origins)


def _effective(campaign: Campaign) -> dict[str, Any]:
    """Return the values that count for what a campaign makes, by their dotted keys, and what is otherwise for units."""
    whole = _flat(campaign)
    for variant in campaign.variants:
        stages = [variant.stages.get(each.name, each) for each in campaign.pipeline.stages]
        pipeline = campaign.pipeline.model_copy(update={"stages": tuple(stages)})
        theirs = _flat(campaign.model_copy(update={"pipeline": pipeline, "parameters": variant.parameters}))
        own = {key: theirs.get(key) for key in {**whole, **theirs} if theirs.get(key) != whole.get(key)}
        whole |= {f"units.{variant.units}.{key}": value for key, value in own.items() if not key.startswith("units.")}
    return whole


def _flat(campaign: Campaign) -> dict[str, Any]:
    apart = {"name", "description", "execution", "home", "origins", "variants"}
    data = plain_of(campaign.model_dump(mode="json", exclude=apart))
    del data["pipeline"]["directory"]  # the digest of the bundle tells what is in it
    return {dotted(key): value for key, value in leaves(data)}


def _stage_head(views: list[StageView] | list[StagePlan], absent: Mapping[str, str]) -> StageHead:
    common = views[-1].common
    plan = views[-1] if isinstance(views[-1], StagePlan) else None
    types = {name: each.model_dump(mode="json") for name, each in common.file_types.items()}
    return StageHead(
        stage=common.stage.name,
        making=common.stage.making,
        known=plan is None or not plan.known_after,
        projected=plan is not None and plan.projected,
        config={dotted(("file_types", *key)): value for key, value in leaves(types)},
        origins={"": common.origins, **{each.units: each.origins for each in common.variants}},
        absent=absent,
    )


def _jobs(views: Iterable[StageView]) -> Iterator[tuple[str, bytes]]:
    for view in views:
        for job in view.jobs:
            yield job.unit, f"{_line(view, job)}\n".encode()


def _line(view: StageView, job: PlannedJob) -> str:
    common = view.common
    inputs = {
        role: (rule, level, [(file.name, file.sha256, file.type, file.excluded) for file in files])
        for role, rule, _origin, files, level in view.inputs(job)
    }
    outputs: dict[str, list[tuple[str, str, str]]] = {}
    for claim in claims(common, job.data_id):
        if claim.type not in OWN:
            outputs.setdefault(f"{claim.step}.{claim.role}", []).append((claim.name, claim.type, claim.to))
    units = common.variants[job.variant - 1].units if job.variant else ""
    return canonical_json([job.unit, units, inputs, outputs])
