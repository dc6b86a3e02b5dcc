"""The pipeline's folder goes with its orders: packed at submit, in the store and the catalogue, used from then on."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import select

from nightmill.backbone.schema import CampaignRow, FileRow, JobRow
from nightmill.config.campaign import load_campaign
from nightmill.errors import PlanRefused, RequestRefused, StoreError
from nightmill.model.bundle import bundle_name, compare
from nightmill.model.campaign import Campaign
from nightmill.model.order import JobOrder
from nightmill.model.origin import Origin
from nightmill.model.states import JobState
from nightmill.operations.bundle import differences, manifest, opened_bundle, pack, sealed_bundle
from nightmill.operations.edited import Folder
from nightmill.operations.ingest.take_in import ingest
from nightmill.operations.preview import preview
from nightmill.operations.rerun import rerun
from nightmill.operations.site import Site, open_site
from nightmill.operations.slice_work import SliceWork
from nightmill.operations.submit import submit
from nightmill.operations.turns import take_turn
from tests.support.observatory import deliver, stored

STAGE: dict[str, Any] = {
    "per": ["exposure"],
    "inputs": {"frame": {"type": "raw_science"}},
    "steps": [
        {
            "name": "measure",
            "argv": ["sh", "{pipeline_dir}/measure.sh", "{outputs.part}", "{inputs.frame}"],
            "inputs": ["frame"],
            "outputs": {"part": {"type": "part"}},
        }
    ],
}
AGAIN: dict[str, Any] = {
    "per": ["exposure"],
    "inputs": {"part": {"type": "part", "source": {"stage": "measure"}}},
    "steps": [
        {
            "name": "again",
            "argv": ["sh", "{pipeline_dir}/measure.sh", "{outputs.whole}"],
            "inputs": ["part"],
            "outputs": {"whole": {"type": "whole"}},
        }
    ],
}
TYPES = """
  part: {template: "part_{exposure:04d}_c{campaign:04d}a{attempt:02d}.txt"}
  whole: {template: "whole_{exposure:04d}_c{campaign:04d}a{attempt:02d}.txt"}
"""


def campaign_in(folder: Path, script: str, *, name: str = "night1", **more: Any) -> Campaign:
    """Write a pipeline with a step that is a script of its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pipeline = {"pipeline": "p", "version": "1", "stages": {"measure": STAGE, "again": AGAIN}, **more}
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(pipeline, sort_keys=False))
    (folder / "measure.sh").write_text(script)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"campaign": name, "pipeline": "pipeline.yaml"}))
    return load_campaign(folder / f"{name}.yaml")


@pytest.fixture
def observatory(lite_site: Site, tmp_path: Path) -> Site:
    """Give a site with two frames."""
    return filled(lite_site, tmp_path)


def filled(site: Site, folder: Path) -> Site:
    types = site.config.directory / "file_types.yaml"
    types.write_text(types.read_text() + TYPES)
    site.close()
    opened = open_site(site.config.directory)
    ingest(opened, deliver(folder / "night", 2), type="raw_science", origin=Origin.RAW, who="ada")
    return opened


def carry_out(site: Site, stage: str, name: str = "night1") -> list[JobOrder]:
    carried: list[JobOrder] = []
    for number in take_turn(site, name, stage).slices:
        with SliceWork(site, name, stage, number) as work:
            while orders := work.issue(10):
                work.record(list(work.worker.run(orders)))
                carried += orders
    return carried


def states(site: Site) -> set[str]:
    with site.database.reading() as session:
        return set(session.scalars(select(JobRow.state)))


def test_jobs_run_what_was_submitted_on_a_host_that_does_not_see_the_folder(observatory: Site, tmp_path: Path) -> None:
    folder = tmp_path / "pipeline"
    submit(observatory, campaign_in(folder, 'test -e /tmp/never || echo submitted > "$1"\n'), who="ada")
    shutil.rmtree(folder)
    [order, _] = carry_out(observatory, "measure")
    assert order.pipeline_dir == str(folder)
    assert order.steps[0].argv[1] == "../bundle/measure.sh"
    carry_out(observatory, "again")
    assert states(observatory) == {JobState.DONE.value}
    texts = {path: text for path, text in stored(observatory.config.directory).items() if path.endswith(".txt")}
    assert sorted(texts.values()) == [b"submitted\n"] * 4


def test_a_retry_and_a_later_stage_run_what_was_submitted(observatory: Site, tmp_path: Path) -> None:
    folder, broken = tmp_path / "pipeline", tmp_path / "broken"
    broken.touch()
    script = f'test -e {broken} && exit 3; echo submitted > "$1"\n'
    submit(observatory, campaign_in(folder, script), who="ada")
    first = carry_out(observatory, "measure")
    assert states(observatory) == {JobState.FAILED.value}
    broken.unlink()
    (folder / "measure.sh").write_text('echo edited > "$1"\n')
    rerun(observatory, "night1", who="ada", why="mended", folder=Folder.AS_SUBMITTED)
    retried = carry_out(observatory, "measure")
    later = carry_out(observatory, "again")
    assert {order.bundle for order in (*retried, *later)} == {first[0].bundle}
    texts = {path: text for path, text in stored(observatory.config.directory).items() if path.endswith(".txt")}
    assert sorted(texts.values()) == [b"submitted\n"] * 4


