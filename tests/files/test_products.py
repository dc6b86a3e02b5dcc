"""Files that are not FITS: what is read of each, and that nothing in one is carried out, fetched or without an end."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from astropy.table import Table
from pyarrow import parquet

from nightmill.errors import BadFile, BadMetadata, BadPlugin, FileRefused
from nightmill.files import rows as rows_module
from nightmill.files.formats import open_format
from nightmill.files.headers import read_metadata
from nightmill.files.inspection import inspect_file
from nightmill.files.rows import rows_of
from nightmill.model.file_type import FileType
from tests.files import products

WAYS: dict[str, tuple[Callable[[], bytes], dict[str, str]]] = {
    "json": (products.json_bytes, {key: f"observation.{key}" for key in products.KEYS}),
    "yaml": (lambda: products.YAML, {key: key for key in products.KEYS}),
    "asdf": (products.asdf_bytes, {key: f"observation.{key}" for key in products.KEYS}),
    "ecsv": (products.ecsv_bytes, {key: key for key in products.KEYS}),
    "ipac": (products.ipac_bytes, {key: key for key in products.KEYS}),
    "votable": (products.votable_bytes, {key: key for key in products.KEYS}),
    "parquet": (products.parquet_bytes, {key: key for key in products.KEYS}),
    "hdf5": (
        products.hdf5_bytes,
        {"exposure": "observation/exposure", "band": "/observation@band", "airmass": "@airmass"},
    ),
    "text": (
        lambda: products.TEXT,
        {"exposure": "^# EXPOSURE = (.*)", "band": "^# band:(.*)", "airmass": r"airmass=(\S+)"},
    ),
}
COMPRESSED: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress}


def of(format: str, keywords: dict[str, str] | None = None, **others: Any) -> FileType:
    kinds = {"exposure": "int", "airmass": "float"}
    metadata = {
        name: {"keywords": [keyword], "type": kinds.get(name, "str"), "required": True, "hdu": 1}
        for name, keyword in (keywords or {}).items()
    }
    return FileType.model_validate({"name": "product", "format": format, "metadata": metadata, **others})


def refusal(folder: Path, format: str, data: bytes, keywords: dict[str, str] | None = None) -> FileRefused:
    path = products.written(folder, "bad.dat", data)
    with pytest.raises(FileRefused) as caught:
        inspect_file(path, of(format, keywords))
    assert str(caught.value).startswith(str(path))
    return caught.value


@pytest.mark.req("X11")
@pytest.mark.parametrize("format", WAYS)
def test_metadata_comes_from_each_format(tmp_path: Path, format: str) -> None:
    made, keywords = WAYS[format]
    found = inspect_file(products.written(tmp_path, "file.dat", made()), of(format, keywords))
    assert found.metadata.data_id == {"exposure": 12, "band": "g"}
    assert found.metadata.values == {"airmass": 1.25}
    assert found.compression == ""


@pytest.mark.parametrize("format", ["json", "yaml", "asdf", "ecsv", "ipac", "votable", "text"])
@pytest.mark.parametrize("kind", COMPRESSED)
def test_what_is_compressed_is_read_as_what_it_stands_for(tmp_path: Path, format: str, kind: str) -> None:
    made, keywords = WAYS[format]
    found = inspect_file(products.written(tmp_path, "file.dat", COMPRESSED[kind](made())), of(format, keywords))
    assert (found.metadata.data_id["exposure"], found.compression) == (12, kind)


@pytest.mark.parametrize("format", WAYS)
def test_what_is_compressed_otherwise_is_refused_by_its_name(tmp_path: Path, format: str) -> None:
    made, keywords = WAYS[format]
    packed = lzma.compress(made())
    error = refusal(tmp_path, format, packed, keywords)
    assert error.reason == "not_of_format"
    assert "it is compressed with xz; decompress it first" in str(error)


@pytest.mark.parametrize("format", ["hdf5", "parquet"])
def test_what_is_compressed_inside_is_not_compressed_again(tmp_path: Path, format: str) -> None:
    error = refusal(tmp_path, format, gzip.compress(WAYS[format][0](), mtime=0))
    assert (error.reason, "it begins with b'\\x1f\\x8b" in str(error)) == ("not_of_format", True)
    assert str(error).endswith("; it is compressed with gz; decompress it first")


@pytest.mark.parametrize("format", ["json", "yaml", "ecsv", "ipac", "asdf", "votable", "csv", "text", "parquet"])
def test_no_spoiled_file_is_more_than_refused(tmp_path: Path, format: str) -> None:
    whole = WAYS[format][0]() if format in WAYS else products.csv_bytes()
    rng = random.Random(11)
    file_type = of(format, membership={"columns": ["pair", "name"], "table": "pairs" if format == "json" else 1})
    for _ in range(150):
        spoiled = bytearray(whole)
        for _ in range(rng.choice((1, 1, 3, 9))):
            spoiled[rng.randrange(len(spoiled))] = rng.choice((rng.randrange(256), *b'"<>&*:[{,\n'))
        path = products.written(
            tmp_path, "spoiled.dat", bytes(spoiled[: rng.choice((len(spoiled), rng.randrange(1, len(spoiled))))])
        )
        try:
            inspect_file(path, file_type)
            if hasattr(open_format(format), "rows"):
                list(rows_of(path, file_type, str(path)))
        except (BadFile, BadMetadata):
            pass


@pytest.mark.parametrize(
    ("format", "data", "reason", "told"),
    [
        ("json", b"[" * 100_000, "not_of_format", "is not JSON: it is nested too deeply"),
        ("json", b'{"a": ' + b"9" * 10_000 + b"}", "not_of_format", "is not JSON: Exceeds the limit"),
        ("json", b'{"a": "\xff"}', "not_of_format", "is not JSON: it is not UTF-8 (byte 7)"),
        ("json", b'{"a": 1, "b": 2, "a": 3}', "not_of_format", "is not JSON: the key 'a' is given twice"),
        ("json", b"[" + b"1," * (9 << 20), "over_limit", "16,777,216 bytes, the most that are read of a JSON"),
        ("json", gzip.compress(b"[" + b"1," * (9 << 20)), "over_limit", "has more than 16,777,216 bytes"),
        ("yaml", b"[" * 1000, "not_of_format", "is not YAML: line 1: it is nested more than 50 levels deep"),
        ("yaml", b"a: &a [*a]\n", "not_of_format", "line 1: the alias *a stands for nothing that ends before it"),
        (
            "yaml",
            b"a: &a [x,x,x,x,x,x,x,x,x]\n"
            + b"".join(b"%c: &%c [%s]\n" % (n, n, b",".join([b"*%c" % (n - 1)] * 9)) for n in range(98, 106)),
            "not_of_format",
            "it has more than 200,000 values",
        ),
        ("yaml", b"a: 1\na: 2\n", "not_of_format", "line 2: the key 'a' is given twice"),
        ("yaml", b"a: 1\n---\nb: 2\n", "not_of_format", "a second document begins, and one is read"),
        ("yaml", b"a: \x01\n", "not_of_format", "is not YAML"),
        ("yaml", b"? [a]\n: 1\n", "not_of_format", "a key is not a text"),
        ("asdf", b"#ASDF 1.0.0\n%YAML 1.1\n---\na: 1\n", "truncated", "is cut off: it ends inside of its tree"),
        (
            "asdf",
            products.asdf_bytes().replace(b"#ASDF BLOCK", b"#junk"),
            "trailing_bytes",
            "has bytes after block 0 that are not a block",
        ),
        ("ecsv", b"# %ECSV 1.0\n# ---\n# datatype: 3\na\n", "not_of_format", "its 'datatype' is not a list of columns"),
        ("ecsv", b"# %ECSV 1.0\n# ---\n", "not_of_format", "is not ECSV: it ends before its table"),
        ("csv", b"a,\xff\n1,2\n", "not_of_format", "it is not UTF-8 (byte 0xff)"),
        ("csv", b"a,a\n", "not_of_format", "its first line does not name the columns: 'a, a'"),
        ("ipac", b"a,b\n1,2\n", "not_of_format", "is not an IPAC table: it begins with 'a,b'"),
        ("ipac", b"\\a = 1\n", "not_of_format", "it ends before its table"),
        ("ipac", b"|a  |a |\n", "not_of_format", "its head does not name the columns: 'a, a'"),
        ("ipac", b"|\n", "not_of_format", "its head does not name the columns: ''"),
        ("ipac", b"|a  |b\n", "not_of_format", "the bars of its head do not stand below each other"),
        ("ipac", b"|a  |b |\n|int|char|\n", "not_of_format", "the bars of its head do not stand below each other"),
        ("ipac", (b"\\ " + b"a" * 1000 + b"\n") * 17_000 + b"|a|\n", "over_limit", "stand above the table, the most"),
        ("ipac", b"|a|\n \0\n", "not_of_format", "it holds a NUL"),
        ("text", b"a\0", "not_of_format", "is not a text: it holds a NUL (byte 1)"),
        ("votable", b"<html/>", "not_of_format", "is not a VOTable: it begins with <html>"),
        (
            "votable",
            b'<!DOCTYPE V [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><VOTABLE>&b;</VOTABLE>',
            "not_of_format",
            "declares entities, which are not read",
        ),
        (
            "votable",
            b'<VOTABLE><RESOURCE><TABLE><DATA><BINARY><STREAM href="file:///etc/passwd"/></BINARY></DATA></TABLE>',
            "not_of_format",
            "has a STREAM whose bytes are elsewhere, which is not followed",
        ),
        ("parquet", b"PAR1" * 4, "not_of_format", "is not Parquet"),
        ("hdf5", b"\x89HDF\r\n\x1a\n" + bytes(100), "not_of_format", "is damaged"),
    ],
)  # fmt: skip
def test_what_is_hostile_is_refused_in_words(tmp_path: Path, format: str, data: bytes, reason: str, told: str) -> None:
    error = refusal(tmp_path, format, data)
    assert (error.reason, told in str(error)) == (reason, True), str(error)


def test_nothing_that_stands_behind_a_tag_is_carried_out(tmp_path: Path) -> None:
    data = b"a: !!python/object/apply:os.system ['touch planted']\nb: !!int '7'\nc: !x/y {z: 1}\n"
    path = products.written(tmp_path, "file.yaml", data)
    found = read_metadata(path, of("yaml", {"a": "a.0", "b": "b", "z": "c.z"}))
    assert found.values == {"a": "touch planted", "b": "7", "z": "1"}
    assert not Path("planted").exists()


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("filters.0.name", "g"),
        ("filters.1.name", "r.old"),
        ("filters.0.on", "no"),
        ("filters.1.at", "2026-01-10"),
        ("filters.7.name", None),
        ("band.deeper", None),
        ("nothing", None),
    ],
)
def test_a_dotted_path_leads_to_a_value(tmp_path: Path, keyword: str, value: object) -> None:
    path = products.written(tmp_path, "file.yaml", products.YAML)
    [section] = open_format("yaml").read(path).sections
    assert section.get(keyword) == value


def test_a_name_with_dots_in_it_is_found_and_what_is_not_a_value_is_refused(tmp_path: Path) -> None:
    path = products.written(tmp_path, "file.json", b'{"ESO.DET": {"DIT": 2.5}, "n": null, "list": [1]}')
    [section] = open_format("json").read(path).sections
    assert (section.get("ESO.DET.DIT"), section.get("n")) == (2.5, None)
    error = refusal(tmp_path, "json", path.read_bytes(), {"band": "list"})
    assert (error.reason, "band: list: there stands a list, not a value" in str(error)) == ("bad_value", True)


def test_a_value_is_looked_for_in_the_beginning_of_a_text_alone(tmp_path: Path) -> None:
    late = b"x" * (1 << 20) + b"\n# band: g\n"
    error = refusal(tmp_path, "text", late, {"band": "^# band: (.*)"})
    assert (error.reason, "has no value for band (^# band: (.*))" in str(error)) == ("missing_keyword", True)
    path = products.written(tmp_path, "odd.txt", "# band: \n# band: é\n".encode("latin-1"))
    assert open_format("text").read(path).sections[0].get("^# band: (.*)") == "é"


def rows(path: Path, format: str, *columns: str, table: int | str = 1) -> list[tuple[Any, ...]]:
    return list(rows_of(path, of(format, membership={"columns": columns, "table": table}), str(path)))


@pytest.mark.parametrize("kind", COMPRESSED)
@pytest.mark.parametrize("format", ["json", "csv", "ecsv", "votable"])
def test_rows_of_a_compressed_file_are_those_inside(tmp_path: Path, format: str, kind: str) -> None:
    whole = products.csv_bytes() if format == "csv" else WAYS[format][0]()
    path = products.written(tmp_path, "file.dat", COMPRESSED[kind](whole))
    table = "pairs" if format == "json" else 1
    assert rows(path, format, "pair", "name", table=table) == [(0, "a"), (1, "b b"), (2, "ñ")]


@pytest.mark.parametrize(
    ("format", "data", "columns", "told"),
    [
        ("json", b'[{"a": 1}, 2]', "a", "it is not a list of mappings, which are the rows of a table"),
        ("json", b'[{"a": [1]}]', "a", "column 'a' in row 1 has more than one plain value a row"),
        ("json", b'[{"a": 1}, {"a": 9999999999999999999}]', "a", "more than 64 bits in row 2"),
        ("json", b'[{"a": 1, "A": 2}]', "α", "has not got the column 'α' (there is a, A)"),
        ("ipac", b"|a  |b  |\n 1   2\n 1  12\n", "b", "row 2 has a value below a bar of the head, where no column"),
        ("ipac", b"|a  |b  |\n 1   1234\n", "b", "row 1 has a value below a bar of the head, where no column stands"),
        ("ipac", b"|a  |b  |\n1    2\n", "b", "row 1 has a value below a bar of the head, where no column stands"),
        ("ipac", b"|a  |b  |\n 1\t2\n", "b", "row 1 has characters that are not of ASCII, or tabs: where its columns"),
        ("ipac", "|a  |b  |\n ñ   2\n".encode(), "b", "row 1 has characters that are not of ASCII, or tabs"),
        ("ipac", b"|a  |b  |\n|int|i  |\n 1   1.5\n", "b", "column 'b' has '1.5' in row 1, which is not of its type"),
        (
            "ipac",
            b"|a  |b  |\n|int|uni|\n 1   1\n",
            "b",
            "column 'b' is of type 'uni', and may be of int, long, double",
        ),
        ("csv", b"a,b\n1\n", "a", "row 1 has 1 values, and there are 2 columns"),
        (
            "ecsv",
            b"# %ECSV 1.0\n# ---\n# datatype:\n# - {name: a, datatype: int64}\na\nx\n",
            "a",
            "column 'a' has 'x' in row 1, which is not of its type",
        ),
        (
            "ecsv",
            b"# %ECSV 1.0\n# ---\n# datatype:\n# - {name: a, datatype: string, subtype: 'int64[3]'}\na\n[1]\n",
            "a",
            "column 'a', of type int64[3], has more than one plain value a row",
        ),
    ],
)
def test_rows_that_are_not_there_are_refused_in_words(
    tmp_path: Path, format: str, data: bytes, columns: str, told: str
) -> None:
    path = products.written(tmp_path, "file.dat", data)
    with pytest.raises(BadFile) as caught:
        rows(path, format, columns)
    assert (caught.value.reason, told in str(caught.value)) == ("no_rows", True), str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_a_list_without_rows_has_none(tmp_path: Path) -> None:
    assert rows(products.written(tmp_path, "none.json", b"[]"), "json", "a") == []
    assert rows(products.written(tmp_path, "none.csv", b"a\n"), "csv", "a") == []


def test_a_text_that_is_not_unicode_is_made_one(tmp_path: Path) -> None:
    path = products.written(tmp_path, "odd.json", b'[{"a": "x\\ud800"}]')
    assert rows(path, "json", "a") == [("x?",)]


def test_numbers_of_a_csv_file_are_those_that_programs_write(tmp_path: Path) -> None:
    path = products.written(tmp_path, "n.csv", b'a\n1\n007\n-2\n1.50\n1e3\n1e999\n"x, ""y"""\n9999999999999999999999\n')
    found = [value for (value,) in rows(path, "csv", "a")]
    assert found == [1, "007", -2, 1.5, 1000.0, "1e999", 'x, "y"', "9999999999999999999999"]


