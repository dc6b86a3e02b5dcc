from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from astropy.table import Table

from examples.real.collect import collect
from nightmill.model.states import JobState
from nightmill.operations.init import make_site
from nightmill.operations.site import Site
from tests.examples.campaigns import job_lines, run_campaign, take_in
from tests.examples.programs import EXAMPLES

REAL = EXAMPLES / "real"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("real")
    saao, gmos = collect(folder / "frames")
    with make_site(folder / "site", file_types=REAL / "file_types.yaml") as site:
        take_in(site, [saao], "saao_frame")
        take_in(site, [gmos], "gmos_frame")
        yield site


@pytest.mark.parametrize(
    ("campaign", "unit", "name", "objects"),
    [
        ("saao", "instrument=STE3,night=20130712", "STE3_20130712_quicklook_*a01.fits", 2),
        ("gmos", "instrument=GMOS-S,night=20190807", "GMOS-S_20190807_quicklook_*a01.fits", 6),
    ],
)
def test_quicklook_of_frames_with_their_own_headers(
    site: Site, campaign: str, unit: str, name: str, objects: int
) -> None:
    run_campaign(site, REAL / f"{campaign}.yaml")
    (line,) = job_lines(site, f"quicklook-{campaign}")
    assert (line.unit, line.state) == (unit, JobState.DONE)
    folder = Path(site.config.directory, "stores", "backbone", f"quicklook-{campaign}", "quicklook")
    (catalog,) = folder.glob(name)
    assert len(Table.read(catalog)) >= objects
