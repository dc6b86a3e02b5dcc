"""Running jobs of a campaign again: those that failed, or others that an operator chooses, as they were or changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from nightmill.backbone.work import campaigns, steering
from nightmill.backbone.work.reruns import start_again, start_downstream
from nightmill.clock import utc_now
from nightmill.model.campaign import Campaign
from nightmill.model.conducting import CampaignRun
from nightmill.model.ports import Conductor
from nightmill.model.states import Course, JobState
from nightmill.operations import credentials, engines, memory
from nightmill.operations.acts import Act
from nightmill.operations.bundle import sealed_bundle
from nightmill.operations.drain import drain
from nightmill.operations.edited import Edit, Folder, edit_of
from nightmill.operations.foreseen import Foreseen, foresee
from nightmill.operations.site import Site
from nightmill.operations.wanted import Wanted, Which
from nightmill.planning.revise import revise_jobs
from nightmill.planning.seal import refuse_excluded, refuse_withdrawn


@dataclass(frozen=True)
class Rerun:
    """What a rerun comes to."""

    left: int | None
    """How many jobs of the campaign are not done; None where a stage is not planned yet, so that nobody can tell, and
    where nothing was done."""
    foreseen: Foreseen
    """Which jobs run again, and how."""
    paused: str = ""
    """Who paused it, and why: the jobs wait until it is resumed; empty where it goes on."""
    run: CampaignRun | None = None
    """The flow run that conducts it, where somebody does, something is left, and it is not paused."""


def _silent(_foreseen: Foreseen) -> None:
    pass


def rerun(
    site: Site,
    name: str,
    *,
    wanted: Wanted | None = None,
    who: str | None = None,
    why: str = "",
    folder: Folder = Folder.ASK,
    conductor: Conductor | None = None,
    show: Callable[[Foreseen], None] = _silent,
    dry_run: bool = False,
) -> Rerun:
    """Have jobs of a campaign run again, exactly those that are shown, and leave a record of the act.

    A job that is done keeps its result until the new attempt publishes; then that is its result. What an attempt ran
    with stays as it was. A campaign that was cancelled goes on with them; of one that is paused, they wait.

    Parameters
    ----------
    wanted
        Which jobs, and what is to be otherwise; by default those that failed, as they were.
    who
        See :meth:`~nightmill.operations.acts.Act.begin`.
    folder
        Which state of the pipeline's folder counts, where it was edited since.
    conductor
        Who is to go on with it then; by default nobody.
    show
        Called with what is to be done, before anything is written.
    dry_run
        Whether to write nothing.

    Raises
    ------
    ServerAway
        Where the conductor does not answer; nothing was written where it did not from the beginning.
    RequestRefused
        Where the database was brought back from an older backup, the folder was edited and ``folder`` does not say
        which state counts, a credential that is required is missing or has ended, an engine failed its last flight
        check, or the one that is wanted cannot be given; or as
        :func:`~nightmill.operations.foreseen.foresee`, or where somebody else did something with these jobs meanwhile:
        nothing was written.
    PlanRefused
        Where files that were chosen anew were excluded or withdrawn meanwhile; nothing was written.
    """
    wanted = wanted or Wanted()
    act = Act.begin(site, "rerun", who=who, why=why)
    if not dry_run:
        credentials.require(site.config)
        if conductor is not None:
            conductor.require()
        drain(site)
    memory.require_current(site)
    with edit_of(site, name, folder, done=wanted.which is not Which.FAILED) as edit:
        with site.database.reading() as session:
            row = campaigns.own_campaign(session, name)
            campaign = Campaign.model_validate(row.definition)
            if wanted.engine:
                campaign = engines.with_engine(site, campaign, wanted.engine, wanted.stage)
            bundle = edit.bundle.sealed if edit is not None else sealed_bundle(session, row.id)
            foreseen = foresee(site, session, name, wanted, bundle)
        show(foreseen)
        if not dry_run:
            engines.require(site, campaign)
        if dry_run or not (foreseen.jobs or wanted.is_plain):
            return Rerun(None, foreseen)

        def work(session: Session) -> Rerun:
            # of what failed, as it was, nothing had to be worked out: whatever has failed by now is meant
            told = foresee(site, session, name, wanted, bundle) if wanted.is_plain else foreseen
            left = _write(session, act, told, wanted, edit)
            if wanted.engine:
                engines.give(campaigns.own_campaign(session, name), campaign)
            course = steering.steering_of(session, row.id)
            return Rerun(left, told, str(course) if course.is_paused else "")

        begun = site.database.write(work)
    if conductor is None or begun.left == 0 or begun.paused:
        return begun
    return replace(begun, run=conductor.start(name))


def _write(session: Session, act: Act, foreseen: Foreseen, wanted: Wanted, edit: Edit | None) -> int | None:
    """Write what was foreseen, and return how many jobs of the campaign are not done."""
    row = campaigns.own_campaign(session, foreseen.campaign)
    before = steering.locked(session, row.id)
    start_again(session, row.id, foreseen.seen)
    start_downstream(session, foreseen.downstream, renewed=foreseen.renewed)
    if before.course is Course.CANCELLED:
        steering.set_course(session, row.id, Course.GOES_ON, who=act.who, why=act.why)
        steering.take_up_cancelled(session, row.id)
    detail: dict[str, Any] = {}
    if not wanted.is_plain:
        counts = {f"{stage} {state}": count for (stage, state), count in foreseen.counts.items()}
        detail |= {"wanted": wanted.record(), "jobs": counts}
        if foreseen.values:
            detail["values"] = [[value.key, value.before, value.after] for value, _ in foreseen.values]
    if edit is not None:
        detail |= edit.write(session, row.id, act.who)
    revisions = []
    for revised in foreseen.revised:
        common = revised.common
        if revised.plan is not None:
            refuse_excluded(session, revised.plan)
            units = {job.unit for job in foreseen.jobs if job.id in revised.details}
            refuse_withdrawn(session, revised.plan, [job for job in revised.plan.jobs if job.unit in units])
        elif edit is not None:
            common = common.model_copy(update={"bundle": edit.bundle.sealed})
        number = revise_jobs(session, common, revised.details, anew=revised.plan is not None, now=utc_now())
        revisions.append(f"{common.stage.name} {number}")
    if revisions:
        detail["revisions"] = revisions
    act.note(session, foreseen.campaign, detail or None)
    stages = campaigns.progress(session, row.id)
    if not all(stage.revisions for stage in stages):
        return None
    return sum(stage.total - stage.counts.get(JobState.DONE, 0) for stage in stages)
