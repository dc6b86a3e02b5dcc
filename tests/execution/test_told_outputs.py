"""Outputs that tell what they are: by their header, by their name, by the sidecar; what contradicts itself fails."""

from __future__ import annotations

from typing import Any

import pytest

from nightmill.model.fate import Fate
from nightmill.model.fit import misfit
from nightmill.model.journal import Publishing
from nightmill.model.order import OrderStep
from nightmill.model.report import JobReport, stacks
from nightmill.model.states import AttemptState
from tests.execution.failing import must_fail
from tests.execution.told import WRITE, order_of, product, told
from tests.support.orders import Bench, output, python, shell

BY_NAME = "im{exposure:06d}.head"


def products(report: JobReport) -> dict[str, str]:
    assert report.state is AttemptState.PUBLISHED, report.evidence
    return {file.produced_name: file.name for file in report.published if file.step}


@pytest.mark.req("X05")
def test_a_name_tells_what_a_file_is_of_and_the_product_is_named_by_it(bench: Bench) -> None:
    heads = told("heads", produces=BY_NAME)
    script = "echo 1 > im000012.head; echo 2 > im000007.head; echo 3 > im12.head; echo 4 > other.head"
    report = bench.run_one(order_of(bench, shell("solve", script, heads)))
    assert products(report) == {
        "im000007.head": "heads_000007_c0001a01.head",
        "im000012.head": "heads_000012_c0001a01.head",
    }
    assert [file.data_id for file in report.made] == [{"detector": 3, "exposure": each} for each in (7, 12)]
    [intent] = [entry for entry in bench.entries() if isinstance(entry, Publishing)]
    assert {file.name for file in intent.files} >= set(products(report).values()), (
        "journalled before they were revealed"
    )


@pytest.mark.req("X05")
def test_a_name_that_can_be_read_in_two_ways_is_refused_with_both(bench: Bench) -> None:
    pattern = "{exposure}_{tile}_{band}.head"
    tiles = told("tiles", produces=pattern, tells=("exposure", "tile", "band"), open_name=pattern.replace("_", "-"))
    order = order_of(bench, shell("solve", "echo 1 > 12_t7_r.head; echo 1 > 12_t_07_r.head", tiles))
    message = (
        "step 'solve' made a bad tiles (head): '12_t_07_r.head' can be read in two ways by"
        " '{exposure}_{tile}_{band}.head': exposure=12, tile=t, band=07_r, or exposure=12, tile=t_07, band=r"
    )
    must_fail(bench, order, Fate.BAD_OUTPUT, message)


@pytest.mark.req("X05")
def test_the_sidecar_tells_data_ids_and_metadata(bench: Bench) -> None:
    line = (
        '{"output": "heads", "file": "a.head", "data_id": {"exposure": 12, "detector": 3}, "metadata":'
        ' {"rms": 1, "good": false, "tile": "M67", "taken_at": "2026-01-10T03:00:00"}}'
    )
    step = shell("solve", f"echo 1 > a.head; echo '{line}' >> $NIGHTMILL_SIDECAR", told("heads"))
    report = bench.run_one(order_of(bench, step))
    assert products(report) == {"a.head": "heads_000012_c0001a01.head"}
    [made] = report.made
    assert made.data_id == {"exposure": 12, "detector": 3, "tile": "M67"}
    assert made.metadata == {"rms": 1.0, "good": False, "taken_at": "2026-01-10T03:00:00.000000+00:00"}
    assert misfit(report, stacks(bench.entries())) == ""


@pytest.mark.req("X05")
def test_a_header_tells_what_a_file_is_of(bench: Bench) -> None:
    code = f"{WRITE}write('a.fits', 'X', EXPNUM=5, CHIP=2)\nwrite('b.fits', 'X', EXPNUM=5, CHIP=1)"
    chips = told("chips", type="product", produces="*.fits", tells=("exposure", "chip"),
                 open_name="chips_{exposure}_{chip:02d}.fits")  # fmt: skip
    report = bench.run_one(order_of(bench, python("split", code, chips)))
    assert products(report) == {"a.fits": "chips_5_02.fits", "b.fits": "chips_5_01.fits"}
    assert [(file.data_id, file.metadata["chip"]) for file in report.made] == [
        ({"exposure": 5, "detector": 3}, 2),
        ({"exposure": 5, "detector": 3}, 1),
    ]


@pytest.mark.req("X06")
def test_outputs_of_one_glob_are_told_apart_by_their_headers(bench: Bench) -> None:
    code = f"{WRITE}write('out_0.fits', 'BPM')\nwrite('out_1.fits', 'FLAT')\nwrite('out_2.fits', 'QC')\nwrite('p.fits')"
    step = python("twflat", code, product("flat", "FLAT"), product("bpm", "BPM"))
    report = bench.run_one(order_of(bench, step))
    assert products(report) == {"out_1.fits": "flat.fits", "out_0.fits": "bpm.fits"}


