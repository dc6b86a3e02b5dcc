"""HDF5 files: links that lead out, tables, and a library that ends its process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from nightmill.errors import BadFile, PluginFault
from nightmill.files import rows as rows_module
from nightmill.files.formats import apart, hdf5_file, open_format
from nightmill.files.inspection import inspect_file
from tests.files import products
from tests.files.test_products import of, rows


def hdf5(path: Path, **made: Any) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in made.items():
            file[name] = value
    return path


def test_a_link_out_of_an_hdf5_file_is_not_followed(tmp_path: Path) -> None:
    secret = hdf5(tmp_path / "secret.h5", key=7, table=np.zeros(3, [("a", "i8")]))
    (tmp_path / "raw").write_bytes(b"\7" * 8)
    path = hdf5(tmp_path / "file.h5", out=h5py.ExternalLink(str(secret), "/"), own=1)
    with h5py.File(path, "a") as file:
        file.create_dataset("raw", (1,), "i8", external=[(str(tmp_path / "raw"), 0, 8)])
        layout = h5py.VirtualLayout((), "i8")
        layout[...] = h5py.VirtualSource(str(secret), "key", ())
        file.create_virtual_dataset("virtual", layout)
        file["loop"] = file["/"]
    [section] = open_format("hdf5").read(path).sections
    assert dict(section.items()) == {"own": 1}
    with pytest.raises(BadFile, match="it has not got table 'out/table'"):
        rows(path, "hdf5", "a", table="out/table")


@pytest.mark.parametrize(
    ("columns", "table", "told"),
    [
        (("a",), 1, "a table of an HDF5 file is named by its path, as table: catalogue/sources, not 1"),
        (("a", "b"), "/", "the columns of table '/' have the shapes"),
        (("c",), "/", "the columns of table '/' have the shapes (2, 2), not one length"),
        (("a",), "a", "'a' is neither a group nor a dataset of compounds"),
    ],
)
def test_what_is_not_a_table_of_an_hdf5_file_is_told(
    tmp_path: Path, columns: tuple[str], table: int | str, told: str
) -> None:
    path = hdf5(tmp_path / "file.h5", a=[1, 2], b=[1], c=[[1, 2], [3, 4]])
    with pytest.raises(BadFile) as caught:
        rows(path, "hdf5", *columns, table=table)
    assert told in str(caught.value)


def test_rows_that_no_byte_stands_for_have_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "MAX_ROWS", 25_000)
    path = tmp_path / "void.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("t/a", (1 << 40,), "i8", chunks=(1000,))
    with pytest.raises(BadFile, match="has more than 25,000 rows"):
        rows(path, "hdf5", "a", table="t")


def crash(_name: str, _path: str) -> Any:
    import os  # in a process of its own

    os.abort()


def loop(_name: str, _path: str) -> Any:
    while True:
        pass


def fill(_name: str, _path: str) -> Any:
    yield "begun", 1
    raise MemoryError


def fail(_name: str, _path: str) -> Any:
    raise ZeroDivisionError("by zero")


@pytest.mark.parametrize(
    ("work", "reason", "told"),
    [
        (crash, "not_of_format", "bad.h5 is damaged: the process that read it was ended by signal 6"),
        (loop, "over_limit", "bad.h5 takes more than 2 s of computing to read"),
        (fill, "over_limit", "bad.h5 takes more than 8,589,934,592 bytes of memory to read"),
    ],
)
def test_a_library_that_crashes_or_never_ends_takes_nobody_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: Callable[..., Any], reason: str, told: str
) -> None:
    monkeypatch.setattr(apart, "MAX_CPU_SECONDS", 2 if work is loop else apart.MAX_CPU_SECONDS)
    path = products.written(tmp_path, "bad.h5", products.hdf5_bytes())
    monkeypatch.setattr(hdf5_file, "values_of", work)
    with pytest.raises(BadFile) as caught:
        inspect_file(path, of("hdf5"))
    assert (caught.value.reason, told in str(caught.value)) == (reason, True), str(caught.value)


def test_a_mistake_in_a_process_of_its_own_is_that_of_the_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5_file, "values_of", fail)
    path = products.written(tmp_path, "file.h5", products.hdf5_bytes())
    with pytest.raises(PluginFault, match=r"format 'hdf5' of nightmill .*: ZeroDivisionError: by zero"):
        inspect_file(path, of("hdf5"))
