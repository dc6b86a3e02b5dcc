"""Storage that somebody else manages: a plug-in for a data manager like Rucio passes the tests of every store."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.execution.stores import ENTRY_POINT, open_stager
from nightmill.model.store import Store
from stagers.conformance import StagerConformance
from stagers.readable import Opener
from tests.operations.test_object_stores import make, recorded
from tests.support.packages import package


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package that offers the stager for ``rucio://``."""
    code = "from tests.stagers.fake_rucio import RucioStager\n"
    package(tmp_path / "packages", "nightmill_rucio", code, {ENTRY_POINT: {"rucio": "RucioStager"}})
    monkeypatch.syspath_prepend(tmp_path / "packages")


@pytest.mark.req("D11")
@pytest.mark.usefixtures("installed")
class TestRucioStager(StagerConformance):
    @pytest.fixture
    def opener(self, tmp_path: Path, installed: None) -> Opener:
        (tmp_path / "storage").mkdir()
        return lambda: open_stager(Store(name="backbone", url=f"rucio://survey{tmp_path}/storage"), {})


@pytest.mark.req("D11")
@pytest.mark.usefixtures("installed")
def test_a_campaign_there_records_what_one_in_a_folder_records(tmp_path: Path) -> None:
    (tmp_path / "storage").mkdir()
    far = make(tmp_path / "far", f"rucio://survey{tmp_path}/storage")
    assert recorded(far) == recorded(make(tmp_path / "near"))
