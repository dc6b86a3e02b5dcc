"""The same campaign, conducted by the runners of two hosts: the record agrees with that of one process."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select

from flows.hosting.conductor import PrefectConductor
from nightmill.backbone.schema import LeaseRow
from nightmill.config.campaign import load_campaign
from nightmill.operations.site import open_site
from nightmill.operations.submit import submit
from tests.examples.campaigns import CCD, CCD_CAMPAIGNS, Frames, ccd_site, run_campaign, tiny_night
from tests.flows.conftest import conductor_at, until
from tests.support.pool import Pool, two_runners
from tests.support.postgres import PostgresServer
from tests.support.records import differences, record_of
from tests.support.seaweed import KEYS, SeaweedServer

SETTING = "execution.jobs_per_slice=1"


@pytest.fixture
def frames(tmp_path: Path) -> Frames:
    return tiny_night(tmp_path / "night")


@pytest.fixture
def pool(
    frames: Frames,
    postgres: PostgresServer,
    seaweed: SeaweedServer,
    prefect_template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Pool]:
    """Give a site that the runners of two hosts serve, with its files in a bucket."""
    database, folder = postgres.create(), tmp_path / "pool" / "site"
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    ccd_site(folder, frames, url=seaweed.url_with_keys(), database=postgres.url(database)).close()
    with two_runners(folder, prefect_template, "slices=1") as served:
        yield served
    postgres.drop(database)


def _has_ended(conductor: PrefectConductor, run: str) -> bool:
    return conductor.state(run).ended


@pytest.mark.req("X27")
def test_the_record_of_a_work_pool_agrees(pool: Pool, frames: Frames, tmp_path: Path) -> None:
    with ccd_site(tmp_path / "site", frames) as site:
        for name in CCD_CAMPAIGNS:
            run_campaign(site, CCD / f"{name}.yaml", SETTING)
        reference = record_of(site)
    for name in CCD_CAMPAIGNS:
        with open_site(pool.site) as site:
            submit(site, load_campaign(CCD / f"{name}.yaml", [SETTING]), who="tester")
            run = PrefectConductor(site).start(name).flow_run_id
        conductor = conductor_at(pool.site)
        until(partial(_has_ended, conductor, run), 120, f"the end of {name}")
        assert conductor.state(run).type == "COMPLETED"
    with open_site(pool.site) as site:
        assert differences(reference, record_of(site)) == []
        with site.database.reading() as session:
            assert len(set(session.scalars(select(LeaseRow.host)))) == 2, "both had a hand in it"
