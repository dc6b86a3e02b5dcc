"""A bench for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.orders import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give stores, scratch and spool of the test's own."""
    return Bench(tmp_path)
