"""Plans for people and for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, TextIO

from nightmill.cli.documents import plans as documents
from nightmill.cli.documents import told
from nightmill.cli.documents.plans import Plan, PlannedFile, PlannedInput, PlannedOutput, PlannedStage, SaidValue
from nightmill.cli.documents.units import LeftOutUnit
from nightmill.cli.render.output import echo, json_line, print_json, print_table, secho
from nightmill.config.explain import Said
from nightmill.config.rules import NOWHERE
from nightmill.model.found_file import FoundFile
from nightmill.operations.costs import PlanCost
from nightmill.operations.saved_plans import shown
from nightmill.planning.digest import PlanLines
from nightmill.planning.outputs import Claim, claims
from nightmill.planning.planned import CampaignPlan, StagePlan
from nightmill.planning.problems import counted
from nightmill.planning.sealed import PlannedJob, StageView

COLUMNS: Final = ("unit", "", "role", "file", "why, or where to")
FILES: Final = 3
"""Files of an input that people are shown before the rest is only counted."""


def print_plan(plan: CampaignPlan, limit: int, text: PlanLines, cost: PlanCost) -> None:
    """Print a plan for people.

    Parameters
    ----------
    limit
        Units to show of each stage; 0 for all of them, with every file that they read.
    text, cost
        Of the plan.
    """
    pipeline = plan.campaign.pipeline
    if plan.as_of is not None:
        echo(f"as of {plan.as_of:%Y-%m-%d %H:%M:%S} UTC: what the catalogue knew then")
        echo("not known of then, and taken as it is now: the campaign's file, its pipeline, the site's configuration")
        echo("not known of then, and not asked: whether there were copies of the files\n")
    echo(f"campaign {plan.campaign.name}, number {plan.number}: pipeline {pipeline.name} {pipeline.version}")
    for stage in plan.stages:
        if stage.known_after:
            secho(f"\nstage {stage.stage.name}: units known when stage {stage.known_after} has ended", bold=True)
            continue
        source = "projected from the stages before it" if stage.projected else "from what is there"
        secho(f"\nstage {stage.stage.name}: {counted(len(stage.jobs), 'unit')}, {source}", bold=True)
        first = islice(stage.jobs, limit or None)
        print_table(COLUMNS, (row for job in first for row in _rows(stage, job, FILES if limit else None)))
        if 0 < limit < len(stage.jobs):
            echo(f"... and {counted(len(stage.jobs) - limit, 'more unit')}: --limit 0 shows all")
        for sentence in (*_variants(stage), *stage.excluded, *stage.lacking, *stage.waiting):
            echo(sentence)
    known = [stage for stage in plan.stages if not stage.known_after]
    total = sum(len(stage.jobs) for stage in known)
    later = len(plan.stages) - len(known)
    more = f", and those of {counted(later, 'stage')} that are known later" if later else ""
    echo(f"\n{counted(total, 'job')} in {counted(len(known), 'stage')}{more}; nothing was done")
    echo(f"digest {shown(text.digest)}{_covered(text.later)}")
    echo(_cost(cost))
    for each in plan.to_ship:
        size = f"{each.size_bytes / 1e6:,.1f} MB"
        echo(f"to be shipped: {counted(each.files, 'file')}, {size}, from {each.store} into {each.into}")


def print_explained(said: Sequence[Said], as_json: bool) -> None:
    """Print what the layers of a configuration say of keys; a star marks what counts."""
    if as_json:
        print_json([told(SaidValue, each) for each in said])
        return
    rows = ((each.key, "*" if each.counts else "", json.dumps(each.value), each.layer) for each in said)
    print_table(("key", "counts", "value", "said by"), rows)


def write_plan(plan: CampaignPlan, out: TextIO, text: PlanLines | None, cost: PlanCost) -> None:
    """Write a plan as one JSON object, a line a job; the jobs are not held in memory as JSON.

    Parameters
    ----------
    text, cost
        Of the plan; one with problems has no text.
    """
    pipeline = plan.campaign.pipeline
    head = told(
        Plan,
        plan,
        campaign=plan.campaign.name,
        pipeline=pipeline.name,
        pipeline_version=pipeline.version,
        digest=text.digest if text else None,
        later=text.later if text else (),
        cost=cost,
        stages=(),
    )
    out.write(json_line(head).removesuffix("]}"))
    for number, stage in enumerate(plan.stages):
        left_out = [told(LeftOutUnit, unit, stage=stage.stage.name) for unit in stage.left_out]
        about = told(PlannedStage, stage, stage=stage.stage.name, left_out=left_out, jobs=())
        out.write(f"{',' if number else ''}\n{json_line(about).removesuffix(']}')}")
        out.writelines(
            f"{',' if place else ''}\n{json_line(_described(stage, job))}" for place, job in enumerate(stage.jobs)
        )
        out.write("]}")
    out.write("]}\n")


def _rows(stage: StageView, job: PlannedJob, most: int | None) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield a line a file, at most so many an input; where a terminal watches, the unit stands in the first alone."""
    unit = job.unit
    for role, whence, _origin, files, _level in stage.inputs(job):
        rule = whence
        for file in islice(files, most):
            yield unit, "reads", role, _without(file), rule
            unit, rule = _again(unit), _again(rule)
        if most is not None and len(files) > most:
            yield unit, "reads", role, f"... and {len(files) - most} more", rule
    for claim in claims(stage.common, job.data_id):
        yield unit, "makes", claim.role, claim.name, _destination(claim)
        unit = _again(unit)


