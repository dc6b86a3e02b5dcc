"""Plans: every job of a campaign with the files it will read and the names of those it will make.

A plan is made from a handful of queries a stage, unit after unit, so that memory does not grow with their number.
Stages that depend on others of the campaign are projected from what those are planned to make, and planned again, from
what they did make, when their turn comes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from nightmill.backbone.among import among
from nightmill.backbone.as_of import on_record
from nightmill.backbone.catalogue.exclusions import Exclusion, in_force
from nightmill.backbone.catalogue.files import names_taken
from nightmill.backbone.schema import CampaignRow, FileRow, JobRow
from nightmill.backbone.work.left_out import stages_with_left_out
from nightmill.config.engines import wrong_engines
from nightmill.config.site import SiteConfig
from nightmill.errors import RequestRefused
from nightmill.model.bundle import SealedBundle
from nightmill.model.campaign import Campaign
from nightmill.model.found_file import FoundFile
from nightmill.model.pipeline import Input, LookupSetting, Stage
from nightmill.planning.breakpoints import unknown_campaigns
from nightmill.planning.choosing import Choosers, choosing_order
from nightmill.planning.exclusions import Tally, rules_of
from nightmill.planning.first_attempt import first_names, lacks_text
from nightmill.planning.inputs import Rules, takes_one
from nightmill.planning.jobs import Jobs, blocks
from nightmill.planning.lacking import Shortfalls
from nightmill.planning.lookups.bound import bind
from nightmill.planning.lookups.way import Way
from nightmill.planning.memberships import Memberships, known_after, makes_units
from nightmill.planning.network import check_network
from nightmill.planning.open_names import OpenNames
from nightmill.planning.origins import origin_of
from nightmill.planning.outputs import Names, claims, naming_keys
from nightmill.planning.planned import CampaignPlan, StagePlan
from nightmill.planning.preflight import check_images, check_inputs, check_outputs, check_texts, log_store
from nightmill.planning.problems import Problems
from nightmill.planning.projected import Projected, known_after_of
from nightmill.planning.reliance import Reliance
from nightmill.planning.sealed import PlannedJob, StageCommon, StageView
from nightmill.planning.selection import Group, Selector
from nightmill.planning.shipping import Shipments, unknown_home
from nightmill.planning.texts import asks_of_files
from nightmill.planning.units import Grouping, group_units, limited, make_units, peeked
from nightmill.planning.variants import Variants, wrong_units


def plan_campaign(
    session: Session,
    campaign: Campaign,
    site: SiteConfig,
    number: int,
    bundle: SealedBundle | None = None,
    also: Sequence[Exclusion] = (),
    *,
    as_of: datetime | None = None,
    reliance: Reliance | None = None,
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
    also
        Exclusions to heed beside those that are in force.
    as_of
        The time whose catalogue is asked: what was registered, certified, excluded or withdrawn later is not known, and
        neither is where copies were, so that files need none. By default all that is known now.
    reliance
        Is told which calibrations serve which units.
    """
    planner = _Planner(session, campaign, site, number, bundle, also, as_of, reliance)
    stages = []
    for stage in campaign.pipeline.stages:
        stages.append(planner.plan(stage))
        planner.project(stages[-1])
    problems = dict.fromkeys(problem for plan in stages for problem in plan.problems)
    named = (*unknown_campaigns(session, campaign, as_of), *wrong_engines(campaign, site.engines))
    problems |= dict.fromkeys((*wrong_units(campaign, planner.keys, stages), *named, *unknown_home(session, campaign)))
    return CampaignPlan(campaign, number, tuple(stages), tuple(problems), as_of, planner.shipments.told())


def plan_stage(
    session: Session,
    campaign: Campaign,
    stage: str,
    site: SiteConfig,
    number: int,
    bundle: SealedBundle | None = None,
    *,
    reliance: Reliance | None = None,
) -> StagePlan:
    """Plan one stage from what exists: what the stages before it published, and the catalogue.

    Parameters are those of :func:`plan_campaign`. A unit that lacks what a stage before may still make waits: that
    is not a problem.
    """
    return _Planner(session, campaign, site, number, bundle, reliance=reliance).plan(campaign.pipeline.stage(stage))