def test_more_rows_than_can_be_kept_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert rows_module.MAX_ROWS == 10_000_000
    monkeypatch.setattr(rows_module, "MAX_ROWS", 2)
    path = products.written(tmp_path, "many.csv", b"a\n1\n2\n3\n")
    with pytest.raises(BadFile, match=r"many.csv has more than 2 rows, the most that are kept") as caught:
        rows(path, "csv", "a")
    assert caught.value.reason == "over_limit"
    monkeypatch.setattr(rows_module, "MAX_TEXT", 2)
    path.write_bytes(b"a\nxyz\n")
    with pytest.raises(BadFile, match="has more than 2 characters of text in its rows"):
        rows(path, "csv", "a")


def test_a_votable_with_more_values_than_can_be_held_is_refused(tmp_path: Path) -> None:
    cells = "<TR><TD/></TR>" * 1000
    data = f'<VOTABLE><RESOURCE><TABLE><FIELD name="a" datatype="char" arraysize="900000"/><DATA><TABLEDATA>{cells}'
    path = products.written(tmp_path, "wide.xml", f"{data}</TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>".encode())
    with pytest.raises(BadFile, match="a table has more than 200,000,000 values, the most that are read"):
        rows(path, "votable", "a")


def test_the_parameters_of_a_table_are_those_of_its_section(tmp_path: Path) -> None:
    path = products.written(tmp_path, "file.xml", products.votable_bytes())
    document, table = open_format("votable").read(path).sections
    assert (document.name, table.number, table.name) == ("", 1, "PAIRS")
    assert (document.get("exposure"), table.get("exposure"), document.get("band")) == (None, 12, "g")


