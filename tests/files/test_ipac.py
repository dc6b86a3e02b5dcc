"""IPAC tables: what stands above them, where their columns stand, and what is nothing."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from nightmill.errors import BadFile
from nightmill.files.formats import open_format
from nightmill.files.rows import rows_of
from nightmill.model.content import SectionValue
from nightmill.model.file_type import FileType, Membership
from tests.files import products

OVERLAPS = b"""\
| cntr1 | cntr2 |            plus |           minus |         diff             |
| int   | int   |            char |            char |         char             |
       0       1           a.fits            b.fits  diff.000000.000001.fits
       0       2           a.fits            c.fits  diff.000000.000002.fits
"""
CORRECTIONS = b"|   id   |      a       |\n        0    4.35670e-02 \n        3   -9.31346e-02 \n"
WITH_NULLS = b"""\
\\datatype='catalogue'
\\ a comment = of nobody
\\EQUINOX = 2000.0
\\EQUINOX = 1950.0
\\fixlen = T
\\empty =
|  id |  mag |  name |  day   |
| l   |  d   |   c   |  date  |
|     |  mag |       |        |
| -99 | null |   -   |        |
    1   15.5    null   2026-01
  -99   null       -
    3    nan    b b\r

    4
"""


def rows(path: Path, *columns: str) -> list[tuple[Any, ...]]:
    return list(rows_of(path, FileType(name="pairs", format="ipac", membership=Membership(columns=columns)), str(path)))


def said(path: Path) -> dict[str, SectionValue]:
    [section] = open_format("ipac").read(path).sections
    return dict(section.items())


def test_a_table_of_montage_is_read_as_it_is(tmp_path: Path) -> None:
    path = products.written(tmp_path, "overlaps.tbl", OVERLAPS)
    assert rows(path, "cntr1", "PLUS", "minus", "diff") == [
        (0, "a.fits", "b.fits", "diff.000000.000001.fits"),
        (0, "a.fits", "c.fits", "diff.000000.000002.fits"),
    ]


def test_values_of_a_table_that_tells_no_types_are_what_they_look_like(tmp_path: Path) -> None:
    assert rows(products.written(tmp_path, "corrections.tbl", CORRECTIONS), "id", "a") == [
        (0, 0.043567),
        (3, -0.0931346),
    ]


def test_what_the_head_calls_nothing_is_nothing_and_so_is_what_is_not_there(tmp_path: Path) -> None:
    assert rows(products.written(tmp_path, "nulls.tbl", WITH_NULLS), "id", "mag", "name", "day") == [
        (1, 15.5, "null", "2026-01"),
        (None, None, None, None),
        (3, None, "b b", None),
        (4, None, None, None),
    ]


def test_keywords_stand_above_the_table_and_the_first_of_a_name_counts(tmp_path: Path) -> None:
    told = {"datatype": "catalogue", "EQUINOX": 2000.0, "fixlen": "T", "empty": ""}
    assert said(products.written(tmp_path, "nulls.tbl", WITH_NULLS)) == told
    assert said(products.written(tmp_path, "nulls.tbl.gz", gzip.compress(WITH_NULLS))) == told


def test_a_table_without_a_row_has_none(tmp_path: Path) -> None:
    head = b"".join(OVERLAPS.splitlines(keepends=True)[:2])
    for number, data in enumerate([head, head.rstrip()]):
        assert rows(products.written(tmp_path, f"{number}.tbl", data), "plus") == []


def test_a_fifth_line_of_bars_is_not_of_the_head(tmp_path: Path) -> None:
    path = products.written(tmp_path, "bars.tbl", b"| a |\n|int|\n|   |\n|   |\n| 1 |\n")
    with pytest.raises(BadFile, match="row 1 has a value below a bar of the head, where no column stands"):
        rows(path, "a")
