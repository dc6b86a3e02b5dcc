"""What steps opened and told, on record: planned, opened and contributed are three facts."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, select

from nightmill.backbone.database import Database
from nightmill.backbone.schema import (
    AttemptRow,
    DerivationRow,
    DifferenceRow,
    ExecutionRow,
    FileRow,
    GenerationRow,
    PlannedInputRow,
)
from nightmill.model.journal import StepEnded, StepObserved
from nightmill.model.observed import (
    Confined,
    Consequence,
    DependsOn,
    Difference,
    DifferenceKind,
    Eliminated,
    Level,
    Observation,
)
from nightmill.model.relations import Relation
from provenance.history import job_history
from provenance.lineage import lineage_of
from provenance.reports import report_of
from tests.provenance.jobs import issued, tell
from tests.provenance.observing import CHOOSY, CLOUDY, carry_out, inputs_of, observing, stacked, uses
from tests.provenance.test_lineage import through_files_off_record
from tests.support.backbone import dump
from tests.support.orders import Bench, output, shell


@pytest.mark.req("B45", "B46", "B47")
def test_planned_opened_and_contributed_are_separate_facts_of_files_by_name(database: Database, bench: Bench) -> None:
    carry_out(database, bench, stacked(bench), stack=CHOOSY)
    assert uses(database) == {
        ("stack", "f1.fits"): (True, True, True, None),
        ("stack", "f2.fits"): (True, True, True, None),
        ("stack", "f3.fits"): (True, True, False, CLOUDY),
        ("stack", "f4.fits"): (True, False, False, None),
        ("stack", "flat.fits"): (True, True, None, None),
        ("stack", "mask.fits"): (True, False, None, None),
        ("detect", "image-exposure12a1.fits"): (True, None, None, None),
    }, "a step tells of whole roles: of frames all, of flat and mask nothing"


@pytest.mark.req("B45", "B46")
def test_what_a_step_writes_into_its_sidecar_comes_to_the_record_and_to_lineage(
    database: Database, bench: Bench
) -> None:
    inputs = inputs_of(bench)
    script = """
        cat ../inputs/f1.fits ../inputs/f2.fits ../inputs/f3.fits ../inputs/flat.fits > all.txt
        echo '{"used": ["f1.fits", "f2.fits"]}' >> "$NIGHTMILL_SIDECAR"
        echo '{"eliminated": "f3.fits", "reason": "trailed"}' >> "$NIGHTMILL_SIDECAR"
    """
    names = tuple(each.name for each in inputs)
    order = bench.order(shell("stack", script, output("all", "all.txt"), inputs=names), inputs=inputs)
    issued(database, order)
    report = bench.run_one(order)
    tell(database, bench.entries())
    found = uses(database)
    seen = True if report.steps[0].observed and report.steps[0].observed.witness else None  # no watch may be left
    never = None if seen is None else False
    assert found["stack", "f1.fits"] == (True, seen, True, None)
    assert found["stack", "f3.fits"] == (True, seen, False, "trailed")
    assert found["stack", "f4.fits"] == (True, never, False, None)
    assert found["stack", "flat.fits"] == (True, seen, None, None)
    assert found["stack", "mask.fits"] == (True, never, None, None)
    with database.reading() as session:
        up = lineage_of(session, "all.txt", "up")
    assert {up.files[edge.file_id].name for edge in up.edges[Relation.USED]} == {
        "f1.fits", "f2.fits", "flat.fits", "mask.fits",
    }  # fmt: skip


def test_who_eliminates_alone_tells_nothing_of_the_others(database: Database, bench: Bench) -> None:
    told = Observation(told=True, eliminated=CHOOSY.eliminated)
    carry_out(database, bench, stacked(bench), stack=told)
    found = {name: facts[1:] for (step, name), facts in uses(database).items() if step == "stack"}
    assert found.pop("f3.fits") == (None, False, CLOUDY)
    assert set(found.values()) == {(None, None, None)}


@pytest.mark.req("B40")
def test_how_a_step_was_confined_and_how_plan_and_use_differ_is_on_record(database: Database, bench: Bench) -> None:
    differences = (
        Difference(kind=DifferenceKind.NEVER_READ, name="mask.fits"),
        Difference(
            kind=DifferenceKind.NOT_PLANNED, name="/data/x.fits", detail="denied", consequence=Consequence.WARNED
        ),
    )
    held = Confined(level=Level.STANDARD, by=("landlock 7", "seccomp"), lacking=("the kernel has no mounts",))
    seen = Observation(confined=held, witness="inotify", reached=("/data/x.fits",), differences=differences)
    told = carry_out(database, bench, stacked(bench), stack=seen)
    before = dump(database)
    tell(database, told)
    assert dump(database) == before
    with database.reading() as session:
        stack, detect = session.scalars(select(ExecutionRow).order_by(ExecutionRow.position))
        assert (stack.level, stack.witness, stack.told, stack.reached) == (
            "standard",
            "inotify",
            False,
            ["/data/x.fits"],
        )
        assert stack.confined == {"by": ["landlock 7", "seccomp"], "lacking": ["the kernel has no mounts"]}
        assert (detect.level, detect.confined, detect.witness, detect.reached) == ("none", None, "", None)
        query = select(DifferenceRow, FileRow.name).outerjoin(FileRow, FileRow.id == DifferenceRow.file_id)
        rows = [
            (row.execution_id, row.kind, row.name, row.detail, row.consequence, name)
            for row, name in session.execute(query.order_by(DifferenceRow.number))
        ]
    assert rows == [
        (stack.id, "never_read", "mask.fits", "", "noted", "mask.fits"),
        (stack.id, "not_planned", "/data/x.fits", "denied", "warned", None),
    ]


def test_what_is_recorded_while_a_job_runs_gains_what_was_seen(database: Database, bench: Bench) -> None:
    order = stacked(bench)
    issued(database, order)
    bench.run_one(order)
    entries = observing(bench.entries(), {"stack": CHOOSY})
    [ended] = [n for n, each in enumerate(entries) if isinstance(each, StepEnded) and each.step == "stack"]
    tell(database, entries[: ended + 1])
    assert uses(database)["stack", "f3.fits"] == (True, None, None, None)
    assert isinstance(entries[ended + 1], StepObserved)
    tell(database, entries[: ended + 2])
    assert uses(database)["stack", "f3.fits"] == (True, True, False, CLOUDY)
    tell(database, entries[: ended + 1])  # an older copy of the journal takes nothing back
    assert uses(database)["stack", "f3.fits"] == (True, True, False, CLOUDY)
    tell(database, entries)
    assert uses(database)["stack", "f3.fits"] == (True, True, False, CLOUDY)


def test_journals_of_before_leave_all_of_it_unknown(database: Database, bench: Bench) -> None:
    order = stacked(bench)
    issued(database, order)
    bench.run_one(order)
    tell(database, [entry for entry in bench.entries() if not isinstance(entry, StepObserved)])
    with database.reading() as session:
        assert set(session.execute(select(ExecutionRow.level, ExecutionRow.witness, ExecutionRow.told)).tuples()) == {
            (None, None, None)
        }
    assert {facts for facts in uses(database).values()} == {(True, None, None, None)}


def test_what_was_opened_and_planned_for_another_step_was_used_unplanned(database: Database, bench: Bench) -> None:
    stray = Observation(witness="inotify", opened=("image-exposure12a1.fits", "flat.fits", "nowhere.fits"))
    carry_out(database, bench, stacked(bench), detect=stray)
    found = uses(database)
    assert found["detect", "flat.fits"] == (False, True, None, None)
    assert found["detect", "image-exposure12a1.fits"] == (True, True, None, None)
    assert len(found) == 8


@pytest.mark.req("B45")
def test_an_output_is_derived_from_what_its_step_says_and_nothing_else(database: Database, bench: Bench) -> None:
    image, catalog = "image-exposure12a1.fits", "catalog-exposure12a1.txt"
    used = ("f1.fits", "f2.fits", "flat.fits")  # as execution has it: what an output depends on is used
    depends = (
        DependsOn(output=image, inputs=("f1.fits", "f2.fits")),
        DependsOn(output=image, inputs=("flat.fits", "no such.fits")),
    )
    of_nothing = Observation(told=True, depends=(DependsOn(output=catalog, inputs=()),))
    carry_out(
        database, bench, stacked(bench), stack=Observation(told=True, used=used, depends=depends), detect=of_nothing
    )
    with database.reading() as session:
        names = {id_: name for id_, name in session.execute(select(FileRow.id, FileRow.name))}
        edges = {(names[row.file_id], names[row.from_id]) for row in session.scalars(select(DerivationRow))}
        told = {names[row.file_id]: row.told for row in session.scalars(select(GenerationRow))}
    assert edges == {(image, "f1.fits"), (image, "f2.fits"), (image, "flat.fits")}
    assert told == {image: True, catalog: True}
    assert uses(database)["stack", "flat.fits"] == (True, None, True, None)
    assert uses(database)["stack", "f4.fits"] == (True, None, None, None), "another output may be made of it"


def test_what_did_not_contribute_to_a_scratch_file_is_not_behind_what_is_made_of_that(
    database: Database, bench: Bench
) -> None:
    order = through_files_off_record(bench)
    gone = Eliminated(name="flat.fits", reason="too old")
    carry_out(database, bench, order, cut=Observation(told=True, eliminated=(gone,)))
    found = uses(database)
    assert found["cut", "flat.fits"] == (True, None, False, "too old")
    assert found["again", "flat.fits"] == (False, None, False, "too old")
    assert found["reduce", "flat.fits"] == (False, None, False, "too old")
    assert found["reduce", "frame.fits"] == (True, None, None, None)


def test_what_a_step_says_of_scratch_files_it_says_of_what_they_were_made_of(database: Database, bench: Bench) -> None:
    order = through_files_off_record(bench)
    again = Observation(
        told=True, used=("a.cut",), eliminated=(Eliminated(name="look.txt", reason="empty"),), witness="inotify"
    )
    reduce = Observation(told=True, depends=(DependsOn(output="made.txt", inputs=("again.fits", "frame.fits")),))
    carry_out(database, bench, order, again=again, reduce=reduce)
    found = uses(database)
    assert found["again", "mask.fits"] == (False, None, False, "empty")
    assert found["again", "flat.fits"] == (False, None, None, None), "nobody knows which files are *.cut"
    assert found["reduce", "flat.fits"] == (False, None, True, None)
    assert found["reduce", "mask.fits"] == (True, None, None, None)
    with database.reading() as session:
        names = {id_: name for id_, name in session.execute(select(FileRow.id, FileRow.name))}
        edges = {(names[row.file_id], names[row.from_id]) for row in session.scalars(select(DerivationRow))}
    assert edges == {("made.txt", "frame.fits"), ("made.txt", "flat.fits")}


def test_a_word_for_and_against_a_file_counts_against_it(database: Database, bench: Bench) -> None:
    told = Observation(told=True, used=("f1.fits",), eliminated=(Eliminated(name="f1.fits", reason="after all"),))
    carry_out(database, bench, stacked(bench), stack=told)
    assert uses(database)["stack", "f1.fits"] == (True, None, False, "after all")


@pytest.mark.parametrize("backwards", [False, True])
def test_the_order_in_which_reports_come_changes_nothing(database: Database, bench: Bench, backwards: bool) -> None:
    order = stacked(bench)
    issued(database, order)
    bench.run_one(order)
    entries = observing(bench.entries(), {"stack": CHOOSY})
    for until in sorted((1, 5, 7, len(entries)), reverse=backwards):
        tell(database, entries[:until])
    assert uses(database)["stack", "f3.fits"] == (True, True, False, CLOUDY)
    with database.reading() as session:
        assert session.scalars(select(ExecutionRow.witness).order_by(ExecutionRow.position)).all() == ["inotify", ""]


def test_inputs_that_were_planned_on_record_are_known_by_their_names(database: Database, bench: Bench) -> None:
    order = stacked(bench)
    issued(database, order)
    with database.writing() as session:
        attempt_id = session.scalars(select(AttemptRow.id)).one()
        ids = {name: id_ for id_, name in session.execute(select(FileRow.id, FileRow.name))}
        planned = {"attempt_id": attempt_id, "step": "stack", "rule": "r", "origin": "o"}
        rows = [{**planned, "role": each.role, "file_id": ids[each.name]} for each in order.inputs]
        session.execute(insert(PlannedInputRow), rows)
    bench.run_one(order)
    stray = Observation(witness="inotify", opened=("flat.fits",))
    tell(database, observing(bench.entries(), {"stack": CHOOSY, "detect": stray}))
    found = uses(database)
    assert found["stack", "f3.fits"] == (True, True, False, CLOUDY)
    assert found["stack", "mask.fits"] == (True, False, None, None)
    assert found["detect", "flat.fits"] == (False, True, None, None)
    with database.reading() as session:
        inputs = {each.name: each for each in job_history(session, *str(order.attempt).split("/")[:3]).inputs}
    assert (inputs["f3.fits"].left_out, inputs["f1.fits"].left_out) == (f"eliminated: {CLOUDY}", "")
    assert [each.opened for each in inputs.values()].count(False) == 2


def test_a_report_made_of_the_record_says_the_same(database: Database, bench: Bench) -> None:
    image = "image-exposure12a1.fits"
    seen = CHOOSY.model_copy(
        update={
            "confined": Confined(level=Level.AUDIT, by=("strace",)),
            "reached": ("/data/x.fits",),
            "depends": (DependsOn(output=image, inputs=("f1.fits", "f2.fits")),),
            "differences": (Difference(kind=DifferenceKind.NEVER_READ, name="mask.fits"),),
        }
    )
    order = stacked(bench)
    of_nothing = Observation(told=True, depends=(DependsOn(output="catalog-exposure12a1.txt", inputs=()),))
    carry_out(database, bench, order, stack=seen, detect=of_nothing)
    with database.reading() as session:
        attempt = job_history(session, "night1", "science", "exposure=12,detector=3").attempts[0]
        report = report_of(session, attempt, order)
    assert [step.observed for step in report.steps] == [seen, of_nothing]
