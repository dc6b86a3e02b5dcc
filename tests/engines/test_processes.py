"""Worker processes of this host keep every promise of a carrier."""

from __future__ import annotations

import pytest

from nightmill.engines.processes import Processes, ProcessOptions
from nightmill.testing.engines import EngineConformance, Opener


class TestProcesses(EngineConformance):
    many = 5_000

    @pytest.fixture
    def opener(self) -> Opener:
        return lambda: Processes("processes", ProcessOptions(workers=2))