def test_a_parquet_file_that_is_damaged_inside_is_refused_when_its_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "file.parquet"
    parquet.write_table(
        pa.table({"a": np.random.default_rng(1).integers(0, 1 << 60, 10_000)}),
        path,
        compression="zstd",
        use_dictionary=False,
    )
    data = bytearray(path.read_bytes())
    data[4:60] = bytes(56)
    path.write_bytes(data)
    with pytest.raises(BadFile, match="its rows cannot be read after row 0"):
        rows(path, "parquet", "a")


@pytest.mark.parametrize(("format", "library"), [("hdf5", "h5py"), ("parquet", "pyarrow")])
def test_a_library_that_is_not_installed_is_told_with_what_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, library: str
) -> None:
    told = f"format '{format}' needs {library}, which is not installed; pip install 'nightmill[{format}]'"
    open_format.cache_clear()
    with monkeypatch.context() as without:
        without.setitem(sys.modules, library, None)
        with pytest.raises(BadPlugin) as caught:
            open_format(format)
        error = refusal(tmp_path, format, b"x")
    assert str(caught.value) == told
    assert (error.reason, told in str(error)) == ("plugin_fault", True)


def test_what_is_heavy_is_imported_when_it_is_used() -> None:
    import subprocess

    code = (
        "import sys; from nightmill.files.formats import open_format; from nightmill.plugins import names\n"
        "[open_format(name) for name in names('nightmill.formats')]\n"
        "print(sorted({'h5py', 'pyarrow', 'astropy', 'numpy', 'asdf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_astropy_writes_in_other_ways_is_read(tmp_path: Path) -> None:
    table = Table({"pair": [1, 2], "name": ["a", "b,c"]}, meta={"band": "g", "deep": {"er": [1, {"x": True}]}})
    table.write(tmp_path / "t.ecsv", delimiter=",")
    table.write(tmp_path / "t.xml", format="votable", tabledata_format="binary2")
    assert rows(tmp_path / "t.ecsv", "ecsv", "name", "pair") == [("a", 1), ("b,c", 2)]
    assert rows(tmp_path / "t.xml", "votable", "name", "pair") == [("a", 1), ("b,c", 2)]
    [section] = open_format("ecsv").read(tmp_path / "t.ecsv").sections
    assert section.get("deep.er.1.x") is True