def _covered(later: Sequence[str]) -> str:
    """Say of which stages a digest does not cover all that they will do."""
    if not later:
        return ""
    return f"; of {', '.join(later)}, planned later, it covers the rules and what is foreseen now"


def _cost(cost: PlanCost) -> str:
    known = [stage for stage in cost.stages if stage.cpu_seconds is not None]
    told = [f"{_time(sum(stage.cpu_seconds or 0 for stage in known))} of CPU"] if known else []
    if cost.wall_seconds is not None and cost.ends_at is not None:
        told.append(
            f"{_time(cost.wall_seconds)} on this host alone, until {cost.ends_at:%Y-%m-%d %H:%M} UTC if it began now"
        )
    if cost.unknown:
        told.append(f"unknown for {', '.join(cost.unknown)}")
    return f"expected cost: {'; '.join(told)}"


def _time(seconds: float) -> str:
    """Write a time in the unit that fits it."""
    if seconds < 60:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _variants(stage: StagePlan) -> Iterator[str]:
    """Yield a sentence for each of the units of which something else is said."""
    common = stage.common
    for variant in common.variants:
        own = [f"{name}={value}" for name, value in variant.parameters.items() if value != common.parameters[name]]
        own += ["inputs or steps of their own"] if variant.stage != common.stage else []
        why = f" ({variant.why})" if variant.why else ""
        yield f"units {variant.units}: {counted(stage.variants.get(variant.units, 0), 'unit')}, {', '.join(own)}{why}"


def _without(file: FoundFile) -> str:
    return f"{file.name} without {', '.join(file.excluded)}" if file.excluded else file.name


def _again(text: str) -> str:
    return "" if sys.stdout.isatty() else text


def _described(stage: StageView, job: PlannedJob) -> documents.PlannedJob:
    return told(
        documents.PlannedJob,
        job,
        data_id=dict(job.data_id),
        inputs={
            role: PlannedInput(
                rule=rule,
                level=level,
                origin=origin,
                files=[
                    PlannedFile(name=file.name, id=file.id if file.id > 0 else None, excluded=file.excluded)
                    for file in files
                ],
            )
            for role, rule, origin, files, level in stage.inputs(job)
        },
        units=stage.common.variants[job.variant - 1].units if job.variant else "",
        outputs=[told(PlannedOutput, claim, to=_destination(claim)) for claim in claims(stage.common, job.data_id)],
    )


def _destination(claim: Claim) -> str:
    return "known, not kept" if claim.to == NOWHERE else claim.to
