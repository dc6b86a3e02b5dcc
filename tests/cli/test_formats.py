"""Files that are not FITS, from the command line: taken in, and found by what they and their names say."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from tests.cli.conftest import Nightmill
from tests.files import products
from tests.files.test_products import WAYS

TYPE = """\
  {format}_product:
    format: {format}
    name_pattern: "{format}_{{seq:03d}}.{{end}}"
    metadata:
      exposure: {{keywords: ['{exposure}'], type: int, required: true, hdu: 1}}
      airmass: {{keywords: ['{airmass}'], type: float, hdu: 1}}
"""
ROWS = "    membership: {{columns: [pair, name], table: {table}}}\n"
TABLES = {"json": "pairs", "ecsv": 1, "ipac": 1, "votable": "pairs", "parquet": 1, "hdf5": "pairs"}


@pytest.mark.req("X11")
def test_each_format_is_ingested_and_found_by_what_it_says(folder: Path, nightmill: Nightmill) -> None:
    types = folder / "file_types.yaml"
    text = types.read_text()
    for format, (_, keywords) in WAYS.items():
        text += TYPE.format(format=format, **keywords)
        text += ROWS.format(table=TABLES[format]) if format in TABLES else ""
    types.write_text(
        text + "  csv_product: {format: csv, name_pattern: 'csv_{seq:03d}.{end}', membership: {columns: [pair]}}\n"
    )
    made = {format: products.written(folder, f"{format}_007.dat", way[0]()) for format, way in WAYS.items()}
    for format, path in made.items():
        called = nightmill("ingest", path, "--type", f"{format}_product", "--origin", "raw")
        assert called.code == 0, called.err
    csv = products.written(folder, "csv_008.gz", gzip.compress(products.csv_bytes()))
    assert nightmill("ingest", csv, "--type", "csv_product", "--origin", "raw").code == 0
    where = "exposure == 12 and airmass > 1.2 and seq == 7 and end == 'dat'"
    found = nightmill("find", "--where", where, "--json").json
    assert sorted(file["name"] for file in found) == sorted(path.name for path in made.values())
    rows = nightmill("sql", "SELECT * FROM membership", "--json")
    assert rows.code == 0, rows.err
    assert rows.out.count("007.dat") == 3 * len(TABLES)
    assert rows.out.count("csv_008.gz") == 3


@pytest.mark.req("X11")
def test_a_name_that_says_something_else_is_refused_with_both(folder: Path, nightmill: Nightmill) -> None:
    types = folder / "file_types.yaml"
    key = "{exposure: {keywords: [exposure], type: int}}"
    head = f"  head: {{format: yaml, name_pattern: 'im{{exposure:06d}}.head', metadata: {key}}}\n"
    types.write_text(types.read_text() + head)
    paths = [products.written(folder, name, products.YAML) for name in ("im000012.head", "im000013.head", "im12.head")]
    called = nightmill("ingest", *paths, "--type", "head", "--origin", "raw", "--json")
    assert called.code == 1, called.err
    assert [file["name"] for file in called.json["registered"]] == ["im000012.head"]
    assert {file["reason"]: file["message"].removeprefix(f"{folder}/") for file in called.json["refused"]} == {
        "contradiction": "im000013.head: exposure: its header says 12, its name 000013",
        "other_name": "im12.head: 'im12.head' does not fit 'im{exposure:06d}.head': {exposure:06d}.head cannot be read"
        " at '12.head', which is the name_pattern of file type 'head'",
    }