class _Planner:
    """Plans stage after stage of one campaign; of a stage, units pass through it in blocks."""

    def __init__(
        self,
        session: Session,
        campaign: Campaign,
        site: SiteConfig,
        number: int,
        bundle: SealedBundle | None,
        also: Sequence[Exclusion] = (),
        as_of: datetime | None = None,
        reliance: Reliance | None = None,
    ) -> None:
        self.session = session
        self.as_of = as_of
        self.reliance = reliance
        self.shipments = Shipments(session, site.partners)
        self.bundle = bundle
        self.campaign = campaign
        self.site = site
        self.number = number
        self.names = Names()
        self.projected: dict[str, Projected] = {}
        self.broken: set[str] = set()
        """Projected stages whose plans have problems."""
        self.incomplete = stages_with_left_out(session, campaign.name, as_of=as_of)
        """Stages that leave units out, and those that take from them: what a unit lacks may yet come from there."""
        known = on_record(FileRow.registered_at, as_of)
        self.watermark = session.scalar(select(func.max(FileRow.id)).where(known)) or 0
        self.keys = site.keys
        self.unruly = Problems()
        """What is wrong with rules of what is excluded."""
        found = [*in_force(session, campaign.name, as_of=as_of), *also]
        self.exclusions = frozenset(each.number for each in found)
        self.rules = rules_of(campaign, found, keys=self.keys, types=site.file_types, problems=self.unruly)
        self.selector = Selector(session, campaign, self.keys, self.watermark, self.projected, as_of)

    def plan(self, stage: Stage) -> StagePlan:
        """Plan one stage, from projected files where a stage that it takes from was planned before it."""
        problems, rules = Problems(), Rules()
        short = Shortfalls(problems)
        common = self._common(stage)
        roles = check_inputs(stage, self.campaign, self.site, problems)
        templates = self.bundle.templates if self.bundle else ()
        variants = Variants(self.campaign, stage)
        kinds = [stage, *variants.stages()]
        known = [check_texts(each, self.site, templates, problems) for each in kinds]
        for each in kinds:
            check_images(each, self.site, problems)
            check_network(each, self.site, problems)
        asks = all(known) and any(map(asks_of_files, kinds))
        nameless = Problems()
        check_outputs(stage, self.site, nameless)
        later = [name for name, each in self.projected.items() if each.known_after]
        after = known_after_of(stage, self.projected, self.keys, problems) or known_after(
            stage, stage.making, self.site.file_types, self.projected, later
        )
        position = [each.name for each in self.campaign.pipeline.stages].index(stage.name)
        tallies = {
            role: Tally(role, position, self.rules, stage.per if role == stage.making else ()) for role in stage.inputs
        }
        files, ways = (None, {}) if after else self._select(stage, roles, tallies, problems)
        self._spread_incompleteness(stage)
        chosen = self._jobs(stage, files, ways, tallies, rules, short, variants)
        jobs = Jobs(self._fit(common, chosen, problems, named=not nameless, asks=asks))
        plan = StagePlan(
            common=common.model_copy(
                update={"rules": rules.texts(), "levels": rules.levels, "variants": variants.sealed()}
            ),
            position=position,
            jobs=jobs,
            problems=(),
            waiting=tuple(short.waiting.sentences()),
            left_out=tuple(short.units.values()),
            lacking=short.sentences(),
            incomplete=bool(short.units)
            or not self.incomplete.isdisjoint(stage.upstream)
            or tallies[stage.making].ends,
            projected=any(source in self.projected for source in stage.upstream),
            watermark=self.watermark,
            known_after=after,
            variants={variants.all[place - 1].units: count for place, count in variants.used.items()},
            excluded=tuple([each for tally in tallies.values() for each in tally.told()]),
            exclusions=self.exclusions,
        )
        before = [each.plan for each in self.projected.values()]
        if refused := self.names.clashes((*before, plan), problems) | self._open_clashes((*before, plan), problems):
            plan = replace(plan, jobs=Jobs(job for place, job in enumerate(jobs) if place not in refused))
        wrong = [*self.unruly.sentences(), *problems.sentences(), *nameless.sentences()]
        if problems and plan.excluded:  # what is lacking may be what is left out
            wrong += [f"stage {stage.name!r}, {each}" for each in plan.excluded]
        return replace(plan, problems=tuple(wrong))

    def project(self, plan: StagePlan) -> None:
        """Let the files that a stage is planned to make stand in for those that it will make."""
        self.projected[plan.stage.name] = Projected(plan, plan.known_after)
        if plan.problems:
            self.broken.add(plan.stage.name)
        if plan.incomplete:
            self.incomplete.add(plan.stage.name)

    def _spread_incompleteness(self, stage: Stage) -> None:
        """Note of a stage that it takes from one that leaves units out; the stages before it are looked at first."""
        for each in self.campaign.pipeline.stages:
            if not self.incomplete.isdisjoint(each.upstream):
                self.incomplete.add(each.name)
            if each is stage:
                return

    def _open_clashes(self, stages: Sequence[StageView], problems: Problems) -> set[int]:
        """Report open names of the last of these stages that may become those of others; return the jobs' places."""
        if not any(output.tells for plan in stages for step in plan.stage.steps for output in step.outputs.values()):
            return set()
        names, plan = OpenNames(stages), stages[-1]
        taken = names.taken(self.session, as_of=self.as_of)
        sealed = self._sealed(plan.stage, [plan.jobs[place].unit for place in taken])
        new = {place: each for place, each in taken.items() if plan.jobs[place].unit not in sealed}
        return names.clashes(new.values(), problems) | new.keys()

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
            level=self.campaign.execution.level,
            origins={role: origin_of(self.campaign, stage.name, role) for role in stage.inputs},
        )

    def _select(
        self, stage: Stage, roles: Collection[str], tallies: Mapping[str, Tally], problems: Problems
    ) -> tuple[Iterator[FoundFile] | None, dict[str, list[Way]]]:
        """Select the files that make units, one by one, and the ways in which inputs are filled.

        An input is left out whose expression, source or lookup is wrong, which is reported.
        """
        files, ways = None, {}
        for role in choosing_order(stage):
            if role not in roles:
                continue
            declared, tally = stage.inputs[role], tallies[role]
            try:
                if role == stage.making and not makes_units(stage, role, self.site.file_types):
                    place, files = self.selector.stream(declared, tally, stage.where, stage.per)
                    ways[role] = [Way(stage, declared, None, [Group(place, ())], searched=False)]
                elif role == stage.making:
                    groups = self.selector.select(declared, tally, stage.where)
                    ways[role] = [Way(stage, declared, None, groups, searched=False)]
                else:
                    ways[role] = [self._way(stage, way, tally) for way in declared.ways]
            except RequestRefused as error:
                problems.add(f"stage {stage.name!r}, input {role!r}", str(error))
        return files, ways

    def _way(self, stage: Stage, declared: Input, tally: Tally) -> Way:
        lookup = bind(declared.lookup) if isinstance(declared.lookup, LookupSetting) else None
        groups = self.selector.select(declared, tally, "", lookup.names if lookup is not None else None)
        return Way(stage, declared, lookup, groups, searched=not declared.through)

    def _jobs(
        self,
        stage: Stage,
        files: Iterator[FoundFile] | None,
        ways: Mapping[str, Sequence[Way]],
        tallies: Mapping[str, Tally],
        rules: Rules,
        short: Shortfalls,
        variants: Variants,
    ) -> Iterator[PlannedJob]:
        """Choose the inputs of every unit; where those of a role cannot be told, only report what else is missing."""
        making, problems = stage.making, short.problems
        if making not in ways:
            return
        topic = f"stage {stage.name!r}, input {making!r}"
        grouping, naming = Grouping(stage.per, self.keys), naming_keys(stage, self.site.file_types, self.keys)
        groups = {role: [group for way in found for group in way.groups] for role, found in ways.items()}
        rows = Memberships(stage, making, groups, self.site.file_types, self.keys, self.site.tilings)
        rows.read(self.session, problems)
        if files is None:
            is_any, units = peeked(group_units(grouping, rows.keyed(grouping, problems, topic)))
        else:
            is_any, files = peeked(files)
            units = make_units(grouping, files, problems, topic=topic)
        if not is_any and (source := stage.inputs[making].source.own_stage) not in self.broken:
            which = f"{stage.inputs[making].type} {groups[making][0].place}"
            rowless = " has a row that makes a unit" if groups[making][0].candidates else ""
            reason = f"no {which}{rowless}: there is nothing to do"
            ends = source in self.incomplete or tallies[making].ends
            (short.waiting if ends else problems).add(topic, reason)
        choosers = Choosers(
            stage,
            ways,
            rows,
            rules,
            problems,
            lambda role, declared: self._missing(role, declared, short),
            variants,
            lambda stage, role, way: self._way(stage, way, tallies[role]),
            lambda stage: check_inputs(stage, self.campaign, self.site, problems),
            stored=self.as_of is None,
            reliance=self.reliance,
            shipments=self.shipments,
        )
        one = takes_one(stage, self.site.file_types)
        for unit in limited(units, stage.max_units, problems, topic=topic):
            tallies[making].sees(unit.name)
            variant = variants.place(unit.data_id, unit.name, problems)
            chosen = choosers.choose(unit, variant)
            if len(chosen) == len(stage.inputs):
                data_id = unit.fixed(stage.per, naming, takes_one=one)
                choices = tuple([chosen[role] for role in stage.inputs])
                yield PlannedJob(unit.name, data_id, unit.begins_at, unit.ends_at, choices, variant=variant)

    def _missing(self, role: str, declared: Input, short: Shortfalls) -> Problems:
        """Return where to tell that an input lacks files."""
        sources = {way.source.own_stage for way in declared.ways} - {""}
        if sources & self.broken:
            return Problems()  # they lack because of problems of that stage, which are told
        if declared.missing != "refuse":
            return short.of(role, declared)
        may_come = any(source not in self.projected or source in self.incomplete for source in sources)
        return short.waiting if may_come else short.problems

    def _fit(
        self, common: StageCommon, jobs: Iterable[PlannedJob], problems: Problems, *, named: bool, asks: bool
    ) -> Iterator[PlannedJob]:
        """Yield the jobs whose outputs have names that the catalogue has not and, where they need it, a validity range.

        Parameters
        ----------
        named
            Whether outputs can have names; where they cannot, jobs are made for what is wrong with their inputs alone.
        asks
            Whether texts of the steps ask for what files may lack.
        """
        for block in blocks(jobs):
            if not named:
                continue
            names = {
                place: names
                for place, job in enumerate(block)
                if (names := first_names(common, job, problems)) and not (asks and lacks_text(common, job, problems))
            }
            taken = self._taken(common, block, names, problems)
            for place, of_job in names.items():
                if taken.isdisjoint(of_job):
                    self.names.take(of_job)
                    yield block[place]

    def _taken(
        self, common: StageCommon, block: Sequence[PlannedJob], names: Mapping[int, Collection[str]], problems: Problems
    ) -> set[str]:
        """Return the names that the catalogue has already, and report them; jobs that are sealed have theirs."""
        sealed = self._sealed(common.stage, [job.unit for job in block])
        new = [place for place in names if block[place].unit not in sealed]
        taken = names_taken(self.session, [name for place in new for name in names[place]], as_of=self.as_of)
        clashing = [claim for place in new if taken for claim in claims(common, block[place].data_id)]
        for claim in sorted(claim for claim in clashing if claim.name in taken):
            reason = f"the name of output {claim.role!r} ({claim.type}) is taken: the catalogue has a file of that name"
            problems.add(f"stage {common.stage.name!r}", reason, claim.name, noun="name")
        return taken

    def _sealed(self, stage: Stage, units: Collection[str]) -> set[str]:
        """Return those of a stage's units whose jobs are sealed already."""
        query = (
            select(JobRow.unit)
            .join(CampaignRow, CampaignRow.id == JobRow.campaign_id)
            .where(CampaignRow.name == self.campaign.name, JobRow.stage == stage.name, among(JobRow.unit, units))
        )
        return set(self.session.scalars(query))
