"""Jobs run again with other values, and from a step: told before, kept with the attempt."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from nightmill.backbone.schema import (
    AttemptRow,
    AuditRow,
    ExecutionRow,
    FileRow,
    InputUseRow,
    JobRow,
    PlannedInputRow,
    PlanRow,
    ReplicaRow,
    TakenRow,
)
from nightmill.backbone.work.slices import find_slice
from nightmill.clock import utc_now
from nightmill.config.campaign import load_campaign
from nightmill.errors import ConfigErrors, ExpressionError, RequestRefused, UnknownName
from nightmill.model.states import JobState
from nightmill.operations.audit import PARTS, Ground
from nightmill.operations.capsule import write_capsule
from nightmill.operations.edited import Folder
from nightmill.operations.foreseen import Foreseen
from nightmill.operations.rerun import rerun
from nightmill.operations.retain import retain
from nightmill.operations.site import Site
from nightmill.operations.steering import pause, resume
from nightmill.operations.submit import submit
from nightmill.operations.verify import verify
from nightmill.operations.wanted import Wanted, Which
from nightmill.planning.again import next_order
from nightmill.planning.issue import issue
from provenance.lineage import lineage_of
from tests.operations.nights import asked, names, opened, states, tries
from tests.operations.test_bundles import carry_out
from tests.support.observatory import stored


@pytest.mark.req("REQ-0048", "REQ-0049", "REQ-0008")
def test_jobs_run_again_from_a_step_with_other_values_and_take_what_was_made_before(
    night: Site, tmp_path: Path
) -> None:
    foreseen = asked(night, where="exposure == 1", from_step="end", settings=("parameters.sigma=4",))
    [(value, about)] = foreseen.values
    assert (value.key, value.before, value.after, value.origin, about) == (
        "parameters.sigma",
        3.0,
        4.0,
        "command line",
        1,
    )
    [restart] = foreseen.restarts.values()
    assert [file.name for file in restart.files] == ["first_0001_c0001a01.txt"]
    [order] = carry_out(night, "measure")
    assert (order.only, [taken.name for taken in order.taken]) == (("end",), ["first_0001_c0001a02.txt"])
    made = stored(night.config.directory)
    assert made["night1/measure/second_0001_c0001a02.txt"] == b"begun\n4.0\n"
    assert "night1/measure/first_0001_c0001a02.txt" not in made
    assert names(night, "first") == ["first_0001_c0001a01.txt", "first_0003_c0001a01.txt"], "it counts as before"
    assert tries(night)[-1] == "measure/exposure=1/a02"
    capsule = write_capsule(night, ("night1", "measure", "exposure=1"), tmp_path / "capsule")
    assert (capsule.order.only, capsule.order.taken, capsule.order.parameters) == (None, (), {"sigma": 4.0})
    capsule = write_capsule(night, ("night1", "measure", "exposure=1"), tmp_path / "first", number=1)
    assert capsule.order.parameters == {"sigma": 3.0}
    with night.database.reading() as session:
        assert session.scalars(select(TakenRow.attempt_id)).all() != []
        planned = select(PlannedInputRow.rule).where(PlannedInputRow.role == "first", PlannedInputRow.step == "end")
        assert session.scalars(planned).all() == ["made by attempt a01 of the job"]
        found = lineage_of(session, "second_0001_c0001a02.txt", "up")
        used = select(InputUseRow.opened).join(FileRow, FileRow.id == InputUseRow.file_id)
        used = used.join(ExecutionRow, ExecutionRow.id == InputUseRow.execution_id).join(AttemptRow)
        used = used.where(FileRow.name == "first_0001_c0001a01.txt", AttemptRow.number == 2)
        assert session.scalars(used).all() == [True]
        kept = [row.detail for row in session.scalars(select(AuditRow)) if "wanted" in row.detail]
    assert verify(night, "night1").wrong == []
    assert "first_0001_c0001a01.txt" in {file.name for file in found.files.values()}
    assert kept[-1]["wanted"] == {
        "which": "whole",
        "where": "exposure == 1",
        "settings": ["parameters.sigma=4"],
        "overrides": [],
        "from_step": "end",
    }
    assert kept[-1]["values"] == [["parameters.sigma", 3.0, 4.0]]
    carry_out(night, "sum")
    with night.database.reading() as session:
        detail = session.scalars(select(JobRow.detail).where(JobRow.stage == "sum", JobRow.unit == "exposure=1")).one()
    assert len(detail["inputs"]["first"][1]) == 1, "a stage after it finds what was taken"


def test_a_job_that_began_with_a_step_begins_there_again_where_it_fails_and_whole_where_it_is_done(
    night: Site, broken: Path
) -> None:
    broken.write_text("1\n")
    asked(night, where="exposure == 1", from_step="end")
    carry_out(night, "measure")
    broken.write_text("x\n")
    asked(night, where="exposure == 1", which=Which.FAILED)
    [order] = carry_out(night, "measure")
    assert (order.attempt.number, order.only) == (3, ("end",))
    asked(night, where="exposure == 1", from_step="end")
    [order] = carry_out(night, "measure")
    assert [(taken.name, Path(taken.path).name) for taken in order.taken] == [
        ("first_0001_c0001a04.txt", "first_0001_c0001a01.txt")
    ]
    asked(night, where="exposure == 1")
    [order] = carry_out(night, "measure")
    assert (order.only, order.taken) == (None, ())
    assert names(night, "first") == ["first_0001_c0001a05.txt", "first_0003_c0001a01.txt"]
    assert [each for each in tries(night) if "exposure=1" in each] == [
        f"measure/exposure=1/a{number:02d}" for number in range(1, 6)
    ]


STACK = """
pipeline: stack
version: "1"
stages:
  stack:
    per: [night]
    inputs: {frames: {type: raw_science, max: null}}
    steps:
      - name: stack
        argv: [sh, -c, 'echo "$#" > "$0"', "{outputs.last}", "{inputs.frames}"]
        inputs: [frames]
        outputs: {last: {to: none, produces: stack.txt}}
