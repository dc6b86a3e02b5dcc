"""Orders of which some steps are run, with what the others had made elsewhere."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from nightmill.model.fate import Fate
from nightmill.model.fit import misfit
from nightmill.model.order import JobOrder, TakenOutput, canonical, later_names, order_sha256
from nightmill.model.report import stacks
from tests.support.orders import Bench, output, shell


def chained(bench: Bench, *, only: tuple[str, ...] | None, content: bytes = b"taken") -> JobOrder:
    """Make an order of three steps, the first of which is not to be run again."""
    found = bench.put("other.txt", content)
    taken = TakenOutput(
        role="one",
        name="one.txt",
        size_bytes=found.size_bytes,
        sha256=found.sha256,
        store=found.store,
        path=found.path,
    )
    order = bench.order(
        shell("first", "echo made > one.txt", output("one", "one.txt")),
        shell("second", "cat ../outputs/one.txt > two.txt", output("two", "two.txt"), inputs=("one.txt",)),
        shell("third", "cat ../outputs/*.txt > three.txt", output("three", "three.txt"), inputs=("two.txt",)),
    )
    return order.model_copy(update={"only": only, "taken": (taken,)})


def test_steps_read_what_others_had_made_elsewhere(bench: Bench) -> None:
    report = bench.run_one(chained(bench, only=("second",)))
    assert report.fate is Fate.PUBLISHED
    assert [step.name for step in report.steps] == ["second"]
    assert [file.name for file in report.made] == ["two.txt"]
    assert (bench.root / "stores/backbone/products/two.txt").read_bytes() == b"taken"
    assert "one.txt" not in bench.stored()  # what is taken is not published again
    assert misfit(report, stacks(bench.entries())) == "", "a drain believes it"


def test_of_no_step_everything_is_staged(bench: Bench) -> None:
    report = bench.run_one(chained(bench, only=()), keep_scratch=True)
    assert (report.fate, report.steps, report.published) == (Fate.PUBLISHED, (), ())
    [scratch] = bench.scratch.iterdir()
    assert (scratch / "outputs/one.txt").read_bytes() == b"taken"


def test_what_is_taken_is_as_the_order_says(bench: Bench) -> None:
    order = chained(bench, only=("second",))
    (bench.root / "stores/backbone/raw/other.txt").write_bytes(b"other")
    report = bench.run_one(order)
    assert report.fate is Fate.INPUT_CORRUPT
    assert "one one.txt of another run has checksum" in report.evidence
    assert report.steps == ()


def test_a_step_cannot_change_what_was_taken(bench: Bench) -> None:
    order = chained(bench, only=("second",))
    cheat = shell("second", "chmod 600 ../outputs/one.txt; echo x > ../outputs/one.txt; echo y > two.txt")
    steps = (order.steps[0], cheat.model_copy(update={"outputs": order.steps[1].outputs}), order.steps[2])
    report = bench.run_one(order.model_copy(update={"steps": steps}))
    assert report.fate is Fate.BAD_OUTPUT
    assert "changed one one.txt of another run" in report.evidence


def test_names_that_are_known_later_are_filled_in(bench: Bench) -> None:
    order = chained(bench, only=("second",))
    several = order.steps[0].outputs[0].model_copy(update={"names": (), "type": "", "produces": "*.txt"})
    first = order.steps[0].model_copy(update={"outputs": (several,)})
    all_of_it = ("sh", "-c", "cat $@ > two.txt", "sh", f"../outputs/{later_names('one')}")
    second = order.steps[1].model_copy(update={"argv": all_of_it, "inputs": (later_names("one"),)})
    report = bench.run_one(order.model_copy(update={"steps": (first, second)}))
    assert report.fate is Fate.PUBLISHED, report.evidence
    assert report.steps[0].argv[-1] == "../outputs/one.txt"


@pytest.mark.parametrize("name", ["", ".", "..", "../work/x", "/etc/passwd", "a\0b"])
def test_a_name_that_leads_elsewhere_is_not_one(name: str) -> None:
    with pytest.raises(ValidationError, match="is not fit for a file name"):
        TakenOutput(role="one", name=name, size_bytes=1, sha256="", store="s", path="p")


def test_orders_that_run_whole_are_as_they_were(bench: Bench) -> None:
    order = chained(bench, only=None).model_copy(update={"taken": ()})
    assert not {b"only", b"taken"} & {key.strip(b'"') for key in canonical(order).split(b":")}
    assert order_sha256(order) != order_sha256(order.model_copy(update={"only": ()}))
