"""The formats that come with nightmill keep the promises of every format."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from nightmill.files.formats import open_format
from nightmill.model.ports import Format
from nightmill.testing.formats import FormatConformance
from tests.files.frames import fits_bytes


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
