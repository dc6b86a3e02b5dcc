"""Whose turn it is: stages of a campaign are sealed when those before them have ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy.orm import Session

from nightmill.backbone.work import attempts, campaigns
from nightmill.backbone.work.campaigns import StageProgress
from nightmill.backbone.work.news import has_news
from nightmill.backbone.work.slices import slice_numbers
from nightmill.backbone.work.steering import of_row
from nightmill.clock import utc_now
from nightmill.model.bundle import SealedBundle
from nightmill.model.campaign import Campaign
from nightmill.model.pipeline import Stage
from nightmill.model.states import JobState
from nightmill.operations import memory
from nightmill.operations.bundle import sealed_bundle
from nightmill.operations.site import Site
from nightmill.planning.plan import plan_stage
from nightmill.planning.seal import Sealed, seal


class Turn(StrEnum):
    """Whether it is a stage's turn."""

    READY = "ready"
    """Its jobs are sealed and can be carried out."""
    WAITING = "waiting"
    """Jobs of a stage before it have not ended."""
    BLOCKED = "blocked"
    """Too few jobs of a stage before it are done, and none can become so without a person; or somebody wants a halt."""


@dataclass(frozen=True)
class StageTurn:
    """A stage, and whether it is its turn."""

    turn: Turn
    slices: tuple[int, ...] = ()
    """Numbers of its slices."""
    reason: str = ""


def take_turn(
    site: Site, name: str, stage: str, *, under_way: Collection[str] = (), bundle: SealedBundle | None = None
) -> StageTurn:
    """Seal a stage if it is its turn, and return its slices.

    A stage that was sealed before is planned again where the stages before it have published since: units that have
    become possible join it, and jobs that would now get other inputs are marked stale.

    Parameters
    ----------
    under_way
        Stages that are being carried out, or are about to be: what needs them waits, although none of their jobs may
        look open yet.
    bundle
        What the steps are to see of the pipeline's folder, where none of the campaign's stages was sealed before; else
        what those see.

    Raises
    ------
    PlanRefused
        Where what was published upstream cannot be planned with.
    """
    with site.database.reading() as session:
        row = campaigns.own_campaign(session, name)
        if (steering := of_row(row)).halts:
            return StageTurn(Turn.BLOCKED, reason=f"campaign {name!r} is {steering}")
        campaign = Campaign.model_validate(row.definition)
        described = campaign.pipeline.stage(stage)
        for needed in described.upstream:
            if needed in under_way:  # seen without counting: it is asked whenever a slice has ended
                return _waits(described, needed)
        held = held_back(described, {each.stage: each for each in campaigns.progress(session, row.id)})
        if held is not None:
            return held
        if has_news(session, row.id, stage, upstream=described.upstream):
            bundle = sealed_bundle(session, row.id) or bundle
            plan = plan_stage(session, campaign, stage, site.config, row.id, bundle)
        else:
            plan = None
    left_out: tuple[str, ...] = ()
    if plan is not None:
        given = memory.numbers(site.config.spool, name)

        def work(session: Session) -> Sealed:
            sealed = seal(session, row, plan, now=utc_now())
            attempts.number_from(session, row.id, given.stages)
            return sealed

        left_out = site.database.write(work).left_out
    with site.database.reading() as session:
        numbers = slice_numbers(session, row.id, stage)
    return StageTurn(Turn.READY, numbers, "; ".join(left_out))


def grow(site: Site, name: str) -> bool:
    """Give each stage its turn that has news, and say whether one has become possible, or has jobs that it had not.

    Raises
    ------
    PlanRefused
        As :func:`take_turn`.
    """
    with site.database.reading() as session:
        row = campaigns.own_campaign(session, name)
        if of_row(row).halts:
            return False
        stages = Campaign.model_validate(row.definition).pipeline.stages
        before = {each.stage: each for each in campaigns.progress(session, row.id)}
        news = [
            stage.name
            for stage in stages
            if (stage.upstream or before[stage.name].left_out)
            and has_news(session, row.id, stage.name, upstream=stage.upstream)
        ]
    ready = [stage for stage in news if take_turn(site, name, stage).turn is Turn.READY]
    if not ready:
        return False
    with site.database.reading() as session:
        after = {each.stage: each.total for each in campaigns.progress(session, row.id)}
    return any(not before[stage].revisions or after[stage] > before[stage].total for stage in ready)


def _waits(stage: Stage, upstream: str) -> StageTurn:
    return StageTurn(Turn.WAITING, reason=f"stage {stage.name!r} waits for stage {upstream!r}")


def held_back(stage: Stage, progress: Mapping[str, StageProgress]) -> StageTurn | None:
    """Say why it is not a stage's turn; None where it is."""
    for name in stage.upstream:
        before = progress[name]
        done = before.counts.get(JobState.DONE, 0)
        if not before.revisions or any(state in before.counts for state in campaigns.GOING_ON):
            return _waits(stage, name)
        least = {"all": before.total, "any": 1}.get(str(stage.when)) or int(stage.when)
        if done < least:
            return StageTurn(
                Turn.BLOCKED,
                reason=f"stage {stage.name!r} needs {least} jobs of stage {name!r} (when: {stage.when}),"
                f" {done} of {before.total} are done",
            )
    return None
