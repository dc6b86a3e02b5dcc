"""Lineage along what contributed: finer edges, several ways, and what a walk leaves out."""

from __future__ import annotations

import pytest

from nightmill.backbone.catalogue.files import files_named
from nightmill.backbone.database import Database
from nightmill.model.observed import DependsOn, Eliminated, Observation
from nightmill.model.order import JobOrder
from nightmill.model.relations import Relation
from provenance.lineage import By, Direction, Lineage, walk
from tests.provenance.observing import CHOOSY, carry_out, inputs_of, stacked
from tests.provenance.test_lineage import nodes, runs, through_files_off_record
from tests.support.orders import Bench, output, shell


def lineage(database: Database, name: str, direction: Direction, by: By = By.CONTRIBUTED, **more: int) -> Lineage:
    with database.reading() as session:
        return walk(session, files_named(session, [name])[name].id, direction, by=by, **more)


def split(bench: Bench) -> JobOrder:
    """Make a job that makes a file of each of two frames, and then of the second one and the flat a third."""
    inputs = inputs_of(bench)
    outputs = [output(name, f"{name}.txt") for name in ("left", "right", "quiet")]
    making = "; ".join(f"echo {each.role} > {each.names[0]}" for each in outputs)
    return bench.order(
        shell("split", making, *outputs, inputs=tuple(each.name for each in inputs)),
        shell(
            "join",
            "cat ../outputs/left.txt ../outputs/right.txt > both.txt",
            output("both", "both.txt"),
            inputs=("left.txt", "right.txt"),
        ),
        inputs=inputs,
    )


SPLIT = Observation(
    told=True,
    depends=(
        DependsOn(output="left.txt", inputs=("f1.fits",)),
        DependsOn(output="right.txt", inputs=("f2.fits", "flat.fits")),
    ),
)


@pytest.mark.req("B45")
def test_an_output_has_the_ancestors_alone_that_its_step_says(database: Database, bench: Bench) -> None:
    carry_out(database, bench, split(bench), split=SPLIT)
    assert nodes(lineage(database, "left.txt", "up")) == ["f1.fits", "left.txt"]
    assert nodes(lineage(database, "right.txt", "up")) == ["f2.fits", "flat.fits", "right.txt"]
    everything = sorted(["f1.fits", "f2.fits", "f3.fits", "f4.fits", "flat.fits", "mask.fits", "quiet.txt"])
    assert nodes(lineage(database, "quiet.txt", "up")) == everything, "of what a step does not tell, it used all"
    both = lineage(database, "both.txt", "up")
    assert nodes(both) == ["both.txt", "f1.fits", "f2.fits", "flat.fits", "left.txt", "right.txt"]
    assert len(both.edges[Relation.USED]) == len(set(both.edges[Relation.USED])) == 5
    assert "f3.fits" in nodes(lineage(database, "left.txt", "up", By.PLANNED))


@pytest.mark.req("B45")
def test_down_leads_to_the_outputs_alone_that_depend_on_a_file(database: Database, bench: Bench) -> None:
    carry_out(database, bench, split(bench), split=SPLIT)
    assert nodes(lineage(database, "f1.fits", "down")) == ["both.txt", "f1.fits", "left.txt", "quiet.txt"]
    assert nodes(lineage(database, "f3.fits", "down")) == ["f3.fits", "quiet.txt"]
    assert nodes(lineage(database, "f3.fits", "down", By.PLANNED)) == [
        "both.txt", "f3.fits", "left.txt", "quiet.txt", "right.txt",
    ]  # fmt: skip


def test_a_walk_says_what_it_leaves_out_and_that_it_ended_there(database: Database, bench: Bench) -> None:
    carry_out(database, bench, stacked(bench), stack=CHOOSY)
    down = lineage(database, "f3.fits", "down")
    assert (nodes(down), down.complete) == (["f3.fits"], True)
    assert [(edge.role, edge.reason) for edge in down.left_out] == [("frame", "clouds: 0.8 mag")]
    assert runs(down) == ["night1/science/exposure=12,detector=3/a01 stack"]
    up = lineage(database, "catalog-exposure12a1.txt", "up")
    assert {up.files[edge.file_id].name for edge in up.left_out} == {"f3.fits", "f4.fits"}
    assert "f3.fits" in nodes(up), "as a node beside the walk"
    assert not up.left_out or all(edge not in up.edges[Relation.USED] for edge in up.left_out)
    near = lineage(database, "f3.fits", "down", depth=0)
    assert near.complete, "nothing follows from it"


def test_opened_and_planned_are_other_lineages(database: Database, bench: Bench) -> None:
    stray = Observation(witness="inotify", opened=("image-exposure12a1.fits", "flat.fits"))
    carry_out(database, bench, stacked(bench), stack=CHOOSY, detect=stray)

    def used(by: By) -> set[tuple[str, str]]:
        found = lineage(database, "catalog-exposure12a1.txt", "up", by)
        edges = found.edges[Relation.USED]
        return {(found.executions[edge.execution_id].step, found.files[edge.file_id].name) for edge in edges}

    inputs = {("stack", name) for name in ("f1.fits", "f2.fits", "f3.fits", "f4.fits", "flat.fits", "mask.fits")}
    image, unplanned = ("detect", "image-exposure12a1.fits"), ("detect", "flat.fits")
    assert used(By.PLANNED) == inputs | {image}
    assert used(By.OPENED) == inputs - {("stack", "f4.fits"), ("stack", "mask.fits")} | {image, unplanned}
    assert used(By.CONTRIBUTED) == inputs - {("stack", "f3.fits"), ("stack", "f4.fits")} | {image, unplanned}


def test_what_was_eliminated_before_a_scratch_file_is_no_ancestor(database: Database, bench: Bench) -> None:
    gone = Eliminated(name="flat.fits", reason="too old")
    carry_out(database, bench, through_files_off_record(bench), cut=Observation(told=True, eliminated=(gone,)))
    found = lineage(database, "made.txt", "up")
    assert [(found.files[edge.file_id].name, edge.reason) for edge in found.left_out] == [("flat.fits", "too old")]
    assert "made.txt" not in nodes(lineage(database, "flat.fits", "down"))
    assert "made.txt" in nodes(lineage(database, "flat.fits", "down", By.PLANNED))
