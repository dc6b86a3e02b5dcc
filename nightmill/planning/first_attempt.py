"""What the first attempt at a planned job needs before the job fits: names, texts, a validity range."""

from __future__ import annotations

from nightmill.errors import BadName, BadText
from nightmill.model.pipeline import Stage
from nightmill.planning.orders import fill_texts
from nightmill.planning.outputs import claims
from nightmill.planning.problems import Problems
from nightmill.planning.sealed import PlannedJob, StageCommon


def first_names(common: StageCommon, job: PlannedJob, problems: Problems) -> list[str]:
    """Return every name of a job's first attempt; none where it cannot be, which is reported."""
    try:
        names = [claim.name for claim in claims(common, job.data_id)]
    except BadName as error:
        problems.add(f"stage {common.stage.name!r}", str(error), job.unit)
        return []
    return names if _has_validity(common.stage, job, problems) else []


def lacks_text(common: StageCommon, job: PlannedJob, problems: Problems) -> bool:
    """Say whether a text of a job's steps cannot be filled in, which is reported.

    Of files that are yet to be made it is not known: they are asked when the stage is planned in its turn.
    """
    if any(file.id < 0 for choice in job.choices for file in choice.files):
        return False
    try:
        fill_texts(common, job)
    except BadText as error:
        problems.add(f"stage {common.stage.name!r}", str(error), job.unit)
        return True
    return False


def _has_validity(stage: Stage, job: PlannedJob, problems: Problems) -> bool:
    """Say whether a job's outputs that become calibrations can be given a validity range; report those that cannot."""
    if job.begins_at is not None and job.ends_at is not None:
        return True
    made = [role for step in stage.steps for role, output in step.outputs.items() if output.calibration is not None]
    for role in made:
        reason = f"output {role!r} becomes a calibration, and the unit's files tell no times for its validity"
        problems.add(f"stage {stage.name!r}", reason, job.unit)
    return not made
