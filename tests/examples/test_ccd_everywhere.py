"""The same campaign on every engine, with every kind of store: the records agree."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text

from nightmill.execution.journal import read_journal, recorded_journals
from nightmill.operations.site import open_site
from tests.examples.campaigns import CCD, CCD_CAMPAIGNS, Frames, ccd_site, run_campaign, tiny_night
from tests.support.records import Record, differences, record_of
from tests.support.seaweed import KEYS, SeaweedServer

JOBS = 7
ENGINES = """
engines:
  cluster: {kind: dask, workers: 2}
  farm: {kind: slurm, look_seconds: 0.25, export: [SLURM_CONF, S3_KEY, S3_SECRET]}
"""


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Frames:
    return tiny_night(tmp_path_factory.mktemp("night"))


def conducted(folder: Path, frames: Frames, engine: str, url: str = "") -> Record:
    """Run both campaigns at a site of their own, and return its record."""
    with ccd_site(folder, frames, url=url, more=ENGINES) as site:
        for name in CCD_CAMPAIGNS:
            run_campaign(site, CCD / f"{name}.yaml", f"execution.engine={engine}")
        record = record_of(site)
    assert len(record["attempt"]) == JOBS
    return record


@pytest.fixture(scope="module")
def plain(frames: Frames, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a site where threads did it, with files in folders."""
    return tmp_path_factory.mktemp("threads") / "site"


@pytest.fixture(scope="module")
def reference(frames: Frames, plain: Path) -> Record:
    """Give the record of that site."""
    return conducted(plain, frames, "threads")


@pytest.fixture
def bucket(seaweed: SeaweedServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the URL of a store in a bucket, as a site's configuration has it."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return seaweed.url_with_keys()


@pytest.mark.req("X27")
@pytest.mark.parametrize(
    ("engine", "store"),
    [("threads", "bucket"), *((engine, store) for engine in ("cluster", "farm") for store in ("folder", "bucket"))],
)
def test_records_agree(
    engine: str,
    store: str,
    frames: Frames,
    reference: Record,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    if engine == "farm":
        request.getfixturevalue("cluster")
    url = request.getfixturevalue("bucket") if store == "bucket" else ""
    assert differences(reference, conducted(tmp_path / "site", frames, engine, url)) == []
    journals = [read_journal(path) for path in recorded_journals(tmp_path / "site" / "spool")]
    dispatched = [journal for journal in journals if journal.header and journal.header.dispatch]
    assert len(dispatched) == (0 if engine == "threads" else JOBS), "each was carried out where it was to be"


@pytest.mark.usefixtures("reference")
def test_a_record_that_does_not_agree_is_told(plain: Path) -> None:
    with open_site(plain) as site:
        before = record_of(site)
        site.database.write(
            lambda session: session.execute(text("UPDATE input_use SET role = 'dark' WHERE role = 'bias'"))
        )
        found = differences(before, record_of(site))
    assert [line.partition("{")[0] for line in found] == ["- input_use: "] * 4 + ["+ input_use: "] * 4
