"""The sidecar of a step: what is wrong in it is told with its line, and nothing of it is trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.errors import BadFile
from nightmill.execution.attachments import read_attachment
from nightmill.files.rows import rows_of
from nightmill.model.fate import Fate
from nightmill.model.states import AttemptState
from tests.execution.failing import must_fail
from tests.execution.told import TYPES, order_of, product, told
from tests.support.orders import Bench, output, python, shell

GOOD = '{"output": "heads", "file": "a.head", "data_id": {"exposure": 1}}'


def about(rest: str) -> str:
    """Write a line about the file."""
    return f'{{"output": "heads", "file": "a.head", {rest}}}'


def row(values: str, output: str = "pairs", file: str = "a.tbl") -> str:
    """Write a line with a row."""
    return f'{{"row": {{{values}}}, "output": "{output}", "file": "{file}"}}'


FIELDS = "'row', 'used', 'eliminated', 'depends', 'get', 'put' or 'output'"
LINES = {
    "no JSON": ("nonsense", "it is not JSON: Expecting value"),
    "half a line": (GOOD[:-3], "it is not JSON"),
    "not UTF-8": ("\\xff", "it is not JSON: 'utf-8' codec"),
    "a list": ("[1]", "it is not a JSON object"),
    "a number that is none": ('{"output": NaN}', "it is not JSON: NaN is not a value of JSON"),
    "twice": ('{"output": "heads", "output": "x"}', "it is not JSON: the key 'output' is given twice"),
    "deep": ("[" * 30000, "it is nested too deeply"),
    "a deep value": (about('"data_id": {"exposure": [[1]]}'), "exposure is [[1]], and its type"),
    "long": (" " * 70_000, "it has more than 65,536 bytes"),
    "nothing known": ('{"outputs": "heads"}', f"it has no field {FIELDS} (did you mean 'output'?)"),
    "something else": ('{"seen": "a.fits"}', f"it has no field {FIELDS}"),
    "too much": (about('"datid": {}'), "unknown field 'datid' (did you mean 'data_id'?)"),
    "too little": ('{"output": "heads"}', "file: field required"),
    "a number for a name": ('{"output": "heads", "file": 7}', "file: input should be a valid string"),
    "a strange output": ('{"output": "haeds", "file": "a.head"}', "'haeds' is not an output of the step that has a"),
    "a strange file": ('{"output": "heads", "file": "b.head"}', "output 'heads' has no file 'b.head'; such a file is"),
    "a path": ('{"output": "heads", "file": "../work/a.head"}', "output 'heads' has no file '../work/a.head'"),
    "a strange key": (about('"data_id": {"band": "r"}'), "'band' is not a key that output 'heads' tells; add it"),
    "strange metadata": (about('"metadata": {"mrs": 1}'), "'mrs' is not metadata of file type 'head' (did you mean"),
    "both": (about('"data_id": {"exposure": 1}, "metadata": {"exposure": 1}'), "'exposure' stands in data_id and in"),
    "text for a number": (about('"data_id": {"exposure": "1"}'), "exposure is '1', and its type is int"),
    "a fraction": (about('"data_id": {"exposure": 1.5}'), "exposure is 1.5, and its type is int"),
    "a truth": (about('"data_id": {"exposure": true}'), "exposure is true, and its type is int"),
    "nothing": (about('"data_id": {"exposure": null}'), "exposure is null, and its type is int"),
    "large": (about('"data_id": {"exposure": 9223372036854775808}'), "exposure is too large"),
    "infinite": (about('"metadata": {"rms": 1e999}'), "rms is inf, which is not a value"),
    "beyond its limit": (about('"metadata": {"rms": 2}'), "rms is 2.0, more than 1"),
    "no time": (about('"metadata": {"taken_at": "today"}'), "taken_at is 'today', which is not a time"),
    "a row of a file without any": (row('"pair": 1', "heads"), "files of type 'head' have no rows that steps tell"),
    "a row of a strange output": (row('"pair": 1', "hedas"), "'hedas' is not an output of the step that has a type"),
    "a row of a strange file": (row('"pair": 1', file="b.tbl"), "output 'pairs' has no file 'b.tbl'; such a file is"),
    "a row of two outputs": (row('"pair": 1', file="a.head"), "output 'pairs' has no file 'a.head'"),
    "a strange column": (row('"par": 1'), "'par' is not a column of the type's membership (did you mean 'pair'?)"),
    "text for a number in a row": (row('"pair": "1"'), "pair is '1', and its type is int"),
    "a list in a row": (row('"plus": ["a"]'), "plus is ['a'], and its type is str"),
    "an infinite number in a row": (row('"weight": 1e999'), "weight is inf, which is not a value"),
    "control characters in a row": (row('"plus": "a\\u0000"'), "plus holds control characters"),
    "a row that is a list": ('{"row": [1], "output": "pairs", "file": "a.tbl"}', "row: input should be a valid"),
    "again": (GOOD, "a.head was told of in line 1; a file has one line"),
}  # fmt: skip


@pytest.mark.req("X05")
@pytest.mark.parametrize("case", LINES)
def test_a_wrong_line_is_told_by_its_number(bench: Bench, case: str) -> None:
    line, message = LINES[case]
    first = "" if case in ("a strange file", "a path") else GOOD if case == "again" else ""
    code = (
        "import os\nfor name in ('a.head', 'a.tbl'):\n    open(name, 'w').write('1')\n"
        f"open(os.environ['NIGHTMILL_SIDECAR'], 'wb').write({first!r}.encode() + b'\\n' + {line!r}.encode('latin-1')"
        ".replace(b'\\\\xff', b'\\xff'))"
    )
    pairs = output("pairs", "a.tbl", type="pairs")
    order = order_of(bench, python("s", code, told("heads"), pairs))
    must_fail(bench, order, Fate.BAD_OUTPUT, f"the sidecar of step 's' is wrong in line 2: {message}")


@pytest.mark.req("X07")
def test_rows_of_a_membership_are_told_in_their_order(bench: Bench) -> None:
    lines = [row('"pair": 2, "plus": "a b", "weight": 1'), row('"pair": 1'), row('"weight": null, "pair": 3')]
    script = "echo 1 > a.tbl; echo 2 > b.tbl; " + "; ".join(f"echo '{line}' >> $NIGHTMILL_SIDECAR" for line in lines)
    outputs = [output(name, f"{name}.tbl", type="pairs") for name in ("a", "b")]
    order = order_of(bench, shell("s", script.replace('"pairs"', '"a"'), *outputs))
    report = bench.run_one(order)
    assert report.state is AttemptState.PUBLISHED, report.evidence
    told_rows, none = [file.attachments[0] for file in report.made]
    columns, rows = read_attachment(bench.spool, told_rows)
    assert columns == ("pair", "plus", "weight")
    assert list(rows) == [[2, "a b", 1.0], [1, None, None], [3, None, None]]
    assert (none.kind, none.rows) == ("membership", 0)


def test_a_file_is_of_one_output(bench: Bench) -> None:
    lines = [row('"pair": 1', output="a", file="x.tbl"), '{"output": "b", "file": "x.tbl"}']
    script = "echo 1 > x.tbl; " + "; ".join(f"echo '{line}' >> $NIGHTMILL_SIDECAR" for line in lines)
    outputs = [output(name, f"{name}.tbl", type="pairs", produces="*.tbl") for name in ("a", "b")]
    message = "the sidecar of step 's' is wrong in line 2: x.tbl is a file of 'a' by line 1"
    must_fail(bench, order_of(bench, shell("s", script, *outputs)), Fate.BAD_OUTPUT, message)


@pytest.mark.req("X07")
def test_a_file_that_is_brought_has_nobody_who_tells_its_rows(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="the rows of files of type 'pairs' are told by the steps that make them") as told:
        next(rows_of("pairs.tbl", TYPES["pairs"], str(tmp_path / "pairs.tbl")))
    assert told.value.reason == "no_rows"


def test_computed_metadata_is_not_told(bench: Bench) -> None:
    line = '{"output": "one", "file": "a.fits", "metadata": {"label": "x"}}'
    step = shell("s", f"echo '{line}' > $NIGHTMILL_SIDECAR", product("one", "A", where=""))
    message = "'label' of file type 'product' is computed, and not told"
    must_fail(bench, order_of(bench, step), Fate.BAD_OUTPUT, message)


ATTACKS = {
    "a link": ("ln -s /etc/passwd $NIGHTMILL_SIDECAR", "cannot be read: sidecar.jsonl is a symbolic link"),
    "a pipe": ("mkfifo $NIGHTMILL_SIDECAR", "cannot be read: sidecar.jsonl is not a regular file"),
    "a folder": ("mkdir $NIGHTMILL_SIDECAR", "cannot be read: sidecar.jsonl is not a regular file"),
    "two names": (": > x; ln x $NIGHTMILL_SIDECAR", "cannot be read: sidecar.jsonl is a hard link"),
    "a gigabyte": ("truncate -s 1G $NIGHTMILL_SIDECAR", "has 1,073,741,824 bytes, and at most 67,108,864 are read"),
    "very many lines": ("yes '' | head -n 200001 > $NIGHTMILL_SIDECAR", "is wrong in line 200001: more than 200,000"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_sidecar_that_is_none(bench: Bench, attack: str) -> None:
    script, message = ATTACKS[attack]
    order = order_of(bench, shell("s", script))
    must_fail(bench, order, Fate.BAD_OUTPUT, f"the sidecar of step 's' {message}")


def test_a_step_has_a_sidecar_of_its_own_and_may_leave_it(bench: Bench) -> None:
    heads = told("heads", min=0, required=False)
    one = shell("one", f"echo 1 > a.head; echo '{GOOD}' > $NIGHTMILL_SIDECAR", heads)
    two = shell("two", "test ! -e $NIGHTMILL_SIDECAR && test ! -e ../sidecar.jsonl && : > $NIGHTMILL_SIDECAR")
    report = bench.run_one(order_of(bench, one, two), keep_scratch=True)
    assert report.state is AttemptState.PUBLISHED, report.evidence
    [scratch] = bench.scratch.iterdir()
    assert (scratch / "left/one/sidecar.jsonl").read_text() == f"{GOOD}\n"
    assert not (scratch / "sidecar.jsonl").exists()


def test_what_a_failed_step_told_is_not_asked(bench: Bench) -> None:
    step = shell("s", "printf '{\"out' > $NIGHTMILL_SIDECAR; kill -9 $$", told("heads"))
    must_fail(bench, order_of(bench, step), Fate.STEP_KILLED, "was ended by SIGKILL")


@pytest.mark.slow
def test_thousands_of_files_of_one_glob(bench: Bench) -> None:
    code = (
        "import json, os\nlines = open(os.environ['NIGHTMILL_SIDECAR'], 'w')\n"
        "for n in range(5_000):\n"
        "    open(f'{n}.head', 'w').write('1')\n"
        "    print(json.dumps({'output': 'heads', 'file': f'{n}.head', 'data_id': {'exposure': n}}), file=lines)\n"
    )
    order = order_of(bench, python("s", code, told("heads", max=100_000, store="", directory="")))
    report = bench.run_one(order)
    assert report.state is AttemptState.PUBLISHED, report.evidence
    assert len(report.made) == 5_000