def test_the_archive_is_catalogued_with_where_it_comes_from(observatory: Site, tmp_path: Path) -> None:
    campaign = campaign_in(tmp_path / "pipeline", "true\n")
    submit(observatory, campaign, who="ada")
    packed = pack(campaign.pipeline, observatory.config)
    assert packed is not None
    with observatory.database.reading() as session:
        [row] = session.scalars(select(FileRow).where(FileRow.type == "bundle"))
        number = session.scalars(select(CampaignRow.id)).one()
        assert sealed_bundle(session, number) == packed.sealed
    assert (row.name, row.sha256, row.size_bytes) == (bundle_name(packed.digest), packed.digest, packed.size_bytes)
    assert row.provenance == f"pipeline p 1, packed from {tmp_path / 'pipeline'}"
    assert manifest(observatory, packed.sealed) == packed.files
    assert [file.path for file in packed.files] == ["measure.sh", "pipeline.yaml"]


def test_a_preview_writes_nothing_and_shows_the_orders_of_the_submit(observatory: Site, tmp_path: Path) -> None:
    campaign = campaign_in(tmp_path / "pipeline", "true\n")
    before = stored(observatory.config.directory)
    planned = preview(observatory, campaign)
    assert stored(observatory.config.directory) == before
    submit(observatory, campaign, who="ada")
    with observatory.database.reading() as session:
        assert planned.stages[0].common.bundle == sealed_bundle(session, 1)