@pytest.mark.req("X06")
def test_an_expression_asks_names_computed_keys_and_sizes(bench: Bench) -> None:
    code = f"{WRITE}write('a.fits', 'A')\nwrite('b.fits', 'B')"
    one = product("one", "", where="label == 'xA' and size_bytes == 2880 and exposure is None")
    other = product("other", "", where="like(name, 'b%')")
    report = bench.run_one(order_of(bench, python("s", code, one, other)))
    assert products(report) == {"a.fits": "one.fits", "b.fits": "other.fits"}


@pytest.mark.req("X06")
def test_a_file_of_two_outputs_is_refused_by_both_names(bench: Bench) -> None:
    step = python("s", f"{WRITE}write('a.fits', 'A')", product("one", "A"), product("two", "", where="name != 'x'"))
    message = (
        "step 's' made a.fits, which is a file of one (product), where pro_catg == 'A' and a file of two (product),"
        " where name != 'x'; let 'produces', 'where' or the step's sidecar tell them apart"
    )
    must_fail(bench, order_of(bench, step), Fate.BAD_OUTPUT, message)


def test_the_sidecar_says_of_which_output_a_file_is(bench: Bench) -> None:
    script = """echo 1 > a.head; echo 2 > b.head
        echo '{"output": "two", "file": "a.head", "data_id": {"exposure": 1}}' > $NIGHTMILL_SIDECAR
        echo '{"output": "one", "file": "b.head", "data_id": {"exposure": 1}}' >> $NIGHTMILL_SIDECAR"""
    report = bench.run_one(order_of(bench, shell("s", script, told("one"), told("two"))))
    assert products(report) == {"b.head": "one_000001_c0001a01.head", "a.head": "two_000001_c0001a01.head"}


def test_a_file_that_an_order_names_is_of_no_pattern(bench: Bench) -> None:
    step = shell(
        "s",
        "echo 1 > first.txt; echo 2 > b.txt",
        output("first", "first.txt"),
        output("more", "m.txt", produces="*.txt"),
    )
    assert products(bench.run_one(order_of(bench, step))) == {"": "first.txt", "b.txt": "m.txt"}


LIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "its header and the plan": (
        "write('a.fits', 'A', EXPNUM=5)",
        {"data_id": {"exposure": 4}},
        "a.fits: its header says exposure=5, the plan exposure=4",
    ),
    "its header and its name": (
        "write('a000004.fits', 'A', EXPNUM=5)",
        {"produces": "a{exposure:06d}.fits", "tells": ("exposure",)},
        "a000004.fits: its header says exposure=5, its name exposure=4",
    ),
    "its header and the sidecar": (
        "write('a.fits', 'A', EXPNUM=5); tell(output='one', file='a.fits', metadata={'exposure': 4})",
        {},
        "a.fits: its header says exposure=5, the sidecar (line 1) exposure=4",
    ),
    "its name and the sidecar": (
        "write('a000004.fits', 'A'); tell(output='one', file='a000004.fits', data_id={'exposure': 5})",
        {"produces": "a{exposure:06d}.fits", "tells": ("exposure",)},
        "a000004.fits: the sidecar (line 1) says exposure=5, its name exposure=4",
    ),
    "its name and the plan": (
        "write('a3.fits', 'A')",
        {"produces": "a{exposure}.fits", "data_id": {"exposure": 4}},
        "a3.fits: its name says exposure=3, the plan exposure=4",
    ),
    "nothing": (
        "write('a.fits', 'A')",
        {"tells": ("exposure", "tile")},
        "nothing tells the exposure of a.fits: neither its header (EXPNUM), nor its name, nor the sidecar"
        " ($NIGHTMILL_SIDECAR)",
    ),
    "a number that no database takes": (
        "write('a99999999999999999999.fits', 'A')",
        {"produces": "a{exposure}.fits", "tells": ("exposure",)},
        "the exposure in its name is too large for a whole number",
    ),
}  # fmt: skip
TELL = (
    "import json, os\n"
    "def tell(**line):\n"
    "    with open(os.environ['NIGHTMILL_SIDECAR'], 'a') as f: print(json.dumps(line), file=f)\n"
)


@pytest.mark.req("X05")
@pytest.mark.parametrize("lie", LIES)
def test_sources_that_disagree_fail_with_both_values(bench: Bench, lie: str) -> None:
    code, changes, message = LIES[lie]
    one = product("one", "A", where="", **changes)
    must_fail(bench, order_of(bench, python("s", f"{WRITE}{TELL}{code}", one)), Fate.BAD_OUTPUT, message)


