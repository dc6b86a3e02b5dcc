"""Campaigns of the examples, conducted in this process: every layer but Prefect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from examples.ccd.simulate import plan_night, simulate
from nightmill.backbone.work import campaigns
from nightmill.backbone.work.campaigns import JobLine
from nightmill.config.campaign import load_campaign
from nightmill.engines.threads import Chunk, ThreadsEngine
from nightmill.model.origin import Origin
from nightmill.model.report import JobReport
from nightmill.operations.ingest.take_in import ingest
from nightmill.operations.init import make_site
from nightmill.operations.rerun import rerun
from nightmill.operations.site import Site
from nightmill.operations.slice_work import SliceWork
from nightmill.operations.submit import submit
from nightmill.operations.turns import StageTurn, Turn, take_turn
from tests.examples.programs import EXAMPLES

CCD = EXAMPLES / "ccd"
CCD_CAMPAIGNS = ("calibrations-n1", "science-n1")
Frames = Mapping[str, Sequence[Path]]
"""Raw files by their kinds."""


def tiny_night(folder: Path) -> Frames:
    """Simulate one exposure of a night with what it needs; of the camera's detectors, two are used."""
    exposures = plan_night(20260110, seed=7, first=1, biases=3, flats=3, exposures=1, seconds=60.0)
    for _ in simulate([each for each in exposures if each.band != "r"], folder, seed=7):
        pass
    kinds = ("bias", "flat", "science")
    return {kind: sorted(path for path in (folder / kind).iterdir() if path.stem[-1] in "12") for kind in kinds}


def ccd_site(folder: Path, frames: Frames, *, url: str = "", database: str = "", more: str = "") -> Site:
    """Make a site of the simulated camera with raw files, and open it.

    Parameters
    ----------
    url
        Where its files are kept, where that is not in a folder.
    database
        The URL of its catalogue, where that is not SQLite.
    more
        Further keys of its configuration.
    """
    make_site(folder, database=database, file_types=CCD / "file_types.yaml").close()
    config = folder / "nightmill.yaml"
    text = config.read_text() + more
    config.write_text(text.replace("url: stores/backbone", f'url: "{url}"') if url else text)
    site = make_site(folder)
    for kind, paths in frames.items():
        take_in(site, list(paths), f"raw_{kind}")
    return site


def take_in(site: Site, paths: list[Path], file_type: str) -> None:
    """Ingest raw files, none of which may be refused."""
    result = ingest(site, paths, type=file_type, origin=Origin.RAW, who="tester")
    assert [refused.message for refused in result.refused] == []
    assert len(result.registered) == len(paths)


def run_campaign(site: Site, path: Path, *settings: str) -> dict[str, StageTurn]:
    """Submit a campaign and carry out each stage whose turn it is."""
    campaign = load_campaign(path, settings)
    submit(site, campaign, who="tester")
    return conduct(site, campaign.name)


def run_again(site: Site, name: str) -> dict[str, StageTurn]:
    """Rerun what is not published."""
    rerun(site, name, who="tester", why="mended")
    return conduct(site, name)


def conduct(site: Site, name: str) -> dict[str, StageTurn]:
    """Carry out each stage of a campaign whose turn it is."""
    with site.database.reading() as session:
        stages = [stage.stage for stage in campaigns.progress(session, campaigns.campaign_named(session, name).id)]
    turns = {}
    for stage in stages:
        turns[stage] = turn = take_turn(site, name, stage)
        for number in turn.slices if turn.turn is Turn.READY else ():
            with SliceWork(site, name, stage, number) as work:
                _carry_out(work)
    return turns


def _carry_out(work: SliceWork) -> None:
    def carry_out(chunk: Chunk) -> list[JobReport]:
        return list(work.place.run(chunk))

    while orders := work.issue(1000):
        for report in ThreadsEngine(carry_out, threads=2).run(orders):
            work.record([report])


def job_lines(site: Site, name: str) -> list[JobLine]:
    """Give every job of a campaign."""
    with site.database.reading() as session:
        return list(campaigns.jobs(session, campaigns.campaign_named(session, name).id))
