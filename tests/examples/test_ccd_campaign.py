from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from astropy.table import Table
from sqlalchemy import func, select, text

from examples.ccd.check import compare
from examples.ccd.damage import flip_bit
from nightmill.backbone.schema import FileRow
from nightmill.backbone.work.campaigns import JobLine
from nightmill.model.states import JobState
from nightmill.operations.init import make_site
from nightmill.operations.site import Site
from nightmill.operations.turns import StageTurn, Turn
from tests.examples.campaigns import job_lines, run_again, run_campaign, take_in
from tests.examples.programs import EXAMPLES, Night

CCD = EXAMPLES / "ccd"
ANCESTORS = """
    WITH RECURSIVE ancestor(id) AS (
        SELECT id FROM file WHERE name = :name
        UNION
        SELECT input_use.file_id FROM ancestor
        JOIN generation ON generation.file_id = ancestor.id
        JOIN input_use ON input_use.execution_id = generation.execution_id
    )
    SELECT name FROM ancestor JOIN file ON file.id = ancestor.id WHERE name <> :name
"""
REPLICAS = """
    SELECT type, count(replica.id) FROM file LEFT JOIN replica ON replica.file_id = file.id
    WHERE type IN ('cleaned', 'reduced') GROUP BY file.id
"""


@pytest.fixture(scope="module")
def site(night: Night, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Give a site with the frames of detectors 1 and 2, calibrated."""
    with make_site(tmp_path_factory.mktemp("ccd") / "site", file_types=CCD / "file_types.yaml") as site:
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


@dataclass(frozen=True)
class Science:
    """The science campaign: after a run in which one raw frame was damaged, and after a rerun with the good one."""

    first: dict[str, JobLine]
    turns: dict[str, StageTurn]
    last: dict[str, JobLine]


@pytest.fixture(scope="module")
def science(site: Site) -> Science:
    (damaged,) = stored(site, "raw/20260110/nmcam_00000012_02.fits")
    flip_bit(damaged)
    turns = run_campaign(site, CCD / "science-n1.yaml")
    first = {line.name: line for line in job_lines(site, "science-n1")}
    flip_bit(damaged)
    run_again(site, "science-n1")
    return Science(first, turns, {line.name: line for line in job_lines(site, "science-n1")})


def test_damaged_frame_fails_its_job_alone_with_the_words_of_the_program(science: Science) -> None:
    assert {name: line.state for name, line in science.first.items()} == {
        "detector/exposure=11,detector=1": JobState.DONE,
        "detector/exposure=11,detector=2": JobState.DONE,
        "detector/exposure=12,detector=1": JobState.DONE,
        "detector/exposure=12,detector=2": JobState.FAILED,
    }
    failed = science.first["detector/exposure=12,detector=2"]
    assert (failed.step, failed.fate) == ("reduce", "step_failed")
    assert "reduce: nmcam_00000012_02.fits was damaged after it was written" in failed.evidence
    assert science.turns["exposure"].turn is Turn.BLOCKED


@pytest.mark.req("B18")
def test_rerun_tries_only_what_failed_under_the_next_number(site: Site, science: Science) -> None:
    assert {name: (line.state, line.attempts) for name, line in science.last.items()} == {
        "detector/exposure=11,detector=1": (JobState.DONE, 1),
        "detector/exposure=11,detector=2": (JobState.DONE, 1),
        "detector/exposure=12,detector=1": (JobState.DONE, 1),
        "detector/exposure=12,detector=2": (JobState.DONE, 2),
        "exposure/instrument=nmcam,exposure=11": (JobState.DONE, 1),
        "exposure/instrument=nmcam,exposure=12": (JobState.DONE, 1),
    }
    logs = [path.name for path in stored(site, "science-n1/detector/*_12-2_*.log")]
    assert logs == [f"ccd-science_detector_12-2_c0002a0{attempt}.log" for attempt in (1, 2)]
    catalogs = [path.name for path in stored(site, "science-n1/detector/*_00000012_02_catalog_*")]
    assert catalogs == ["nmcam_00000012_02_catalog_c0002a02.fits"]


@pytest.mark.usefixtures("science")
def test_catalogues_agree_with_the_known_stars(site: Site, night: Night) -> None:
    truth = Table.read(night.truth)
    catalogs = stored(site, "science-n1/exposure/*_catalog_*.fits")
    results = [result for catalog in catalogs for result in compare(catalog, truth)]
    assert [(result.exposure, result.detector) for result in results] == [(11, 1), (11, 2), (12, 1), (12, 2)]
    assert [problem for result in results for problem in result.problems()] == []


@pytest.mark.req("B06")
@pytest.mark.usefixtures("science")
def test_quality_is_delivered_to_the_working_area_and_not_registered(site: Site) -> None:
    area = site.config.directory / "areas" / "quicklook"
    names = sorted(path.name for path in area.rglob("*.json"))
    assert names == [
        f"nmcam_{exposure:08d}_0{detector}_quality_c0002a0{attempt}.json"
        for exposure, detector, attempt in ((11, 1, 1), (11, 2, 1), (12, 1, 1), (12, 2, 2))
    ]
    assert stored(site, "**/*_quality_*") == []
    with site.database.reading() as session:
        assert session.scalar(select(func.count()).where(FileRow.type == "quality")) == 0


@pytest.mark.req("B36", "B38")
@pytest.mark.usefixtures("science")
def test_chain_from_raw_to_catalogue_passes_through_the_frame_that_is_gone(site: Site) -> None:
    assert stored(site, "**/*_cleaned_*") == []
    with site.database.reading() as session:
        found = session.execute(text(ANCESTORS), {"name": "nmcam_00000011_catalog_c0002a01.fits"}).all()
        replicas = {(name, count) for name, count in session.execute(text(REPLICAS))}
        metadata = session.execute(select(FileRow).where(FileRow.type == "cleaned")).scalars().first()
    assert {name for (name,) in found} == {
        *(f"nmcam_00000011_0{detector}_{kind}_c0002a01.fits" for detector in (1, 2) for kind in ("catalog", "cleaned")),
        *(f"nmcam_00000011_0{detector}.fits" for detector in (1, 2)),
        *(f"nmcam_0{detector}_{master}_c0001a01.fits" for detector in (1, 2) for master in ("bias", "g_flat")),
        *(f"nmcam_{exposure:08d}_0{detector}.fits" for detector in (1, 2) for exposure in range(1, 8)),
    }
    assert replicas == {("cleaned", 0), ("reduced", 1)}
    assert metadata is not None
    assert metadata.attributes["cosmic_ray_pixels"] > 0