@pytest.mark.req("X05")
@pytest.mark.parametrize(
    ("tile", "message"),
    [
        ("../../etc", "tile is '../../etc': what tells files apart takes"),
        ("", "tile is an empty text"),
        ("a\\u0000b", "tile holds control characters"),
        ("\\ud800", "tile holds control characters"),
        ("x" * 65, "letters, digits and . _ + -"),
    ],
)
def test_what_is_told_is_data_and_no_path(bench: Bench, tile: str, message: str) -> None:
    code = (
        f"{TELL}open('a.head', 'w').write('1')\n"
        f"tell(output='heads', file='a.head', data_id={{'exposure': 1, 'tile': '{tile}'}})"
    )
    heads = told("heads", tells=("exposure", "tile"), open_name="heads_{tile}_{exposure}.head")
    must_fail(bench, order_of(bench, python("s", code, heads)), Fate.BAD_OUTPUT, message)


def test_a_name_that_becomes_too_long(bench: Bench) -> None:
    heads = told("heads", produces="{tile}.head", tells=("tile",), open_name="x" * 150 + "_{tile}.head",
                 data_id={"exposure": 1})  # fmt: skip
    must_fail(
        bench, order_of(bench, shell("s", f"echo 1 > {'y' * 60}.head", heads)), Fate.BAD_OUTPUT, "more than 200 bytes"
    )


@pytest.mark.req("X05")
def test_two_files_with_one_name(bench: Bench) -> None:
    heads = told("heads", produces="{tile}_{exposure}.head", tells=("tile", "exposure"))
    must_fail(
        bench,
        order_of(bench, shell("s", "echo 1 > a_1.head; echo 2 > b_1.head", heads)),
        Fate.BAD_OUTPUT,
        "step 's' made b_1.head for heads (head), and it would have the name of a_1.head: heads_000001_c0001a01.head",
    )


def test_a_name_of_a_step_before_and_that_of_the_log(bench: Bench) -> None:
    same: dict[str, Any] = {"produces": "{exposure}.head", "open_name": "x_{exposure}.head"}
    steps = (
        shell("a", "echo 1 > 1.head", told("one", **same)),
        shell("b", "echo 2 > 1.head", told("two", **same)),
    )
    message = "step 'b' made 1.head for two (head), and it would have the name of a file of a step before: x_1.head"
    must_fail(bench, order_of(bench, *steps), Fate.BAD_OUTPUT, message)
    log = told("one", produces="{tile}.head", tells=("tile",), open_name="{tile}", data_id={"exposure": 1})
    order = order_of(bench, shell("a", "echo 1 > night.log.head", log))
    order = order.model_copy(update={"log_name": "night.log"})
    message = "it would have the name of the log: night.log"
    order = order.model_copy(update={"attempt": order.attempt.model_copy(update={"number": 2})})
    must_fail(bench, order, Fate.BAD_OUTPUT, message)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("ln -s /etc/passwd im000001.head", "im000001.head is a symbolic link"),
        ("mkfifo im000001.head", "im000001.head is not a regular file"),
        ("echo 1 > ../x; ln ../x im000001.head", "im000001.head is a hard link"),
        (": > im000001.head", "im000001.head is empty"),
        (
            "for n in $(seq 100001 100006); do echo 1 > im$n.head; done",
            "made 6 files 'im{exposure:06d}.head' for heads",
        ),
    ],
)
def test_what_is_not_a_file_of_its_own_is_refused(bench: Bench, script: str, message: str) -> None:
    step = shell("s", script, told("heads", produces=BY_NAME))
    must_fail(bench, order_of(bench, step), Fate.BAD_OUTPUT, message)


def test_a_file_that_an_expression_cannot_read(bench: Bench) -> None:
    step = shell("s", "echo no > a.fits", product("one", "A"))
    must_fail(bench, order_of(bench, step), Fate.BAD_OUTPUT, "step 's' made a bad one (product): a.fits ")


def test_too_few_of_a_pattern_with_fields_or_an_expression(bench: Bench) -> None:
    step = shell("s", "echo 1 > im1.head", told("heads", produces=BY_NAME))
    message = "did not make heads (head): 0 of at least 1 files 'im{exposure:06d}.head' (its folder holds im1.head)"
    must_fail(bench, order_of(bench, step), Fate.MISSING_OUTPUT, message)


def test_a_name_that_is_no_text_is_left(bench: Bench) -> None:
    code = r"open(b'im\xff.head', 'w').write('1'); open('im000001.head', 'w').write('1')"
    report = bench.run_one(order_of(bench, python("s", code, told("heads", produces=BY_NAME))))
    assert products(report) == {"im000001.head": "heads_000001_c0001a01.head"}


