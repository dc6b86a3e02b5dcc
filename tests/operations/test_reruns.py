"""Jobs run again: exactly those that are chosen, with the inputs they had or would have now; one result a unit."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from nightmill.backbone.catalogue.exclusions import NewExclusion
from nightmill.backbone.catalogue.files import selectable
from nightmill.backbone.schema import AttemptRow, FileRow, JobRow
from nightmill.clock import utc_now
from nightmill.errors import ExpressionError, NightmillError, UnknownName
from nightmill.model.fate import Fate
from nightmill.model.order import JobOrder
from nightmill.model.states import AttemptState, Hold, JobState
from nightmill.operations.audit import PARTS, Ground
from nightmill.operations.edited import Folder
from nightmill.operations.exclusions import exclude, rule
from nightmill.operations.find import find
from nightmill.operations.foreseen import Foreseen
from nightmill.operations.rerun import rerun
from nightmill.operations.site import Site
from nightmill.operations.wanted import Wanted, Which
from nightmill.planning.again import issued_order
from nightmill.planning.issue import issue
from provenance.history import job_history
from provenance.record import record
from provenance.reports import report_of
from tests.operations.nights import asked, count, names, opened, states, tries, units
from tests.operations.test_bundles import carry_out
from tests.support.observatory import stored


def test_by_default_exactly_what_failed_runs_again(night: Site, broken: Path) -> None:
    broken.write_text("x\n")
    foreseen = rerun(night, "night1", who="ada", folder=Folder.AS_SUBMITTED).foreseen
    assert units(foreseen) == ["measure/exposure=2"]
    assert [str(order.attempt.unit) for order in carry_out(night, "measure")] == ["exposure=2"]
    assert set(states(night).values()) == {"done"}


@pytest.mark.req("X24")
def test_a_failed_job_that_nobody_chose_is_passed_over_until_somebody_does(night: Site, broken: Path) -> None:
    foreseen = asked(night, where="exposure == 1")
    assert units(foreseen) == ["measure/exposure=1"]
    assert (foreseen.others.passed_over, foreseen.others.go_on) == (1, 0)
    broken.write_text("x\n")
    assert [order.attempt.unit for order in carry_out(night, "measure")] == ["exposure=1"]
    assert states(night)["exposure=2"] == "failed"
    assert units(asked(night)) == ["measure/exposure=2"]
    assert [order.attempt.unit for order in carry_out(night, "measure")] == ["exposure=2"]


@pytest.mark.req("X24")
def test_a_rerun_of_a_thousand_jobs_starts_the_three_that_failed(site: Site, tmp_path: Path, broken: Path) -> None:
    broken.write_text("x\n")
    with opened(site, tmp_path, broken, count=1) as night:
        with night.database.writing() as session:
            job = session.scalars(select(JobRow)).one()
            copied = {
                column.name: getattr(job, column.name) for column in JobRow.__table__.columns if column.name != "id"
            }
            session.execute(insert(JobRow), [{**copied, "unit": f"exposure={place}"} for place in range(2, 1001)])
            failed = [f"exposure={place}" for place in (7, 500, 999)]
            session.execute(update(JobRow).where(JobRow.unit.in_(failed)).values(state="failed"))
        before = count(night)
        shown = rerun(night, "night1", who="ada", dry_run=True).foreseen
        assert count(night) == before
        assert sorted(job.unit for job in shown.jobs) == sorted(failed)
        rerun(night, "night1", who="ada")
        with night.database.reading() as session:
            [slice_id] = session.scalars(select(JobRow.slice_id).distinct())
        with night.database.writing() as session:
            orders = issue(session, slice_id=slice_id, lease_id=None, now=utc_now(), limit=2000)
        assert sorted(order.attempt.unit for order in orders) == sorted(failed)
        assert count(night) == before + 3


@pytest.mark.req("DBB-0033", "B18")
def test_a_done_job_keeps_its_result_until_the_new_attempt_publishes(night: Site, broken: Path) -> None:
    carry_out(night, "sum")
    foreseen = asked(night, where="exposure == 1", stage="measure")
    assert foreseen.stale == ("night1/sum/exposure=1",)
    assert names(night, "second") == ["second_0001_c0001a01.txt", "second_0003_c0001a01.txt"]
    carry_out(night, "measure")
    assert names(night, "second") == ["second_0001_c0001a02.txt", "second_0003_c0001a01.txt"]
    with night.database.reading() as session:
        results = session.execute(
            select(AttemptRow.number, AttemptRow.state, AttemptRow.result).order_by(AttemptRow.id)
        )
        assert [row for row in results.tuples() if row[0] == 2] == [(2, "published", True)]
        every = {each.row.name for each in find(night, types=["second"], everything=True)}
    assert "second_0001_c0001a01.txt" in every, "it stays findable"
    carry_out(night, "sum")
    with night.database.reading() as session:
        stale = session.scalars(select(JobRow.unit).where(JobRow.stale)).all()
    assert stale == ["exposure=1"], "what read the old result is stale"


@pytest.mark.req("DBB-0033")
def test_where_the_new_attempt_fails_the_old_result_stays_and_the_job_says_so(night: Site, broken: Path) -> None:
    broken.write_text("1\n")
    asked(night, where="exposure == 1")
    carry_out(night, "measure")
    assert states(night)["exposure=1"] == "failed"
    assert "second_0001_c0001a01.txt" in names(night, "second")
    assert [str(each) for part in PARTS.values() for each in part(Ground(night))] == []
    broken.write_text("x\n")
    asked(night, where="exposure == 1")
    carry_out(night, "measure")
    assert "second_0001_c0001a03.txt" in names(night, "second")
    assert "second_0001_c0001a01.txt" not in names(night, "second")


@pytest.mark.req("F15")
def test_stale_jobs_get_the_inputs_that_they_would_have_now(night: Site, broken: Path) -> None:
    carry_out(night, "sum")
    asked(night, where="exposure == 1", stage="measure", settings=("parameters.sigma=9",))
    carry_out(night, "measure")
    carry_out(night, "sum")
    foreseen = asked(night, which=Which.STALE)
    assert units(foreseen) == ["sum/exposure=1"]
    [told] = foreseen.inputs.values()
    assert [(each.role, each.before.partition(" ")[0], each.after.partition(" ")[0]) for each in told] == [
        ("second", "second_0001_c0001a01.txt", "second_0001_c0001a02.txt"),
        ("first", "first_0001_c0001a01.txt", "first_0001_c0001a02.txt"),
    ]
    carry_out(night, "sum")
    assert stored(night.config.directory)["night1/sum/last_0001_c0001a02.txt"] == b"begun\n9.0\n"
    with night.database.reading() as session:
        assert session.scalars(select(JobRow.unit).where(JobRow.stale)).all() == []
    assert "sum/exposure=1/a02" in tries(night), "and the attempt before is had again to the byte"
    assert asked(night, which=Which.STALE).jobs == ()


@pytest.mark.req("F15")
def test_what_reads_the_result_runs_again_after_it_with_what_it_makes(night: Site, broken: Path) -> None:
    carry_out(night, "sum")
    foreseen = asked(
        night, where="exposure in [1, 3]", stage="measure", settings=("parameters.sigma=9",), downstream=True
    )
    assert (list(foreseen.downstream.values()), foreseen.stale) == (
        ["night1/sum/exposure=1", "night1/sum/exposure=3"],
        (),
    )
    with night.database.reading() as session:
        slices = session.scalars(select(JobRow.slice_id).where(JobRow.stage == "sum").distinct()).all()
    with night.database.writing() as session:
        early = [issue(session, slice_id=each, lease_id=None, now=utc_now(), limit=9) for each in slices]
    assert early == [[]], "not before what they read is there"
    broken.write_text("3\n")
    carry_out(night, "measure")
    assert [order.attempt.unit for order in carry_out(night, "sum")] == ["exposure=1"], (
        "the other's result is as it was"
    )
    assert stored(night.config.directory)["night1/sum/last_0001_c0001a02.txt"] == b"begun\n9.0\n"
    assert states(night, "sum") == {"exposure=1": "done", "exposure=3": "done"}
    assert "sum/exposure=1/a02" in tries(night)
    assert asked(night, which=Which.STALE).jobs == ()


def test_a_whole_campaign_runs_again_stage_by_stage_with_what_the_first_makes(night: Site, broken: Path) -> None:
    carry_out(night, "sum")
    broken.write_text("x\n")
    foreseen = asked(night, which=Which.WHOLE, settings=("parameters.sigma=9",))
    assert (len(foreseen.jobs), len(foreseen.renewed)) == (5, 2)
    assert len(carry_out(night, "measure")) == 3
    assert len(carry_out(night, "sum")) == 3
    made = stored(night.config.directory)
    assert [
        made[f"night1/sum/last_000{exposure}_c0001a0{number}.txt"] for exposure, number in ((1, 2), (2, 1), (3, 2))
    ] == [b"begun\n9.0\n"] * 3
    assert set(states(night, "sum").values()) == {"done"}


def test_jobs_that_exclusions_hold_get_other_inputs_or_are_told_to_be_gone(night: Site) -> None:
    expression, written = rule(files=(), exposure=2, detector=None, night=None, where="")
    exclude(night, NewExclusion(expression=expression, written=written), who="ada", why="clouds", files=())
    rerun(night, "night1", who="ada", folder=Folder.AS_SUBMITTED)
    carry_out(night, "measure")
    assert states(night)["exposure=2"] == "held"
    foreseen = asked(night, which=Which.STALE)
    assert foreseen.jobs == ()
    [gone] = foreseen.gone
    assert gone.startswith("measure/exposure=2: it reads what exclusion 1 by ada excludes: clouds")
    assert states(night)["exposure=2"] == "held"


def test_what_a_person_holds_waits_for_its_release(night: Site) -> None:
    with night.database.writing() as session:
        session.execute(
            update(JobRow).where(JobRow.unit == "exposure=3").values(state="held", held_by=Hold.OPERATOR.value)
        )
    foreseen = asked(night, which=Which.WHOLE, stage="measure")
    assert units(foreseen) == ["measure/exposure=1", "measure/exposure=2"]
    assert foreseen.others.wait == 1


def test_two_reruns_at_once_start_a_job_once(night: Site) -> None:
    told: list[NightmillError] = []
    shown = threading.Barrier(2)

    def wait(_foreseen: Foreseen) -> None:
        shown.wait(30)

    def go() -> None:
        try:
            rerun(
                night,
                "night1",
                who="ada",
                wanted=Wanted(which=Which.WHOLE, where="exposure == 1"),
                folder=Folder.AS_SUBMITTED,
                show=wait,
            )
        except NightmillError as error:
            told.append(error)

    threads = [threading.Thread(target=go) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [refused] = told
    assert refused.message == "1 of 1 jobs that were to run again are not done any more"
    orders: list[JobOrder] = carry_out(night, "measure")
    assert [order.attempt.unit for order in orders].count("exposure=1") == 1


def test_a_late_report_of_an_earlier_attempt_does_not_take_the_place_of_a_newer_result(night: Site) -> None:
    with night.database.reading() as session:
        [job_id] = session.scalars(select(JobRow.id).where(JobRow.unit == "exposure=1", JobRow.stage == "measure"))
    asked(night, where="exposure == 1")
    carry_out(night, "measure")
    with night.database.writing() as session:
        # as if the first had been given up, and its journal came while the job runs a third time
        first = (AttemptRow.job_id == job_id) & (AttemptRow.number == 1)
        session.execute(update(AttemptRow).where(first).values(state="lost", result=False, fate="lost"))
    asked(night, where="exposure == 1")
    with night.database.reading() as session:
        order = issued_order(session, "night1", "measure", "exposure=1", number=1)
        shown = job_history(session, "night1", "measure", "exposure=1", number=1).shown
        assert shown is not None
        report = report_of(session, shown, order)
    late = report.model_copy(
        update={"state": AttemptState.PUBLISHED, "fate": Fate.PUBLISHED, "published": (), "made": ()}
    )
    with night.database.writing() as session:
        assert record(session, [late], {}, now=utc_now()).superseded == [late.attempt]
    assert "second_0001_c0001a02.txt" in names(night, "second")


def test_expressions_ask_for_keys_of_units_and_misspelt_ones_are_told(night: Site) -> None:
    assert units(asked(night, where="exposure in [2, 3]", which=Which.FAILED)) == ["measure/exposure=2"]
    with pytest.raises(ExpressionError):
        asked(night, where="exposre == 2")
    with pytest.raises(UnknownName, match="mesure"):
        asked(night, stage="mesure")
    assert asked(night, where="exposure == 77").jobs == ()
    assert JobState.DONE in states(night).values()


def test_as_of_then_the_result_of_then_counts(night: Site) -> None:
    def inputs(as_of: datetime | None) -> list[str]:
        with night.database.reading() as session:
            counted = selectable(as_of) & (FileRow.type == "second")
            made = select(FileRow.name).outerjoin(AttemptRow, FileRow.attempt_id == AttemptRow.id).where(counted)
            return sorted(session.scalars(made))

    then = utc_now()
    before = inputs(None)
    assert "second_0001_c0001a01.txt" in before
    asked(night, where="exposure == 1")
    carry_out(night, "measure")
    assert "second_0001_c0001a01.txt" not in inputs(None)
    assert "second_0001_c0001a02.txt" in inputs(None)
    assert inputs(then) == before
    assert inputs(utc_now()) == inputs(None)
