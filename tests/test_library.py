"""A site for notebooks: the same answers as the commands give, as tables."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import nightmill
from nightmill.config.campaign import load_campaign
from nightmill.errors import ExpressionError, PlanRefused, RequestRefused, ServerAway, UnknownName
from nightmill.library import Site
from nightmill.model.origin import Origin
from nightmill.operations import init, site, slice_work
from nightmill.operations.ingest.take_in import ingest
from nightmill.operations.submit import submit
from tests.docs.pages import DOCS, Page
from tests.support.observatory import FILE_TYPES, deliver

PIPELINE = """\
pipeline: copying
version: "1.0"
stages:
  copy:
    per: [exposure]
    inputs: {frame: {type: raw_science}}
    steps:
      - name: copy
        argv: [cp, "{inputs.frame}", "{outputs.copy}"]
        inputs: [frame]
        outputs: {copy: {type: copied}}
"""
MORE_TYPES = '  copied: {template: "copy_{exposure:04d}_c{campaign:04d}a{attempt:02d}.fits"}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a site with three frames, one of them without a target, and a campaign over them."""
    types = tmp_path / "types.yaml"
    types.write_text(
        FILE_TYPES.replace("      night:", "      target: {keywords: [OBJECT]}\n      night:") + MORE_TYPES
    )
    folder = tmp_path / "site"
    with init.make_site(folder, file_types=types) as made:
        ingest(made, deliver(tmp_path / "night", 2), type="raw_science", origin=Origin.RAW)
        [last] = deliver(tmp_path / "more", 3, OBJECT=None)[2:]
        ingest(made, [last], type="raw_science", origin=Origin.RAW)
    (folder / "pipeline.yaml").write_text(PIPELINE)
    (folder / "first.yaml").write_text("campaign: first\npipeline: pipeline.yaml\n")
    return folder


@pytest.fixture
def opened(folder: Path) -> Iterator[Site]:
    """Give the site, opened as a notebook does."""
    with nightmill.open_site(folder) as opened:
        yield opened


def carry_out(folder: Path) -> None:
    with site.open_site(folder) as opened:
        submit(opened, load_campaign(folder / "first.yaml"))
        with slice_work.SliceWork(opened, "first", "copy", 0) as work:
            while orders := work.issue(10):
                work.record(list(work.worker.run(orders)))


@pytest.mark.req("X23")
def test_files_are_a_table_with_their_metadata(opened: Site) -> None:
    found = opened.find(type="raw_science", where="exposure > 1")
    assert list(found["name"]) == ["cam_0002.fits", "cam_0003.fits"]
    assert list(found["exposure"]) == [2, 3]
    assert list(found["target"].mask) == [False, True]
    assert found["begins_at"][0] == np.datetime64("2026-01-11T03:12:45")
    frame = found.to_pandas()
    assert frame["exposure_seconds"].tolist() == [30.0, 30.0]
    assert str(frame["begins_at"].dtype).startswith("datetime64")
    assert len(opened.find(type="copied")) == 0
    with pytest.raises(UnknownName, match="did you mean 'raw_science'"):
        opened.find(type="raw_scienc")
    with pytest.raises(ExpressionError):
        opened.find(where="exposure >")


@pytest.mark.req("X23")
def test_a_plan_is_a_row_a_file_and_writes_nothing(opened: Site, folder: Path) -> None:
    planned = opened.plan(folder / "first.yaml")
    assert list(planned["unit"]) == ["exposure=1", "exposure=2", "exposure=3"]
    assert set(planned["role"]) == {"frame"}
    assert len(opened.status()) == 0
    with pytest.raises(PlanRefused):
        opened.plan(folder / "first.yaml", settings=["where=exposure > 10"])


@pytest.mark.req("X23")
def test_what_was_made_is_told_as_by_the_commands(opened: Site, folder: Path) -> None:
    carry_out(folder)
    [row] = opened.status("first")
    assert (row["stage"], row["jobs"], row["done"], row["failed"]) == ("copy", 3, 3, 0)
    name = "copy_0001_c0001a01.fits"
    story = opened.why(name)
    assert story.maker is not None
    assert [(each.role, each.name) for each in story.maker.inputs] == [("frame", "cam_0001.fits")]
    edges = opened.lineage(name)
    assert sorted(edges["file"]) == ["cam_0001.fits", name]
    assert opened.lineage("cam_0001.fits", "down")["kept"].all()
    counted = opened.sql("SELECT type, count(*) AS files FROM file GROUP BY type ORDER BY type")
    assert dict(counted.iterrows()) == {"bundle": 1, "copied": 3, "log": 3, "raw_science": 3}
    with pytest.raises(RequestRefused):
        opened.sql("DELETE FROM file")
    with pytest.raises(UnknownName):
        opened.why("copy_9999.fits")


def test_a_campaign_is_not_written_where_nobody_would_carry_it_out(opened: Site, folder: Path) -> None:
    with pytest.raises(ServerAway, match="nightmill server start"):
        opened.submit(folder / "first.yaml")
    assert len(opened.status()) == 0


def test_importing_nightmill_costs_nothing() -> None:
    code = "import sys, nightmill; print({'astropy', 'sqlalchemy', 'prefect', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_what_the_guide_shows_can_be_done(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carry_out(folder)
    [code] = [fence.text for fence in Page(DOCS / "how-to" / "notebook.md").fences if fence.info == "python"]
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    exec(code.replace('"mysite"', repr(str(folder))), names)
    assert isinstance(names["site"], Site)
    names["site"].close()
