"""The ground of an engine, which tests of engines share."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.testing.engines import Ground


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    (tmp_path / "store").mkdir()
    return Ground(tmp_path)
