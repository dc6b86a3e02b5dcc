"""Plans: every job of a campaign with the files it will read and the names of those it will make.

A plan is made in memory from a handful of queries a stage. Stages that depend on others of the campaign are projected
from what those are planned to make, and planned again, from what they did make, when their turn comes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nightmill.backbone.catalogue.files import names_taken
from nightmill.backbone.schema import CampaignRow, FileRow, JobRow
from nightmill.config.layers import LAYERS
from nightmill.config.rules import NOWHERE
from nightmill.config.site import SiteConfig
from nightmill.errors import PlanRefused, RequestRefused
from nightmill.model.campaign import Campaign
from nightmill.model.found_file import FoundFile
from nightmill.model.order import OrderBundle
from nightmill.model.pipeline import Input, Source, Stage
from nightmill.planning.inputs import Chooser, Rules, takes_one, unit_role
from nightmill.planning.lookups.bound import Bound, bind
from nightmill.planning.outputs import Names, output_names
from nightmill.planning.preflight import check_inputs, check_outputs, log_store
from nightmill.planning.problems import Problems
from nightmill.planning.sealed import PlannedJob, StageCommon, StageView
from nightmill.planning.selection import Group, Selector
from nightmill.planning.units import make_units


@dataclass(frozen=True)
class StagePlan(StageView):
    """The plan of one stage as it was just made: of one with problems, the jobs that have none.

    Parameters
    ----------
    position
        Of the stage in its pipeline, from 0.
    problems
        What is wrong, one sentence each; a plan that has any cannot be sealed.
    waiting
        What units lack that a stage before this one did not make (yet), one sentence each. They are left out and join
        a later plan.
    projected
        Whether files that do not exist yet stand in for inputs.
    """

    position: int
    problems: tuple[str, ...]
    waiting: tuple[str, ...]
    projected: bool


@dataclass(frozen=True)
class CampaignPlan:
    """The plan of a campaign: its stages in the order in which they can run."""

    campaign: Campaign
    number: int
    stages: tuple[StagePlan, ...]
    problems: tuple[str, ...]
    """Of all stages, one sentence each."""

    def require(self) -> None:
        """Make sure that there are no problems.

        Raises
        ------
        PlanRefused
            Where there are; it lists all of them.
        """
        if self.problems:
            raise PlanRefused(self.campaign.name, self.problems)


def plan_campaign(
    session: Session, campaign: Campaign, site: SiteConfig, number: int, bundle: OrderBundle | None = None
) -> CampaignPlan:
    """Plan every stage of a campaign, those that depend on others projected.

    Writes nothing. Problems are part of what is returned: all of them.

    Parameters
    ----------
    session
        To read the catalogue with.
    campaign
        What to plan.
    site
        Whose file types and stores it uses.
    number
        Of the campaign, as it will stand in names.
    bundle
        The pipeline's folder, for steps to see; by default they see the folder itself.
    """
    planner = _Planner(session, campaign, site, number, bundle)
    stages = []
    for stage in campaign.pipeline.stages:
        stages.append(planner.plan(stage))
        planner.project(stages[-1])
    problems = dict.fromkeys(problem for plan in stages for problem in plan.problems)
    return CampaignPlan(campaign, number, tuple(stages), tuple(problems))


def plan_stage(
    session: Session,
    campaign: Campaign,
    stage: str,
    site: SiteConfig,
    number: int,
    bundle: OrderBundle | None = None,
) -> StagePlan:
    """Plan one stage from what exists: what the stages before it published, and the catalogue.

    Parameters are those of :func:`plan_campaign`. A unit that lacks what a stage before may still make waits: that
    is not a problem.
    """
    return _Planner(session, campaign, site, number, bundle).plan(campaign.pipeline.stage(stage))


class _Planner:
    """Plans stage after stage of one campaign."""

    def __init__(
        self, session: Session, campaign: Campaign, site: SiteConfig, number: int, bundle: OrderBundle | None
    ) -> None:
        self.session = session
        self.bundle = bundle
        self.campaign = campaign
        self.site = site
        self.number = number
        self.names = Names()
        self.projected: dict[str, dict[str, list[FoundFile]]] = {}
        self.broken: set[str] = set()
        """Projected stages whose plans have problems."""
        self.watermark = session.scalar(select(func.max(FileRow.id))) or 0
        self.selector = Selector(session, campaign, site.file_types, self.watermark, self.projected)

    def plan(self, stage: Stage) -> StagePlan:
        """Plan one stage, from projected files where a stage that it takes from was planned before it."""
        problems, waiting, rules = Problems(), Problems(), Rules()
        common = self._common(stage)
        roles = check_inputs(stage, self.campaign.pipeline, self.site, problems)
        nameless = Problems()
        check_outputs(stage, self.site, nameless)
        bound = self._bound(stage, roles, problems)
        groups = self._groups(stage, bound, problems)
        jobs = self._jobs(stage, bound, groups, rules, problems, waiting)
        jobs = [] if nameless else self._fit(common, jobs, problems)
        return StagePlan(
            common=common.model_copy(update={"rules": rules.texts()}),
            position=[each.name for each in self.campaign.pipeline.stages].index(stage.name),
            jobs=tuple(jobs),
            problems=(*problems.sentences(), *nameless.sentences()),
            waiting=tuple(waiting.sentences()),
            projected=any(declared.source.own_stage in self.projected for declared in stage.inputs.values()),
            watermark=self.watermark,
        )

    def project(self, plan: StagePlan) -> None:
        """Let the files that a stage is planned to make stand in for those that it will make."""
        made: dict[str, list[FoundFile]] = {}
        for file in _files_of(plan):
            made.setdefault(file.type, []).append(file)
        self.projected[plan.stage.name] = made
        if plan.problems:
            self.broken.add(plan.stage.name)

    def _common(self, stage: Stage) -> StageCommon:
        pipeline = self.campaign.pipeline
        types = {output.type for step in stage.steps for output in step.outputs.values()}
        return StageCommon(
            campaign=self.campaign.name,
            number=self.number,
            pipeline=pipeline.name,
            pipeline_version=pipeline.version,
            pipeline_dir=pipeline.directory,
            bundle=self.bundle,
            parameters=self.campaign.parameters,
            stage=stage,
            stores=self.site.stores,
            file_types={name: self.site.file_types[name] for name in sorted(types) if name in self.site.file_types},
            log_store=log_store(self.site.stores),
            origins={role: origin_of(self.campaign, stage.name, role) for role in stage.inputs},
        )

    def _bound(self, stage: Stage, roles: Iterable[str], problems: Problems) -> dict[str, Bound | None]:
        """Find the lookups of inputs, once a stage; an input whose lookup cannot be used is reported and left out."""
        bound: dict[str, Bound | None] = {}
        for role in roles:
            setting = stage.inputs[role].lookup
            try:
                bound[role] = bind(setting) if setting is not None else None
            except RequestRefused as error:
                problems.add(f"stage {stage.name!r}, input {role!r}", str(error))
        return bound

    def _groups(self, stage: Stage, bound: Mapping[str, Bound | None], problems: Problems) -> dict[str, list[Group]]:
        """Select the candidates of inputs; none of an input whose expression or source is wrong, which is reported."""
        groups = {}
        for role, lookup in bound.items():
            declared = stage.inputs[role]
            extra = stage.where if role == unit_role(stage) else ""
            try:
                groups[role] = self.selector.select(declared, extra, lookup.names if lookup is not None else None)
            except RequestRefused as error:
                problems.add(f"stage {stage.name!r}, input {role!r}", str(error))
        return groups

    def _jobs(
        self,
        stage: Stage,
        bound: Mapping[str, Bound | None],
        groups: Mapping[str, list[Group]],
        rules: Rules,
        problems: Problems,
        waiting: Problems,
    ) -> list[PlannedJob]:
        """Choose the inputs of every unit; where those of a role cannot be told, only report what else is missing."""
        making = unit_role(stage)
        if making not in groups:
            return []
        files = [candidate.file for group in groups[making] for candidate in group.candidates]
        topic = f"stage {stage.name!r}, input {making!r}"
        if not files and stage.inputs[making].source.own_stage not in self.broken:
            problems.add(topic, f"no {stage.inputs[making].type} {groups[making][0].place}: there is nothing to do")
        units = make_units(stage.per, files, problems, topic=topic)
        choosers = [
            Chooser(
                stage, role, bound[role], found, rules, problems, self._missing(stage.inputs[role], problems, waiting)
            )
            for role, found in groups.items()
        ]
        one = takes_one(stage)
        jobs = []
        for unit in units:
            chosen = [chooser.choose(unit) for chooser in choosers]
            inputs = tuple([choice for choice in chosen if choice is not None])
            if len(inputs) == len(stage.inputs):
                data_id = unit.fixed(stage.per, takes_one=one)
                jobs.append(PlannedJob(unit.name, data_id, unit.begins_at, unit.ends_at, inputs))
        return jobs

    def _missing(self, declared: Input, problems: Problems, waiting: Problems) -> Problems:
        """Return where to tell that an input lacks files."""
        source = declared.source.own_stage
        if source in self.broken:
            return Problems()  # they lack because of problems of that stage, which are told
        return waiting if source and source not in self.projected else problems

    def _fit(self, common: StageCommon, jobs: Iterable[PlannedJob], problems: Problems) -> list[PlannedJob]:
        """Return the jobs whose outputs have names of their own and, where they need it, a validity range."""
        fit = [
            job
            for job in jobs
            if self.names.claim(common, job.unit, job.data_id, problems) and _has_validity(common.stage, job, problems)
        ]
        sealed = set(
            self.session.scalars(
                select(JobRow.unit)
                .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
                .where(CampaignRow.name == self.campaign.name, JobRow.stage == common.stage.name)
            )
        )
        taken = names_taken(self.session, self.names.of(common.stage, sealed))
        refused = self.names.refuse(taken, problems)
        return [job for job in fit if job.unit not in refused]


def _files_of(plan: StagePlan) -> Iterator[FoundFile]:
    """Yield the files that a plan's jobs will make and that later stages can read; their IDs are negative."""
    number = 0
    for step in plan.stage.steps:
        for role, output in step.outputs.items():
            for job in plan.jobs if output.to != NOWHERE else ():
                names = output_names(plan.common, job.data_id, 1, step.name, role)
                for name in names[: max(output.min, 1)]:
                    number -= 1
                    yield FoundFile(
                        number, name, output.type, 0, "", job.data_id, job.begins_at, job.ends_at, {}, output.to, ""
                    )


