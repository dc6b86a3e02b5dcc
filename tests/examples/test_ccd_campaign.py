from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from astropy.table import Table

from examples.ccd.check import compare
from examples.ccd.damage import flip_bit
from nightmill.model.fate import JobState
from tasks.campaigns import Turn
from tasks.site import Site
from tests.examples.campaigns import job_lines, make_site, run_again, run_campaign, take_in
from tests.examples.programs import EXAMPLES, Night

CCD = EXAMPLES / "ccd"


@pytest.fixture(scope="module")
def site(night: Night, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Give a site with the frames of detectors 1 and 2, calibrated."""
    with make_site(tmp_path_factory.mktemp("ccd") / "site", CCD / "file_types.yaml") as site:
        for kind in ("bias", "flat", "science"):
            frames = sorted(path for path in (night.folder / kind).iterdir() if path.stem[-1] in "12")
            take_in(site, frames, f"raw_{kind}")
        run_campaign(site, CCD / "calibrations-n1.yaml")
        yield site


def stored(site: Site, pattern: str) -> list[Path]:
    return sorted((site.config.directory / "stores" / "backbone").glob(pattern))


def test_each_detector_gets_its_masters(site: Site) -> None:
    lines = job_lines(site, "calibrations-n1")
    assert {line.name: line.state for line in lines} == {
        f"bias/instrument=nmcam,detector={detector}": JobState.DONE for detector in (1, 2)
    } | {
        f"flat/instrument=nmcam,detector={detector},band={band}": JobState.DONE
        for detector in (1, 2)
        for band in ("g", "r")
    }
    assert [path.name for path in stored(site, "calibrations-n1/flat/*.fits")] == [
        f"nmcam_{detector:02d}_{band}_flat_c0001a01.fits" for detector in (1, 2) for band in ("g", "r")
    ]


def test_damaged_frame_fails_one_job_and_its_rerun_finds_the_known_stars(site: Site, night: Night) -> None:
    (damaged,) = stored(site, "raw/20260110/nmcam_00000012_02.fits")
    flip_bit(damaged)
    turns = run_campaign(site, CCD / "science-n1.yaml")
    states = {line.unit: line.state for line in job_lines(site, "science-n1")}
    assert states == {
        "exposure=11,detector=1": JobState.DONE,
        "exposure=11,detector=2": JobState.DONE,
        "exposure=12,detector=1": JobState.DONE,
        "exposure=12,detector=2": JobState.FAILED,
    }
    (failed,) = [line for line in job_lines(site, "science-n1") if line.state is JobState.FAILED]
    assert (failed.step, failed.fate) == ("reduce", "step_failed")
    assert "reduce: nmcam_00000012_02.fits was damaged after it was written" in failed.evidence
    assert turns["exposure"].turn is Turn.BLOCKED

    flip_bit(damaged)
    run_again(site, "science-n1")
    lines = {line.unit: line for line in job_lines(site, "science-n1")}
    assert {line.state for line in lines.values()} == {JobState.DONE}
    assert lines["exposure=12,detector=2"].attempts == 2
    assert lines["exposure=12,detector=1"].attempts == 1
    assert set(lines) >= {"exposure=11", "exposure=12"}

    truth = Table.read(night.truth)
    catalogs = stored(site, "science-n1/exposure/*_catalog_*.fits")
    results = [result for catalog in catalogs for result in compare(catalog, truth)]
    assert [(result.exposure, result.detector) for result in results] == [(11, 1), (11, 2), (12, 1), (12, 2)]
    assert [problem for result in results for problem in result.problems()] == []
    assert stored(site, "**/*_cleaned_*") == []
