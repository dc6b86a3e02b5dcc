"""Exclusions for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from nightmill.backbone.catalogue.exclusions import Exclusion
from nightmill.cli.documents import exclusions as documents
from nightmill.cli.documents import told
from nightmill.cli.render.output import echo, print_json, print_table, some
from nightmill.model.states import JobState
from nightmill.operations.exclusions import Effect
from nightmill.planning.compare import Change, Comparison, compare
from nightmill.planning.digest import text_of
from nightmill.planning.planned import CampaignPlan
from nightmill.planning.problems import counted

MOST: Final = 1_000
"""Units of each kind that a program is told."""
SHOWN: Final = 10
"""Jobs and units that people are shown before the rest is only counted."""
COLUMNS: Final = ("number", "campaign", "rule", "types", "part", "up to", "until", "who", "at", "why", "ticket")


def show_exclusions(found: Sequence[Exclusion], *, as_json: bool) -> None:
    """Print exclusions."""
    if as_json:
        print_json([_told(each) for each in found])
        return
    lifted = any(each.lifted_at for each in found)
    print_table(
        (*COLUMNS, "lifted") if lifted else COLUMNS,
        (
            (
                each.number, each.campaign or "every one", each.written, ",".join(each.types), each.part, each.up_to,
                each.expires_at, each.who, each.at, each.why, each.ticket,
                *((_lifted(each),) if lifted else ()),
            )
            for each in found
        ),
    )  # fmt: skip


def show_effect(effect: Effect, plans: tuple[CampaignPlan, CampaignPlan] | None = None, *, as_json: bool) -> None:
    """Print what an exclusion is about.

    Parameters
    ----------
    plans
        The plan of a campaign as things are, and with the exclusion.
    """
    changes = _differences(compare(*map(text_of, plans))) if plans else []
    problems = plans[1].problems if plans else ()
    if as_json:
        print_json(told(documents.Effect, effect, exclusion=_told(effect.exclusion), problems=problems, stages=changes))
        return
    exclusion, counted = effect.exclusion, ", ".join(f"{count:,} {type_}" for type_, count in effect.files.items())
    begins = f"exclusion {exclusion.number}: " if exclusion.number else "would exclude: "
    part = f"part {exclusion.part} of " if exclusion.part else ""
    echo(f"{begins}{part}{exclusion.written}: {counted or 'no file that is there now'}")
    _show_jobs(effect)
    if plans is not None:
        _show_changes(plans[1].campaign.name, changes, problems)
    if not exclusion.number:
        echo("nothing was done")


def _show_jobs(effect: Effect) -> None:
    """Print which jobs read what is excluded, and what to do."""
    if not effect.jobs:
        return
    active = [each.job for each in effect.jobs if each.state is JobState.ACTIVE]
    others = [each.job for each in effect.jobs if each.state is not JobState.ACTIVE]
    if active:
        going = "is under way" if len(active) == 1 else "are under way"
        echo(f"{counted(len(active), 'job')} read it and {going}, and will end with it: {some(active, SHOWN)}")
    if others:
        done = "is held" if len(others) == 1 else "are held"
        echo(f"{counted(len(others), 'job')} planned to read it {done} when the turn comes: {some(others, SHOWN)}")
        campaigns = Counter(job.partition("/")[0] for job in others)
        for campaign in campaigns:
            echo(f"to go on without it, submit {campaign} under a new name; to go on with it, lift and rerun")


def _differences(comparison: Comparison) -> list[documents.StageDifference]:
    """Return how stages differ of which units are left out, or read other files."""
    found = []
    for stage in comparison.stages:
        if not stage.counts:
            continue
        units: dict[Change, dict[str, None]] = {Change.DROPPED: {}, Change.INPUT: {}}
        for each in comparison.changes(stage.stage):
            if each.change in units and len(units[each.change]) < MOST:
                units[each.change][each.unit] = None
        found.append(
            documents.StageDifference(
                stage=stage.stage,
                before=stage.before or 0,
                after=stage.after or 0,
                without=tuple(units[Change.DROPPED]),
                changed=tuple(units[Change.INPUT]),
            )
        )
    return found


def _show_changes(campaign: str, changes: Sequence[documents.StageDifference], problems: Sequence[str]) -> None:
    if not changes and not problems:
        echo(f"the plan of {campaign} stays as it is")
    for each in changes:
        echo(f"plan of {campaign}, stage {each.stage}: {each.before:,} units now, {each.after:,} then")
        if each.without:
            echo(f"  without: {some(each.without, SHOWN)}")
        if each.changed:
            echo(f"  other inputs: {some(each.changed, SHOWN)}")
    for problem in problems:
        echo(f"the plan could not be carried out then: {problem}")


def _told(exclusion: Exclusion) -> documents.Exclusion:
    return told(documents.Exclusion, exclusion, rule=exclusion.written)


def _lifted(exclusion: Exclusion) -> str:
    if exclusion.lifted_at is None:
        return ""
    return f"{exclusion.lifted_at:%Y-%m-%d %H:%M} by {exclusion.lifted_by}: {exclusion.lifted_why}"
