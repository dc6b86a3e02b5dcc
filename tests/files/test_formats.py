"""The formats that come with nightmill keep the promises of every format."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest

from nightmill.files.formats import open_format
from nightmill.model.attachment import RowValue
from nightmill.model.ports import Format, TableFormat
from nightmill.testing.formats import FormatConformance, Held, TableConformance
from tests.files import products
from tests.files.frames import fits_bytes
from tests.files.test_rows import table as write_table


class TestFits(FormatConformance):
    @pytest.fixture
    def format(self) -> Format:
        return open_format("fits")

    @pytest.fixture
    def whole(self) -> bytes:
        return fits_bytes(
            {"OBJECT": "M 67", "EXPTIME": 2.5, "HIERARCH ESO DPR CATG": "SCIENCE"}, {"EXTNAME": "Sci"}, checksum=True
        )

    @pytest.fixture
    def broken(self, whole: bytes) -> Mapping[str, bytes]:
        return {
            "empty": b"",
            "not_fits": b"no FITS" * 1000,
            "truncated": whole[:-1],
            "trailing_bytes": whole + b"x",
            "bad_checksum": whole.replace(b"M 67", b"M 31"),
        }


class TestFitsTables(TableConformance):
    @pytest.fixture
    def format(self) -> TableFormat:
        format = open_format("fits")
        assert isinstance(format, TableFormat)
        return format

    @pytest.fixture
    def table(self, tmp_path: Path) -> Held:
        path = write_table(tmp_path / "pairs.fits")
        values: dict[str, list[RowValue]] = {
            "pair": [0, 1, 2],
            "weight": [0.5, None, None],
            "good": [True, False, True],
        }
        return path.read_bytes(), "PAIRS", values


class TestAny(FormatConformance):
    @pytest.fixture
    def format(self) -> Format:
        return open_format("any")

    @pytest.fixture
    def whole(self) -> bytes:
        return b"whatever" * 100_000

    @pytest.fixture
    def broken(self) -> Mapping[str, bytes]:
        return {}


class OfTree(FormatConformance):
    """A format whose files are spoiled in the way of ``spoiled``."""

    name = ""
    made = staticmethod(products.json_bytes)
    spoiled: ClassVar[Mapping[str, bytes]] = {}

    @pytest.fixture
    def format(self) -> Format:
        return open_format(self.name)

    @pytest.fixture
    def whole(self) -> bytes:
        return self.made()

    @pytest.fixture
    def broken(self) -> Mapping[str, bytes]:
        return {"empty": b"", **self.spoiled}


class OfTable(TableConformance):
    """A format with tables, one of which is ``which``."""

    name = ""
    made = staticmethod(products.json_bytes)
    which: ClassVar[int | str] = 1

    @pytest.fixture
    def format(self) -> TableFormat:
        format = open_format(self.name)
        assert isinstance(format, TableFormat)
        return format

    @pytest.fixture
    def table(self) -> Held:
        return self.made(), self.which, products.ROWS


class TestJson(OfTree):
    name = "json"
    spoiled: ClassVar[Mapping[str, bytes]] = {
        "not_of_format": b'{"a": 1, "a": 2}',
        "truncated": gzip.compress(b"{}")[:-3],
    }


class TestJsonTables(OfTable):
    name, which = "json", "pairs"


class TestYaml(OfTree):
    name = "yaml"
    made = staticmethod(lambda: products.YAML)
    spoiled: ClassVar[Mapping[str, bytes]] = {"not_of_format": b"a: [1, 2"}


class TestAsdf(OfTree):
    name = "asdf"
    made = staticmethod(products.asdf_bytes)
    spoiled: ClassVar[Mapping[str, bytes]] = {
        "not_of_format": b"a: 1\n",
        "truncated": products.asdf_bytes()[:-1200],
        "bad_checksum": products.asdf_bytes().replace(bytes([0xE7, 3, 0, 0]), bytes([0xE8, 3, 0, 0])),
    }


class TestText(OfTree):
    name = "text"
    made = staticmethod(lambda: products.TEXT)
    spoiled: ClassVar[Mapping[str, bytes]] = {"not_of_format": b"a\0b\n"}


class TestCsv(OfTree):
    name = "csv"
    made = staticmethod(products.csv_bytes)
    spoiled: ClassVar[Mapping[str, bytes]] = {"not_of_format": b"a,a\n1,2\n", "over_limit": b"a" * (3 << 20)}


class TestCsvTables(OfTable):
    name = "csv"
    made = staticmethod(lambda: products.csv_bytes().replace(b"True", b"1").replace(b"False", b"0"))

    @pytest.fixture
    def table(self) -> Held:
        return self.made(), 1, {**products.ROWS, "good": [1, 0, 1]}


class TestEcsv(OfTree):
    name = "ecsv"
    made = staticmethod(products.ecsv_bytes)
    spoiled: ClassVar[Mapping[str, bytes]] = {
        "not_of_format": products.ecsv_bytes().replace(b"pair name", b"name pair")
    }


class TestEcsvTables(OfTable):
    name = "ecsv"
    made = staticmethod(products.ecsv_bytes)


class TestIpac(OfTree):
    name = "ipac"
    made = staticmethod(products.ipac_bytes)
    spoiled: ClassVar[Mapping[str, bytes]] = {
        "not_of_format": b"|a|a|\n 1 2\n",
        "truncated": gzip.compress(products.ipac_bytes())[:-3],
        "over_limit": b"\\" + b"a" * (3 << 20),
    }


class TestIpacTables(OfTable):
    name = "ipac"
    made = staticmethod(products.ipac_bytes)

    @pytest.fixture
    def table(self) -> Held:
        return self.made(), 1, {"pair": [0, 1, 2], "name": ["a", "b b", "n"], "weight": [0.5, None, 2.5]}


class TestVotable(OfTree):
    name = "votable"
    made = staticmethod(products.votable_bytes)
    spoiled: ClassVar[Mapping[str, bytes]] = {
        "not_of_format": products.votable_bytes()[:-20],
        "bad_header": products.votable_bytes().replace(b'name="pairs"', b'nrows="99999999999"'),
    }


class TestVotableTables(OfTable):
    name, which = "votable", "pairs"
    made = staticmethod(products.votable_bytes)


class TestParquet(OfTree):
    name = "parquet"
    made = staticmethod(products.parquet_bytes)
    spoiled: ClassVar[Mapping[str, bytes]] = {"not_of_format": b"PAR0" * 9, "truncated": products.parquet_bytes()[:-1]}


class TestParquetTables(OfTable):
    name = "parquet"
    made = staticmethod(products.parquet_bytes)


class TestHdf5(OfTree):
    name, cuts, reads = "hdf5", 4, 4  # a process each
    made = staticmethod(products.hdf5_bytes)
    spoiled: ClassVar[Mapping[str, bytes]] = {"not_of_format": b"HDF" * 9, "truncated": products.hdf5_bytes()[:-1]}


class TestHdf5Tables(OfTable):
    name, which = "hdf5", "pairs"
    made = staticmethod(products.hdf5_bytes)


class TestHdf5Compounds(OfTable):
    name, which = "hdf5", "rows"
    made = staticmethod(products.hdf5_bytes)