@pytest.mark.req("X05")
def test_a_later_step_reads_what_has_its_name_when_it_is_made(bench: Bench) -> None:
    heads = told("heads", produces=BY_NAME)
    one = told("one", produces="{exposure}.one", open_name="one_{exposure}", max=1)
    none = told("none", produces="{exposure}.none", required=False, max=1)
    read = OrderStep(
        name="read",
        argv=("sh", "-c", 'echo "$@" > list.txt; cat "$@" | wc -l >> list.txt', "x", "../outputs/{heads}",
              "-o=../outputs/{one}", "../outputs/{none}", "-n=../outputs/{none}"),
        inputs=("{heads}", "{one}", "{none}"),
        outputs=(output("list", "list.txt"),),
    )  # fmt: skip
    read = read.model_copy(update={"argv": (*read.argv[:2], 'echo "$@" > list.txt', *read.argv[3:])})
    make = shell("make", "echo 1 > im000002.head; echo 2 > im000001.head; echo 3 > 9.one", heads, one, none)
    report = bench.run_one(order_of(bench, make, read))
    assert report.state is AttemptState.PUBLISHED, report.evidence
    made = (bench.root / "stores/backbone/products/list.txt").read_text()
    assert made == ("../outputs/heads_000001_c0001a01.head ../outputs/heads_000002_c0001a01.head -o=../outputs/one_9\n")


SCRATCH: dict[str, Any] = {"type": "", "store": ""}


@pytest.mark.req("X05")
def test_scratch_files_go_to_later_steps_and_nowhere_else(bench: Bench) -> None:
    points = output("points", "points.cat", produces="points.cat", **SCRATCH)
    parts = output("parts", produces="*.part", max=9, **SCRATCH)
    make = shell("make", ": > points.cat; echo 1 > b.part; echo 2 > a.part", points, parts)
    read = OrderStep(
        name="read",
        argv=("sh", "-c", 'ls ../outputs > list.txt; echo "$@" >> list.txt', "x", "../outputs/points.cat",
              "../outputs/{parts}"),
        inputs=("points.cat", "{parts}"),
        outputs=(output("list", "list.txt"),),
    )  # fmt: skip
    report = bench.run_one(order_of(bench, make, read))
    assert products(report) == {"": "list.txt"}
    assert [file.name for file in report.made] == ["list.txt"], "a scratch file is on no record"
    text = (bench.root / "stores/backbone/products/list.txt").read_text()
    assert text == "a.part\nb.part\npoints.cat\n../outputs/points.cat ../outputs/a.part ../outputs/b.part\n"


@pytest.mark.parametrize(
    ("script", "fate", "message"),
    [
        (":", Fate.MISSING_OUTPUT, "did not make parts (scratch file): 0 of at least 1 files '*.part'"),
        ("ln -s /etc/passwd a.part", Fate.BAD_OUTPUT, "step 's' made a bad parts (scratch file): a.part is a symbolic"),
        ("mkfifo a.part", Fate.BAD_OUTPUT, "a.part is not a regular file"),
        ("mkdir a.part", Fate.MISSING_OUTPUT, "0 of at least 1"),
        ("echo 1 > 'a b.part'", Fate.BAD_OUTPUT, "a b.part: file name 'a b.part' contains ' '"),
        ("echo 1 > first.part", Fate.BAD_OUTPUT, "the name of a file of a step before: first.part"),
    ],
)
def test_a_scratch_file_that_is_none(bench: Bench, script: str, fate: Fate, message: str) -> None:
    first = shell("first", "echo 1 > first.part", output("first", "first.part"))
    step = shell("s", script, output("parts", produces="*.part", max=9, **SCRATCH))
    must_fail(bench, order_of(bench, first, step), fate, message)


def test_a_step_that_changes_a_scratch_file_is_told_by_name(bench: Bench) -> None:
    points = output("points", "points.cat", produces="points.cat", **SCRATCH)
    spoil = shell("spoil", "chmod u+w ../outputs/points.cat; echo more >> ../outputs/points.cat")
    order = order_of(bench, shell("make", "echo 1 > points.cat", points), spoil)
    must_fail(
        bench, order, Fate.BAD_OUTPUT, "step 'spoil' changed points (scratch file) points.cat of step 'make': it has"
    )


def test_a_report_of_a_name_that_its_file_does_not_tell_is_not_believed(bench: Bench) -> None:
    report = bench.run_one(order_of(bench, shell("s", "echo 1 > im000001.head", told("heads", produces=BY_NAME))))
    assert misfit(report, stacks(bench.entries())) == ""
    for name in ("heads_000002_c0001a01.head", "other.head", "../heads_000001_c0001a01.head"):
        [made] = report.made
        forged = made.model_copy(update={"name": name, "path": f"products/{name}"})
        told_ = misfit(report.model_copy(update={"made": (forged,)}), stacks(bench.entries()))
        assert told_ == f"{name} is not a file that its order names, with this type, step and place"