def test_two_submits_at_once_share_one_archive(site: Site, tmp_path: Path) -> None:
    opened = filled(site, tmp_path)
    names = [f"night{number}" for number in range(4)]
    campaigns = [campaign_in(tmp_path / "pipeline", "true\n", name=name) for name in names]
    errors: list[BaseException] = []

    def go(campaign: Campaign) -> None:
        try:
            submit(opened, campaign, who="ada")
        except BaseException as error:  # noqa: BLE001 - the test wants to see it
            errors.append(error)

    threads = [threading.Thread(target=go, args=(campaign,)) for campaign in campaigns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len([path for path in stored(opened.config.directory) if "bundles/" in path]) == 1
    with opened.database.reading() as session:
        assert len(list(session.scalars(select(FileRow.id).where(FileRow.type == "bundle")))) == 1
    opened.close()


def test_an_archive_of_an_interrupted_submit_is_adopted_and_a_damaged_one_told(
    observatory: Site, tmp_path: Path
) -> None:
    campaign = campaign_in(tmp_path / "pipeline", "true\n")
    archive = tmp_path / "bundle.tar"
    packed = pack(campaign.pipeline, observatory.config, archive)
    assert packed is not None
    place = observatory.config.directory / "stores" / "backbone" / packed.path
    place.parent.mkdir()
    place.write_bytes(b"damaged")
    with pytest.raises(StoreError, match=r"bundles/\w+\.tar in store 'backbone' is damaged"):
        submit(observatory, campaign, who="ada")
    place.write_bytes(archive.read_bytes())
    submit(observatory, campaign, who="ada")


def test_what_cannot_be_planned_leaves_no_archive(observatory: Site, tmp_path: Path) -> None:
    campaign = campaign_in(tmp_path / "pipeline", "true\n")
    before = stored(observatory.config.directory)
    with pytest.raises(PlanRefused):
        submit(observatory, campaign.model_copy(update={"where": "exposure == 99"}), who="ada")
    assert stored(observatory.config.directory) == before


def test_a_folder_that_is_too_large_stops_plan_and_submit(observatory: Site, tmp_path: Path) -> None:
    campaign = campaign_in(tmp_path / "pipeline", "true\n", bundle={"max_mb": 0.001})
    (tmp_path / "pipeline" / "data.fits").write_bytes(b"x" * 5000)
    for do in (lambda: preview(observatory, campaign), lambda: submit(observatory, campaign, who="ada")):
        with pytest.raises(RequestRefused, match=r"at most 0\.001 MB.*The largest:\n  - data\.fits: 0\.005 MB"):
            do()
    submit(observatory, campaign_in(tmp_path / "pipeline", "true\n", bundle={"exclude": ["*.fits"]}), who="ada")


def test_a_site_in_the_folder_is_not_packed(observatory: Site) -> None:
    campaign = campaign_in(observatory.config.directory, "true\n")
    packed = pack(campaign.pipeline, observatory.config)
    assert packed is not None
    assert [file.path for file in packed.files] == ["measure.sh", "pipeline.yaml"]
    submit(observatory, campaign, who="ada")
    carry_out(observatory, "measure")
    assert pack(campaign.pipeline, observatory.config) == packed


def test_what_was_edited_since_is_found(observatory: Site, tmp_path: Path) -> None:
    folder = tmp_path / "pipeline"
    campaign = campaign_in(folder, "one\ntwo\n")
    (folder / "data.bin").write_bytes(b"\0\1")
    submit(observatory, campaign, who="ada")
    (folder / "measure.sh").write_text("one\nthree\n")
    (folder / "data.bin").write_bytes(b"\0\2")
    (folder / "new.txt").write_text("new\n")
    after = pack(campaign.pipeline, observatory.config, tmp_path / "now.tar")
    assert after is not None
    with observatory.database.reading() as session:
        before = sealed_bundle(session, 1)
    assert before is not None
    changes = compare(manifest(observatory, before), after.files)
    assert (changes.added, changes.changed, changes.removed) == (("new.txt",), ("data.bin", "measure.sh"), ())
    with opened_bundle(observatory, before) as old, (tmp_path / "now.tar").open("rb") as new:
        assert differences(old, new, changes).splitlines() == [
            "files a/data.bin and b/data.bin differ",
            "--- a/measure.sh", "+++ b/measure.sh", "@@ -1,2 +1,2 @@", " one", "-two", "+three",
            "--- /dev/null", "+++ b/new.txt", "@@ -0,0 +1 @@", "+new",
        ]  # fmt: skip


def test_the_commit_of_a_repository_is_told_with_whether_it_has_changes(observatory: Site, tmp_path: Path) -> None:
    folder = tmp_path / "repository" / "pipeline"
    campaign = campaign_in(folder, "true\n")

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")
        return subprocess.run(
            ["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    def state() -> tuple[str, bool]:
        packed = pack(campaign.pipeline, observatory.config)
        assert packed is not None
        return packed.commit, packed.dirty

    assert state() == ("", False)
    git("init", "--quiet", "..")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert state() == (commit, False)
    (folder.parent / "elsewhere").write_text("x")
    (folder / "step.py~").write_text("x")
    assert state() == (commit, False)
    (folder / "lib").mkdir()
    (folder / "lib" / "new.py").write_text("x")
    assert state() == (commit, True)
    shutil.rmtree(folder / "lib")
    (folder / "measure.sh").write_text("false\n")
    assert state() == (commit, True)
    submit(observatory, campaign, who="ada")
    with observatory.database.reading() as session:
        told = session.scalars(select(FileRow.provenance).where(FileRow.type == "bundle")).one()
    assert str(told).endswith(f"git commit {commit} with changes")


def templated(folder: Path, text: str) -> Campaign:
    """Write a pipeline whose first step reads a file that is made from a template of its folder."""
    measure = {**STAGE, "steps": [{
        **STAGE["steps"][0],
        "argv": ["cp", "{files.conf.ini}", "{outputs.part}"],
        "files": {"conf.ini": {"template": "templates/conf.j2"}},
    }]}  # fmt: skip
    (folder / "templates").mkdir(parents=True, exist_ok=True)
    (folder / "templates" / "conf.j2").write_text(text)
    return campaign_in(folder, ": > $1\n", stages={"measure": measure, "again": AGAIN})


@pytest.mark.req("X09", "X04")
def test_a_template_is_that_of_the_bundle_until_its_edit_is_asked_for(observatory: Site, tmp_path: Path) -> None:
    folder, broken = tmp_path / "pipeline", "exposure {{ unit.exposure }}: first\n"
    submit(observatory, templated(folder, broken), who="ada")
    (folder / "templates/conf.j2").write_text("exposure {{ unit.exposure }}: second\n")
    [first, _] = carry_out(observatory, "measure")
    assert first.steps[0].files[0].text.endswith(": first\n")
    with pytest.raises(RequestRefused, match=r"changed templates/conf.j2"):
        rerun(observatory, "night1", who="ada", why="a better template")
    rerun(observatory, "night1", who="ada", why="a better template", folder=Folder.EDITED)
    later = carry_out(observatory, "again")
    assert {order.bundle for order in later}.isdisjoint({first.bundle})


def test_a_template_that_is_not_packed_is_told_with_a_guess(observatory: Site, tmp_path: Path) -> None:
    folder = tmp_path / "pipeline"
    campaign = templated(folder, "x\n")
    (folder / "templates/conf.j2").rename(folder / "templates/conf.ini.j2")
    with pytest.raises(RequestRefused, match=r"template 'templates/conf.j2' is not in the bundle of .* \(did you mean"):
        preview(observatory, campaign)
    (folder / "templates/conf.j2").write_bytes(b"\xff\xfe")
    with pytest.raises(RequestRefused, match=r"templates/conf.j2' of .* is not UTF-8"):
        preview(observatory, campaign)


def test_a_template_that_cannot_be_filled_in_refuses_the_plan(observatory: Site, tmp_path: Path) -> None:
    with pytest.raises(PlanRefused, match=r"'dict object' has no attribute 'exposur'"):
        submit(observatory, templated(tmp_path / "pipeline", "{{ unit.exposur }}\n"), who="ada")
