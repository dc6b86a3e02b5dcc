"""The checks of tables keep the promises of every check, on tables of several formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from pydantic import JsonValue

from nightmill.config.file_types import load_file_types
from nightmill.errors import BadFile, ConfigErrors
from nightmill.files.checks.columns import Columns
from nightmill.files.checks.no_nan import NoNan
from nightmill.files.checks.rows import Rows
from nightmill.files.checks.sorted import Sorted
from nightmill.files.checks.unique import Unique
from nightmill.files.checks.values import Values
from nightmill.testing.checks import Case, CheckConformance

STARS = {"id": [1, 2, 3], "flux": [1.5, 2.5, 2.0], "name": ["a", "b", "c"]}


def stars(folder: Path, format: str = "fits", **columns: object) -> Path:
    """Write a table of stars in a format that astropy writes."""
    path = folder / f"{'-'.join(columns) or 'stars'}.{format}"
    made = Table({**STARS, **columns})
    ends = {"csv": "ascii.csv", "ecsv": "ascii.ecsv", "ipac": "ascii.ipac"}
    made.write(path, format=ends.get(format, format))
    return path


class TestColumns(CheckConformance):
    check = Columns

    @pytest.fixture
    def cases(self, tmp_path: Path) -> Sequence[Case]:
        path, csv = stars(tmp_path), stars(tmp_path, "csv")
        types: JsonValue = {"columns": {"id": "int", "flux": "float", "name": "str"}}
        return [
            Case(path, {"columns": ["ID", "flux"]}),
            Case(path, types),
            Case(csv, types, format="csv"),
            Case(path, {"columns": ["mag"]}, "no_rows"),
            Case(path, {"table": "PSF", "columns": ["id"]}, "no_rows"),
            Case(csv, {"columns": {"name": "float"}}, "bad_column", format="csv"),
            Case(path, {"columns": {"flux": "int"}}, "bad_column"),
        ]


class TestRows(CheckConformance):
    check = Rows

    @pytest.fixture
    def cases(self, tmp_path: Path) -> Sequence[Case]:
        files = {format: stars(tmp_path, format) for format in ("fits", "csv", "ecsv", "ipac", "votable")}
        return [
            *(Case(path, {"min": 3, "max": 3}, format=format) for format, path in files.items()),
            *(Case(path, {"min": 4}, "other_rows", format=format) for format, path in files.items()),
            Case(files["fits"], {"max": 2}, "other_rows"),
        ]


class TestSorted(CheckConformance):
    check = Sorted

    @pytest.fixture
    def cases(self, tmp_path: Path) -> Sequence[Case]:
        path = stars(tmp_path)
        return [
            Case(path, {"by": "id"}),
            Case(stars(tmp_path, flux=[9.0, 5.0, 5.0]), {"by": "flux", "descending": True}),
            Case(path, {"by": ["name", "id"]}),
            Case(path, {"by": "flux"}, "not_sorted"),
            Case(stars(tmp_path, id=[1.0, np.nan, 2.0]), {"by": "id"}, "not_sorted"),
        ]


class TestUnique(CheckConformance):
    check = Unique

    @pytest.fixture
    def cases(self, tmp_path: Path) -> Sequence[Case]:
        path = stars(tmp_path, id=[7, 8, 7])
        return [Case(path, {"columns": ["id", "name"]}), Case(path, {"columns": "id"}, "not_unique")]


class TestNoNan(CheckConformance):
    check = NoNan

    @pytest.fixture
    def cases(self, tmp_path: Path) -> Sequence[Case]:
        path = stars(tmp_path, flux=[1.0, np.nan, np.inf])
        return [
            Case(path, {"columns": ["id", "name"]}),
            Case(path, {"columns": "flux", "max_fraction": 0.7}),
            Case(path, {"columns": ["id", "flux"], "max_fraction": 0.5}, "no_value"),
        ]


class TestValues(CheckConformance):
    check = Values

    @pytest.fixture
    def cases(self, tmp_path: Path) -> Sequence[Case]:
        path = stars(tmp_path)
        return [
            Case(path, {"columns": {"flux": {"min": 1.5, "max": 2.5}, "name": {"one_of": ["a", "b", "c"]}}}),
            Case(stars(tmp_path, flux=[np.nan, 1, 1]), {"columns": {"flux": {"min": 0}}}),
            Case(path, {"columns": {"flux": {"max": 2.4}}}, "out_of_range"),
            Case(path, {"columns": {"name": {"one_of": ["a", "b"]}}}, "out_of_range"),
            Case(path, {"columns": {"name": {"min": 0}}}, "out_of_range"),
        ]


@pytest.mark.parametrize(
    ("check", "options", "columns", "told"),
    [
        (Columns, {"columns": ["flus"]}, {}, "the table in HDU 1 has not got the column 'flus' (did you mean 'flux'?)"),
        (Columns, {"columns": {"flux": "int"}}, {}, "column 'flux' has 1.5 in row 1, which is not of type int; look"),
        (Rows, {"min": 1000}, {}, "the_name.xyz: table 1 has 3 rows, of at least 1,000; look at the file"),
        (
            Sorted,
            {"by": "flux"},
            {},
            "not sorted by flux: row 3 has 2.0, less than 2.5 of the row before; let the step",
        ),
        (Unique, {"columns": ["id"]}, {"id": [4, 5, 4]}, "rows 1 and 3 of table 1 both have id=4; look at what the"),
        (
            NoNan,
            {"columns": ["flux"]},
            {"flux": [1, np.nan, 2]},
            "a finite value: column 'flux' in 1 (first in row 2);",
        ),
        (Values, {"columns": {"flux": {"max": 2}}}, {}, "column 'flux' of table 1 has 2.5 in row 2, more than 2; look"),
    ],
)
def test_what_a_refusal_says(
    tmp_path: Path, check: type, options: dict[str, object], columns: dict[str, object], told: str
) -> None:
    with pytest.raises(BadFile) as caught:
        Case(stars(tmp_path, **columns), options).look(check)  # type: ignore[arg-type]
    assert told in str(caught.value)
    assert str(caught.value).startswith("the_name.xyz: ")


def test_a_row_that_is_cut_is_found_where_rows_are_counted(tmp_path: Path) -> None:
    path = stars(tmp_path, "csv")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(BadFile, match="row 3 has 2 values, and there are 3 columns; see the checks of its file type"):
        Case(path, {"min": 1}, format="csv").look(Rows)


def test_a_table_that_promises_more_than_anybody_counts_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nightmill.files.checks.tables.MAX_ROWS", 2)
    with pytest.raises(BadFile, match=r"the_name\.xyz has more than 2 rows, the most that are read"):
        Case(stars(tmp_path), {"min": 1}).look(Rows)


def test_what_holds_no_table_is_refused_with_the_document(tmp_path: Path) -> None:
    path = tmp_path / "types.yaml"
    path.write_text(
        "file_types:\n  notes:\n    format: text\n    checks:\n      rows: {min: 1}\n"
        "  cat:\n    format: csv\n    checks:\n      rows: {}\n      sorted: {by: []}\n"
        "      values: {columns: {a: {min: 2, max: 1}}}\n      rows/more: {mn: 1}\n"
    )
    with pytest.raises(ConfigErrors) as caught:
        load_file_types([path])
    told = str(caught.value)
    assert (
        f"{path}:5: file_types.notes.checks.rows: check 'rows' looks at tables, and files of format text hold" in told
    )
    assert "file_types.cat.checks.rows should be limited by min or max" in told
    assert "file_types.cat.checks.sorted.by" in told
    assert "checks.values.columns.a should be one whose min is not above its max (2 is above 1)" in told
    assert "rows/more.mn (did you mean 'min'?)" in told
