"""What an earlier step was free not to make is not an argument of a later one."""

from __future__ import annotations

import json
from pathlib import Path

from nightmill.model.order import OrderStep
from nightmill.model.states import AttemptState
from tests.support.orders import Bench, output, shell

PARTS = output("parts", "part_1.txt", "part_2.txt", "part_3.txt", produces="*.part", min=1)
MASK = output("mask", "mask.txt", required=False)
SPLIT = shell("split", "echo a > a.part; echo b > b.part", PARTS, MASK)
GIVEN = ("../outputs/part_1.txt", "../outputs/part_2.txt", "../outputs/part_3.txt", "../outputs/mask.txt")
PROJECT = Path(__file__).parents[2]
NAMES = (*PARTS.names, *MASK.names)


def test_arguments_name_only_the_files_that_were_made(bench: Bench) -> None:
    join = OrderStep(
        name="join",
        argv=("sh", "-c", 'echo "$@" > list.txt', "join", *GIVEN),
        inputs=NAMES,
        outputs=(output("list", "list.txt"),),
    )
    report = bench.run_one(bench.order(SPLIT, join))
    assert report.state is AttemptState.PUBLISHED, report.evidence
    made = (bench.root / "stores/backbone/products/list.txt").read_text()
    assert made == "../outputs/part_1.txt ../outputs/part_2.txt\n"
    assert report.steps[1].argv[-2:] == GIVEN[:2]


def test_a_called_function_gets_only_the_files_that_were_made(bench: Bench) -> None:
    arguments = json.dumps({"target": "list.txt", "parts": GIVEN[:3], "mask": GIVEN[3]})
    join = OrderStep(
        name="join",
        argv=("{python}", "-m", "nightmill.execution.call", "tests.execution.called:write", arguments),
        environment={"PYTHONPATH": str(PROJECT)},
        inputs=NAMES,
        outputs=(output("list", "list.txt"),),
    )
    report = bench.run_one(bench.order(SPLIT, join))
    assert report.state is AttemptState.PUBLISHED, report.evidence
    made = json.loads((bench.root / "stores/backbone/products/list.txt").read_text())
    assert made == {"parts": list(GIVEN[:2]), "mask": None}
