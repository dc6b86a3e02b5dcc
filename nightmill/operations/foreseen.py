"""What a rerun is to do, worked out before anything is written: which jobs, with what otherwise, and what follows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy.orm import Session

from nightmill.backbone.schema import CampaignRow
from nightmill.backbone.work import campaigns
from nightmill.backbone.work.reruns import Again, Others, files_of_results, may_run_again, others
from nightmill.backbone.work.uses import uses_of
from nightmill.config.campaign import ChangedValue, excluding
from nightmill.config.changes import read_override, read_setting
from nightmill.config.layers import Tree
from nightmill.errors import RequestRefused, UnknownName
from nightmill.expressions import parse
from nightmill.model.base import grouped
from nightmill.model.bundle import SealedBundle
from nightmill.model.campaign import Campaign
from nightmill.model.states import JobState
from nightmill.operations.site import Site
from nightmill.operations.turns import held_back
from nightmill.operations.wanted import Wanted, Which
from nightmill.planning.anew import OtherInput, anew
from nightmill.planning.changed import Changed, as_planned, change
from nightmill.planning.plan import plan_stage
from nightmill.planning.planned import StagePlan
from nightmill.planning.restart import restarts
from nightmill.planning.sealed import JobDetail, Restart, StageCommon, commons
from nightmill.planning.units import fulfils

MOST_TOLD: Final = 10
"""So many reasons are named in a message."""


_STATES: Final = {
    Which.FAILED: (JobState.FAILED, JobState.CANCELLED),
    Which.STALE: (JobState.FAILED, JobState.DONE),
    Which.WHOLE: (JobState.FAILED, JobState.DONE, JobState.CANCELLED),
}
_NOT_BEGUN: Final = (JobState.PLANNED, JobState.READY)
"""Jobs that run in any case; what is set may be set for them too."""


@dataclass(frozen=True)
class Revised:
    """Jobs whose plan is one and the same, and that get another together.

    Parameters
    ----------
    common
        What they share from then on.
    details
        Job IDs to what differs from job to job, where that is otherwise.
    changed
        Whether their values were changed.
    plan
        Where their inputs were chosen anew.
    """

    common: StageCommon
    details: Mapping[int, Mapping[str, Any] | None]
    changed: bool = False
    plan: StagePlan | None = None


@dataclass(frozen=True)
class Foreseen:
    """What a rerun is to do.

    Parameters
    ----------
    jobs
        Exactly those that run again, in the order of the plans.
    inputs
        Job IDs to the inputs that are others.
    values
        What else is otherwise, with how many of the jobs it is about.
    restarts
        Job IDs to where those begin that do not begin with the first step.
    downstream
        Done jobs that run again after them with what they make, by their IDs, as CAMPAIGN/STAGE/UNIT.
    renewed
        IDs of those of the jobs that read what others of them make: they wait for that.
    stale
        Jobs that are not among them and read what they made, as CAMPAIGN/STAGE/UNIT.
    waits
        Why stages of these jobs wait, one sentence each.
    gone
        Jobs that would not be planned any more, and do not run again.
    revised
        What is to be written of their plans.
    """

    campaign: str
    jobs: tuple[Again, ...]
    others: Others
    inputs: Mapping[int, tuple[OtherInput, ...]] = field(default_factory=dict)
    values: tuple[tuple[ChangedValue, int], ...] = ()
    restarts: Mapping[int, Restart] = field(default_factory=dict)
    downstream: Mapping[int, str] = field(default_factory=dict)
    renewed: frozenset[int] = frozenset()
    stale: tuple[str, ...] = ()
    waits: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    revised: tuple[Revised, ...] = ()

    @property
    def seen(self) -> dict[int, JobState]:
        """Their IDs with the states that they are in."""
        return {job.id: job.state for job in self.jobs}

    @property
    def counts(self) -> Counter[tuple[str, JobState]]:
        """How many they are, by stage and state."""
        return Counter((job.stage, job.state) for job in self.jobs)


def foresee(site: Site, session: Session, name: str, wanted: Wanted, bundle: SealedBundle | None = None) -> Foreseen:
    """Work out what a rerun is to do; nothing is written.

    Parameters
    ----------
    bundle
        What jobs that are planned anew are to see of the pipeline's folder.

    Raises
    ------
    UnknownName
        Where there is no such campaign, stage or step.
    ExpressionError
        Where an expression is wrong.
    ConfigError, ConfigErrors
        Where what is set is wrong, or cannot be changed for jobs that are sealed.
    RequestRefused
        Where jobs are to begin with a step, and something that it reads is not there.
    """
    row = campaigns.own_campaign(session, name)
    campaign = excluding(Campaign.model_validate(row.definition), wanted.exclude)
    _require_sound(wanted, campaign)
    for rule in campaign.exclude[len(campaign.exclude) - len(wanted.exclude) :]:
        parse(rule.where, metadata_keys=site.config.keys)
    layers = [*map(read_override, wanted.overrides), *map(read_setting, wanted.settings)]
    fits = _fits(wanted, site)
    states = (*_STATES[wanted.which], *(_NOT_BEGUN if layers and wanted.which is Which.WHOLE else ()))
    jobs = [job for job in may_run_again(session, row.id, states, stage=wanted.stage) if fits(job)]
    found = _Found(site, session, row, campaign, wanted, bundle)
    found.look_at(jobs, layers)
    chosen = tuple([job for job in jobs if job.id in found.kept])
    seen = {job.id: job.state for job in chosen}
    readers = dict(_readers(session, chosen))
    if both := [job.name for job in chosen if job.id in readers and job.id in found.restarts]:
        raise RequestRefused(
            f"{both[0]} is to begin with a step, and reads what others of these jobs make",
            remedy="rerun these first, and it after them",
        )
    others_of_campaign = {id_: job for id_, job in readers.items() if id_ not in seen and job.startswith(f"{name}/")}
    after = others_of_campaign if wanted.downstream else {}
    return Foreseen(
        name,
        chosen,
        others(session, row.id, seen),
        inputs=found.inputs,
        values=tuple([(value, found.about[value.key]) for value in found.values.values()]),
        restarts=found.restarts,
        downstream=after,
        renewed=frozenset(readers) & frozenset(seen),
        stale=tuple([job for id_, job in readers.items() if id_ not in after and id_ not in seen]),
        waits=tuple(_waiting(session, row.id, campaign, chosen)),
        gone=tuple(found.gone),
        revised=tuple(found.revised),
    )


def _require_sound(wanted: Wanted, campaign: Campaign) -> None:
    stages = [stage.name for stage in campaign.pipeline.stages]
    if wanted.stage and wanted.stage not in stages:
        raise UnknownName("stage", wanted.stage, stages, remedy=f"there is {', '.join(stages)}")
    if wanted.from_step and wanted.from_failure:
        raise RequestRefused("--from-step and --from-failure exclude each other", remedy="say one of them")
    if (wanted.which is Which.STALE or wanted.exclude) and (wanted.from_step or wanted.from_failure):
        raise RequestRefused(
            "jobs with other inputs begin with their first step: what the steps before another made is of the old ones",
            remedy=f"leave out {'--exclude' if wanted.exclude else '--stale'}, or the step",
        )


def _fits(wanted: Wanted, site: Site) -> Callable[[Again], bool]:
    """Return what says of a job whether its unit fulfils the expression."""
    if not wanted.where:
        return lambda _job: True
    expression = parse(wanted.where, metadata_keys=site.config.keys)
    return lambda job: fulfils(expression, job.detail["data_id"])


class _Found:
    """What is found out of the jobs that are to run again, plan by plan."""

    def __init__(
        self,
        site: Site,
        session: Session,
        row: CampaignRow,
        campaign: Campaign,
        wanted: Wanted,
        bundle: SealedBundle | None,
    ) -> None:
        self.site, self.session, self.row = site, session, row
        self.campaign, self.wanted, self.bundle = campaign, wanted, bundle
        self.kept: set[int] = set()
        self.inputs: dict[int, tuple[OtherInput, ...]] = {}
        self.values: dict[str, ChangedValue] = {}
        self.about: Counter[str] = Counter()
        self.restarts: dict[int, Restart] = {}
        self.gone: list[str] = []
        self.revised: list[Revised] = []
        self._plans: dict[str, StagePlan] = {}

    def look_at(self, jobs: Sequence[Again], layers: Sequence[Tree]) -> None:
        """Find out all of it."""
        by_plan = grouped((job.plan_id, job) for job in jobs)
        sealed = commons(self.session, by_plan)
        changed = {id_: change(self.campaign, sealed[id_][1], layers) for id_ in by_plan} if layers else {}
        begins = self._begins(jobs, sealed, changed)
        for id_, theirs in by_plan.items():
            _digest, common = sealed[id_]
            other = changed.get(id_)
            if self.wanted.which is Which.STALE or self.wanted.exclude or (other is not None and other.other_inputs):
                self._choose_anew(common, theirs, other)
            else:
                self._keep(common, theirs, other, begins)
            if other is not None and (kept := sum(job.id in self.kept for job in theirs)):
                for value in other.values:
                    self.values.setdefault(value.key, value)
                    self.about[value.key] += kept

    def _begins(
        self, jobs: Sequence[Again], sealed: Mapping[int, tuple[str, StageCommon]], changed: Mapping[int, Changed]
    ) -> Mapping[int, Restart | None]:
        """Return where jobs are to begin; an empty mapping where each begins where it did."""
        if not self.wanted.from_step and not self.wanted.from_failure:
            return {}
        found = restarts(self.session, [(job, sealed[job.plan_id][1]) for job in jobs], self.wanted.from_step)
        if found.lacking:
            more = f"; and {len(found.lacking) - MOST_TOLD} more" if len(found.lacking) > MOST_TOLD else ""
            raise RequestRefused(
                f"jobs cannot begin so: {'; '.join(found.lacking[:MOST_TOLD])}{more}",
                remedy="begin with the step that makes it, or leave the step out",
            )
        for job in jobs:
            other, begin = changed.get(job.plan_id), found.by_job[job.id]
            if other is None or begin is None:
                continue
            if missed := sorted(other.steps - set(begin.only)):
                raise RequestRefused(
                    f"step {missed[0]!r} is changed, and {job.name} begins after it, with {begin.only[0]!r}",
                    remedy="begin with the step that is changed",
                )
            if other.other_inputs:
                raise RequestRefused(
                    f"inputs are changed, and {job.name} begins with {begin.only[0]!r}: what the steps before that"
                    " made is of the old ones",
                    remedy="leave the step out",
                )
        return found.by_job

    def _keep(
        self, common: StageCommon, jobs: Sequence[Again], other: Changed | None, begins: Mapping[int, Restart | None]
    ) -> None:
        """Have jobs run again with the inputs that they have."""
        self.kept.update(job.id for job in jobs)
        details: dict[int, Mapping[str, Any] | None] = {}
        for job in jobs if begins else [job for job in jobs if job.detail.get("restart")]:
            before = JobDetail.model_validate(job.detail).restart
            # one that failed goes on as it began; one that is done runs whole, unless somebody says where it begins
            begin = begins[job.id] if begins else before if job.state is not JobState.DONE else None
            if begin is not None:
                self.restarts[job.id] = begin
            if begin != before:
                details[job.id] = _beginning(job.detail, begin)
        has_other = other is not None and bool(other.values)
        if has_other:
            details = {job.id: details.get(job.id) for job in jobs}
        if details:
            self.revised.append(Revised(other.common if other else common, details, changed=has_other))

    def _choose_anew(self, common: StageCommon, jobs: Sequence[Again], other: Changed | None) -> None:
        """Have jobs run again with the inputs that they would be planned with now."""
        plan = self._plan(other.campaign if other else as_planned(self.campaign, common), common.stage.name)
        by_unit = {job.unit: job for job in jobs}
        details: dict[int, Mapping[str, Any] | None] = {}
        for each in anew(self.session, plan, {job.unit: (common, job.detail) for job in jobs}):
            job = by_unit.pop(each.unit)
            if each.inputs:
                self.inputs[job.id] = each.inputs
            if each.inputs or self.wanted.which is not Which.STALE:
                self.kept.add(job.id)
                details[job.id] = each.detail
        self.gone += [f"{job.name}: {self._why_gone(plan, job)}" for job in by_unit.values()]
        if details:
            self.revised.append(Revised(plan.common, details, changed=other is not None, plan=plan))

    def _plan(self, campaign: Campaign, stage: str) -> StagePlan:
        key = f"{stage} {campaign.model_dump_json()}"
        if key not in self._plans:
            self._plans[key] = plan_stage(self.session, campaign, stage, self.site.config, self.row.id, self.bundle)
        return self._plans[key]

    def _why_gone(self, plan: StagePlan, job: Again) -> str:
        left_out = next((f"{each.role}: {each.why}" for each in plan.left_out if each.unit == job.unit), "")
        others = [*[*plan.problems, *plan.waiting][:1], *map(str, plan.excluded[:1])]
        return left_out or job.held_why or "; ".join(others) or "its files make no unit any more"


def _beginning(detail: Mapping[str, Any], begin: Restart | None) -> dict[str, Any]:
    own = {key: value for key, value in detail.items() if key != "restart"}
    return {**own, "restart": begin.model_dump(mode="json")} if begin is not None else own


def _readers(session: Session, chosen: Sequence[Again]) -> Iterator[tuple[int, str]]:
    """Yield the jobs, of any campaign, that read what done jobs made, those that read what these made, and so on.

    Only those that are done, or among the chosen ones.
    """
    again = {job.id for job in chosen}
    todo = files_of_results(session, [job.id for job in chosen if job.state is JobState.DONE])
    told: set[int] = set()
    while todo:
        # what an attempt took from an earlier one of its own job is not among the files that are named
        uses = [each for each in uses_of(session, todo) if each.files and each.id not in told]
        uses = [each for each in uses if each.state is JobState.DONE or each.id in again]
        told.update(each.id for each in uses)
        yield from ((each.id, each.job) for each in uses)
        todo = files_of_results(session, [each.id for each in uses])


def _waiting(session: Session, campaign_id: int, campaign: Campaign, chosen: Sequence[Again]) -> Iterator[str]:
    """Yield why stages of jobs that are to run again wait for others."""
    progress = {each.stage: each for each in campaigns.progress(session, campaign_id)}
    again = {job.stage for job in chosen}
    for stage in campaign.pipeline.stages:
        if stage.name not in again:
            continue
        if first := sorted(again.intersection(stage.upstream)):
            yield f"stage {stage.name!r} waits for the jobs of stage {first[0]!r}"
        elif (held := held_back(stage, progress)) is not None:
            yield held.reason
