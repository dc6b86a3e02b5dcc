"""Files that are not FITS, each with the same metadata and the same table, as far as its format has them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, Final

import asdf
import h5py
import numpy as np
import pyarrow as pa
from astropy.table import MaskedColumn, Table
from pyarrow import parquet

from nightmill.model.attachment import RowValue

KEYS: Final[Mapping[str, Any]] = {"exposure": 12, "band": "g", "airmass": 1.25}
ROWS: Final[Mapping[str, list[RowValue]]] = {
    "pair": [0, 1, 2],
    "name": ["a", "b b", "ñ"],
    "weight": [0.5, None, 2.5],
    "good": [True, False, True],
}
TEXT: Final = b"# EXPOSURE = 12\n# band: g   \n#airmass=1.25 (mean)\n1 2 3\n"
YAML: Final = b"exposure: 12\nband: g\nairmass: 1.25\nfilters:\n- {name: g, on: no}\n- {name: r.old, at: 2026-01-10}\n"


def records() -> list[dict[str, RowValue]]:
    """Return the table as a list of rows."""
    return [dict(zip(ROWS, values, strict=True)) for values in zip(*ROWS.values(), strict=True)]


def table() -> Table:
    """Return the table as astropy has it."""
    made = Table({name: values for name, values in ROWS.items() if name != "weight"}, meta=dict(KEYS))
    made["weight"] = MaskedColumn([0.5, 0.0, 2.5], mask=[False, True, False])
    return made[list(ROWS)]


def json_bytes() -> bytes:
    return json.dumps({"observation": dict(KEYS), "pairs": records()}).encode()


def csv_bytes() -> bytes:
    return "pair,name,weight,good\n0,a,0.5,True\n1,b b,,False\n2,ñ,2.5,True\n".encode()


def ecsv_bytes() -> bytes:
    text = StringIO()
    table().write(text, format="ascii.ecsv")
    return text.getvalue().encode()


def ipac_bytes() -> bytes:
    """Return the table without truth values, which IPAC tables do not have, and in ASCII."""
    text = StringIO()
    made = table()["pair", "name", "weight"]
    made["name"][2] = "n"
    made.meta = {"keywords": {key: {"value": value} for key, value in KEYS.items()}, "comments": ["of a night"]}
    made.write(text, format="ascii.ipac")
    return text.getvalue().encode()


def votable_bytes() -> bytes:
    made = BytesIO()
    table().write(made, format="votable")
    head = '<INFO name="band" value="g"/><PARAM name="airmass" datatype="double" value="1.25"/><TABLE name="pairs">'
    param = '<PARAM name="exposure" datatype="int" value="12"/><DATA>'
    text = made.getvalue().decode()
    return text.replace("<TABLE>", head, 1).replace("<DATA>", param, 1).encode()


def parquet_bytes() -> bytes:
    schema = {key: str(value) for key, value in KEYS.items()}
    made = BytesIO()
    parquet.write_table(pa.table(dict(ROWS)).replace_schema_metadata(schema), made)
    return made.getvalue()


def hdf5_bytes() -> bytes:
    made = BytesIO()
    with h5py.File(made, "w") as file:
        file["observation/exposure"] = 12
        file["observation"].attrs["band"] = "g"
        file.attrs["airmass"] = 1.25
        for name, values in ROWS.items():
            file[f"pairs/{name}"] = [np.nan if value is None else value for value in values]
        kinds = [("pair", "i8"), ("name", "S4"), ("weight", "f8"), ("good", "?")]
        rows = [(0, b"a", 0.5, True), (1, b"b b", np.nan, False), (2, "ñ".encode(), 2.5, True)]
        file.create_dataset("rows", data=np.array(rows, dtype=kinds), chunks=(2,), compression="gzip")
    return made.getvalue()


def asdf_bytes() -> bytes:
    made = BytesIO()
    asdf.AsdfFile({"observation": dict(KEYS), "pixels": np.arange(1000)}).write_to(made)
    return made.getvalue()


def written(folder: Path, name: str, data: bytes) -> Path:
    """Write a file."""
    path = folder / name
    path.write_bytes(data)
    return path
