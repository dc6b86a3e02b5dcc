"""Rows of FITS tables: plain values, or a refusal that says what is there instead."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from nightmill.errors import BadFile, PluginFault
from nightmill.files.formats.fits import Fits
from nightmill.files.rows import rows_of
from nightmill.model.file_type import FileType, Membership

COLUMNS = {
    "pair": ("K", np.arange(3)),
    "name": ("8A", np.array(["a", "b  ", "Ärger"[1:]])),
    "weight": ("E", np.array([0.5, np.nan, np.inf])),
    "good": ("L", np.array([True, False, True])),
    "big": ("K", np.array([2**62, -1, 0])),
}


def table(path: Path, name: str = "PAIRS", **columns: tuple[str, Any]) -> Path:
    """Write a FITS file whose first extension is a table."""
    made = [fits.Column(name=key, format=kind, array=values) for key, (kind, values) in (columns or COLUMNS).items()]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(made, name=name)]).writeto(path)
    return path


def of(*columns: str, table: int | str = 1) -> FileType:
    return FileType(name="pairs", format="fits", membership=Membership(columns=columns, table=table))


def rows(path: Path, *columns: str, table: int | str = 1) -> list[tuple[Any, ...]]:
    return list(rows_of(path, of(*columns, table=table), str(path)))


def test_values_are_plain(tmp_path: Path) -> None:
    path = table(tmp_path / "pairs.fits")
    found = rows(path, "PAIR", "name", "weight", "good", "big")
    assert found == [(0, "a", 0.5, True, 2**62), (1, "b", None, False, -1), (2, "rger", None, True, 0)]
    assert [type(value) for value in found[0]] == [int, str, float, bool, int]


def test_a_table_is_found_by_its_name_and_in_a_compressed_file(tmp_path: Path) -> None:
    path = table(tmp_path / "pairs.fits")
    zipped = tmp_path / "pairs.fits.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert rows(path, "pair", table="pairs") == rows(zipped, "pair", table="PAIRS") == [(0,), (1,), (2,)]


def test_an_empty_table_has_no_rows(tmp_path: Path) -> None:
    assert rows(table(tmp_path / "none.fits", pair=("K", np.array([], dtype=int))), "pair") == []


def test_many_rows_come_in_their_order(tmp_path: Path) -> None:
    path = table(tmp_path / "many.fits", pair=("K", np.arange(25_001)))
    assert [number for (number,) in rows(path, "pair")] == list(range(25_001))


@pytest.mark.parametrize(
    ("columns", "which", "told"),
    [
        (("pears",), 1, "the table in HDU 1 has not got the column 'pears' (did you mean 'pair'?)"),
        (("zzz",), 1, "the table in HDU 1 has not got the column 'zzz' (there is pair, name, weight, good, big)"),
        (("pair",), 7, "it has not got HDU 7"),
        (("pair",), "EDGES", "it has not got HDU 'EDGES'"),
        (("pair",), 0, "HDU 0 is not a table"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    tmp_path: Path, columns: tuple[str], which: int | str, told: str
) -> None:
    path = table(tmp_path / "pairs.fits")
    with pytest.raises(BadFile) as caught:
        rows(path, *columns, table=which)
    assert str(caught.value).startswith(f"{path}: {told}")
    assert caught.value.reason == "no_rows"


@pytest.mark.parametrize("kind", [("2K", np.ones((3, 2), dtype=int)), ("C", np.ones(3, dtype=complex))])
def test_more_than_a_plain_value_a_row_is_refused(tmp_path: Path, kind: tuple[str, Any]) -> None:
    path = table(tmp_path / "wide.fits", wide=kind)
    with pytest.raises(BadFile, match="column 'wide' of the table in HDU 1 has more than one plain value a row"):
        rows(path, "wide")


def test_a_format_that_fails_is_told_apart_from_a_bad_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path / "pairs.fits")
    monkeypatch.setattr(Fits, "rows", lambda *_: iter([1 // 0]))
    with pytest.raises(PluginFault, match=r"format 'fits' of nightmill .* failed on the rows of .*ZeroDivisionError"):
        rows(path, "pair")


def test_a_column_that_is_a_key_has_its_type_in_every_row(tmp_path: Path) -> None:
    path = table(tmp_path / "pairs.fits", pair=("K", np.arange(3)), exposure=("8A", np.array(["1", "2", "x"])))
    typed = FileType(name="pairs", format="fits", membership=Membership(columns={"pair": "int"}))
    assert list(rows_of(path, typed, str(path))) == [(0,), (1,), (2,)]
    with pytest.raises(BadFile, match="row 0 of its table has '1' in column 'exposure', which is not of type int"):
        rows(path, "exposure")
    wrong = FileType(name="pairs", format="fits", membership=Membership(columns={"pair": "str"}))
    with pytest.raises(BadFile, match="row 0 of its table has 0 in column 'pair', which is not of type str") as caught:
        list(rows_of(path, wrong, str(path)))
    assert caught.value.reason == "no_rows"