"""


@pytest.mark.req("B16")
def test_an_attempt_alone_leaves_files_out(night: Site, tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").write_text(STACK)
    (tmp_path / "night2.yaml").write_text("campaign: night2\npipeline: stack.yaml\n")
    submit(night, load_campaign(tmp_path / "night2.yaml"), who="ada")

    def again(**wanted: Any) -> Foreseen:
        wanted = {"which": Which.WHOLE, **wanted}
        return rerun(night, "night2", who="ada", wanted=Wanted(**wanted), folder=Folder.AS_SUBMITTED).foreseen

    def read() -> list[str]:
        [order] = carry_out(night, "stack", "night2")
        return [file.name for file in order.inputs]

    assert len(read()) == 3
    [told] = again(exclude=("exposure == 2",)).inputs.values()
    assert [(each.role, each.before.count("cam_"), each.after.count("cam_")) for each in told] == [("frames", 3, 2)]
    assert read() == ["cam_0001.fits", "cam_0003.fits"]
    again()
    assert read() == ["cam_0001.fits", "cam_0003.fits"], "what runs again as it is reads what the attempt before read"
    [told] = again(which=Which.STALE).inputs.values()
    assert len(read()) == 3, "the campaign excludes nothing"
    foreseen = again(exclude=("night > 0",))
    assert (foreseen.jobs, len(foreseen.gone)) == ((), 1)
    assert "exclude of the command line" in foreseen.gone[0]
    with pytest.raises(ExpressionError, match="did you mean 'exposure'"):
        again(exclude=("exposre == 2",))
    with pytest.raises(RequestRefused, match="jobs with other inputs begin with their first step") as refused:
        again(exclude=("exposure == 2",), from_step="stack")
    assert refused.value.remedy == "leave out --exclude, or the step"
    with night.database.reading() as session:
        kept = [row.detail["wanted"] for row in session.scalars(select(AuditRow)) if "wanted" in row.detail]
    assert kept[0]["exclude"] == ["exposure == 2"]


def test_what_cannot_be_taken_is_told_before_anything_is_done(night: Site) -> None:
    before = states(night)
    with pytest.raises(RequestRefused) as told:
        asked(night, from_failure=True)
    assert told.value.message == (
        "jobs cannot begin so: measure/exposure=2: first (first) of step 'begin' is not there: attempt a01 failed, and"
        " kept nothing of it (keep_on_failure of the stage)"
    )
    assert "begin with the step that makes it" in told.value.remedy
    with night.database.writing() as session:
        gone = select(FileRow.id).where(FileRow.name == "first_0001_c0001a01.txt")
        session.execute(update(ReplicaRow).where(ReplicaRow.file_id.in_(gone)).values(state="missing"))
    with pytest.raises(RequestRefused, match=r"no copy of first_0001_c0001a01\.txt is present at this site"):
        asked(night, where="exposure == 1", from_step="end")
    with pytest.raises(UnknownName, match="'finish'"):
        asked(night, from_step="finish")
    with pytest.raises(RequestRefused, match="step 'begin' is changed, and measure/exposure=3 begins after it"):
        asked(
            night,
            where="exposure == 3",
            from_step="end",
            settings=("pipeline.stages.measure.steps.begin.wall_seconds=9",),
        )
    with pytest.raises(RequestRefused, match="--stale"):
        asked(night, which=Which.STALE, from_step="end")
    assert states(night) == before


def test_an_intermediate_that_is_not_kept_cannot_be_taken(lite_site: Site, tmp_path: Path, broken: Path) -> None:
    with (
        opened(lite_site, tmp_path, broken, first_to="none") as night,
        pytest.raises(RequestRefused, match="first \\(first\\) of step 'begin' is not there: it is not kept"),
    ):
        asked(night, where="exposure == 1", from_step="end")


@pytest.mark.req("REQ-0047")
@pytest.mark.parametrize("first_to", ["backbone", "none"])
def test_a_failed_job_goes_on_where_it_failed_with_what_was_kept_for_that(
    site: Site, tmp_path: Path, broken: Path, first_to: str
) -> None:
    with opened(site, tmp_path, broken, first_to=first_to, keep=True) as night:
        held = "night1/measure/first_0002_c0001a01.txt"
        assert stored(night.config.directory)[held] == b"begun\n"
        assert "first_0002_c0001a01.txt" not in names(night, "first"), "nobody selects it"
        broken.write_text("x\n")
        asked(night, from_failure=True)
        later = utc_now() + timedelta(days=40)
        wanted = retain(night, now=later, who="ada")
        assert (wanted.held, wanted.held_left) == (0, 1), "it is about to be taken"
        [order] = carry_out(night, "measure")
        assert (order.only, [Path(taken.path).name for taken in order.taken]) == (("end",), ["first_0002_c0001a01.txt"])
        assert stored(night.config.directory)["night1/measure/second_0002_c0001a02.txt"] == b"begun\n3.0\n"
        assert "first_0002_c0001a01.txt" in names(night, "first"), "it is of the result now"
        assert [str(each) for part in PARTS.values() for each in part(Ground(night))] == []
        taken = retain(night, now=later, who="ada")
        assert (taken.held, taken.held_left) == (0, 0)
        assert held in stored(night.config.directory), "a result has taken it"


def test_what_nobody_took_is_removed_after_a_while_and_is_told_to_be_gone(
    site: Site, tmp_path: Path, broken: Path
) -> None:
    with opened(site, tmp_path, broken, keep=True) as night:
        told = retain(night, now=utc_now(), who="ada", dry_run=True)
        assert (told.held, told.held_left, told.held_bytes) == (0, 1, len(b"begun\n"))
        assert told.held_until is not None
        assert timedelta(days=29) < told.held_until - utc_now() < timedelta(days=30)
        later = utc_now() + timedelta(days=31)
        assert [retain(night, now=later, who="ada", dry_run=dry).held for dry in (True, False)] == [1, 1]
        assert "night1/measure/first_0002_c0001a01.txt" not in stored(night.config.directory)
        with pytest.raises(RequestRefused, match=r"no copy of first_0002_c0001a01\.txt is present at this site"):
            asked(night, from_failure=True)
        assert [str(each) for part in PARTS.values() for each in part(Ground(night))] == []
        gone = retain(night, now=later, who="ada")
        assert (gone.held, gone.held_left, gone.held_bytes, gone.held_until) == (0, 0, 0, None)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("parameters.sigme=4", "the pipeline has no parameter 'sigme' (did you mean 'sigma'?)"),
        ("execution.threads=1", "execution.threads cannot be changed for jobs that are planned"),
        ("execution.level=closely", "execution.level is 'closely'"),
        ("where=exposure == 1", "where cannot be changed for jobs that are planned"),
        ("pipeline.stages.measure.per=[night]", "stages.measure.per cannot be changed for jobs that are planned"),
        ("pipeline.stages.measure.steps.finish.wall_seconds=3", "the pipeline has no step 'finish' to override"),
        ("inputs.frame.where=night == 1", "stages.measure.inputs.frame.where cannot be changed"),
        ("parameters.sigma=much", "parameters.sigma is 'much' and should be a number"),
    ],
)
def test_what_cannot_be_set_is_refused_with_what_can_be(night: Site, setting: str, message: str) -> None:
    with pytest.raises(ConfigErrors) as told:
        asked(night, settings=(setting,))
    assert message in str(told.value)
    assert states(night)["exposure=2"] == "failed"


def test_jobs_that_are_planned_are_audited_where_somebody_wants_it(night: Site) -> None:
    foreseen = asked(night, where="exposure == 1", settings=("execution.level=audit",))
    [(value, about)] = foreseen.values
    assert (value.key, value.before, value.after, about) == ("execution.level", "standard", "audit", 1)
    with night.database.reading() as session:
        order = next_order(session, "night1", "measure", "exposure=1")
        other = next_order(session, "night1", "measure", "exposure=3")
    assert (order.level, other.level) == ("audit", "standard")
    assert '"level":' not in other.model_dump_json(exclude_defaults=True, exclude={"inputs"})
    asked(night, where="exposure == 1", settings=("parameters.sigma=4",))
    with night.database.reading() as session:
        assert next_order(session, "night1", "measure", "exposure=1").level == "audit", "another change leaves it"


@pytest.mark.req("REQ-0049", "REQ-0046")
def test_resources_and_a_file_of_changes_are_a_revision_that_old_attempts_know_nothing_of(
    night: Site, tmp_path: Path, broken: Path
) -> None:
    more = tmp_path / "more.yaml"
    more.write_text(
        "why: it needs more\nparameters: {sigma: 5}\n"
        "overrides: {stages: {measure: {resources: {memory_bytes: 1000000}}}}\n"
    )
    broken.write_text("x\n")
    foreseen = asked(night, overrides=(more,), settings=("parameters.sigma=6",))
    assert [(each.key, each.before, each.after, each.origin.partition(" (")[0]) for each, _ in foreseen.values] == [
        ("parameters.sigma", 3.0, 6.0, "command line"),
        ("stages.measure.resources.memory_bytes", None, 1000000, "override"),
    ]
    [order] = carry_out(night, "measure")
    assert (order.resources.memory_bytes, order.parameters) == (1000000, {"sigma": 6.0})
    assert "measure/exposure=2/a02" in tries(night), "those before are had again to the byte"
    asked(night, where="exposure == 2", settings=("pipeline.stages.measure.steps.end.wall_seconds=7",))
    [order] = carry_out(night, "measure")
    assert (order.steps[1].wall_seconds, order.parameters) == (7, {"sigma": 6.0}), "what was changed before stays"
    with night.database.reading() as session:
        revisions = session.scalars(select(PlanRow.revision).where(PlanRow.stage == "measure").order_by(PlanRow.id))
        assert revisions.all() == [1, 2, 3]


@pytest.mark.req("REQ-0022", "REQ-0021", "X24")
def test_a_paused_campaign_gets_other_resources_and_goes_on_with_them(night: Site, tmp_path: Path) -> None:
    (tmp_path / "night2.yaml").write_text("campaign: night2\npipeline: pipeline.yaml\n")
    submit(night, load_campaign(tmp_path / "night2.yaml"), who="ada")
    with night.database.reading() as session:
        slice_id = find_slice(session, "night2", "measure", 0).slice_id

    def issued(limit: int) -> list[tuple[str, int | None]]:
        with night.database.writing() as session:
            orders = issue(session, slice_id=slice_id, lease_id=None, now=utc_now(), limit=limit)
        return [(order.attempt.unit, order.resources.memory_bytes) for order in orders]

    assert issued(1) == [("exposure=1", None)]
    pause(night, "night2", why="memory is short", who="ada")
    more = Wanted(which=Which.WHOLE, settings=("pipeline.stages.measure.resources.memory_bytes=1000000",))
    begun = rerun(night, "night2", who="ada", wanted=more, folder=Folder.AS_SUBMITTED)
    assert [(job.unit, job.state) for job in begun.foreseen.jobs] == [
        ("exposure=2", JobState.PLANNED),
        ("exposure=3", JobState.PLANNED),
    ], "the one that runs is left alone"
    assert (begun.foreseen.others.go_on, begun.paused) == (1, "paused by ada: memory is short")
    resume(night, "night2", why="there is more", who="ada")
    assert issued(9) == [("exposure=2", 1000000), ("exposure=3", 1000000)]