def _has_validity(stage: Stage, job: PlannedJob, problems: Problems) -> bool:
    """Say whether a job's outputs that become calibrations can be given a validity range; report those that cannot."""
    if job.begins_at is not None and job.ends_at is not None:
        return True
    made = [role for step in stage.steps for role, output in step.outputs.items() if output.calibration is not None]
    for role in made:
        reason = f"output {role!r} becomes a calibration, and the unit's files tell no times for its validity"
        problems.add(f"stage {stage.name!r}", reason, job.unit)
    return not made


def origin_of(campaign: Campaign, stage: str, role: str) -> str:
    """Return the configuration layer that decided last about an input, as ``campaign (night1.yaml:12)``."""
    prefix = f"pipeline.stages.{stage}.inputs.{role}"
    declared = campaign.pipeline.stage(stage).inputs[role]
    of_raw = declared.source == Source() and declared.lookup is None
    deciding = [
        (key, layer)
        for key, layer in campaign.origins.items()
        if key == prefix or key.startswith(f"{prefix}.") or (of_raw and key == "where")
    ]
    deciding.reverse()  # of one layer, what was written last: the lookup comes after the source
    if not deciding:
        return LAYERS[0]
    _key, layer = max(deciding, key=lambda each: (LAYERS.index(each[1].name), each[0] != "where"))
    return str(layer)
