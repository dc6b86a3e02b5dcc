"""The formats that come with nightmill keep the promises of every format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from nightmill.files.formats import open_format
from nightmill.model.attachment import RowValue
from nightmill.model.ports import Format, TableFormat
from nightmill.testing.formats import FormatConformance, Held, TableConformance
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
