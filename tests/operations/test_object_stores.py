"""A site whose backbone is in object storage: what it does and records is what one with folders does and records."""

from __future__ import annotations

import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
import pytest

from nightmill.clock import utc_now
from nightmill.config.campaign import load_campaign
from nightmill.model.origin import Origin
from nightmill.operations.ingest.placement import Mode
from nightmill.operations.ingest.take_in import ingest
from nightmill.operations.init import make_site
from nightmill.operations.retain import retain
from nightmill.operations.site import Site, open_site
from nightmill.operations.slice_work import SliceWork
from nightmill.operations.submit import submit
from stagers.objects import PROBE, ObjectStager
from tests.cli.conftest import Nightmill, nightmill
from tests.stagers.buckets import Careless, serving
from tests.support.backbone import results
from tests.support.observatory import FILE_TYPES, deliver
from tests.support.seaweed import KEYS, SECRET, SeaweedServer

__all__ = ["nightmill"]

TYPES = FILE_TYPES + '  copied: {template: "copy_{exposure:04d}_c{campaign:04d}a{attempt:02d}.fits"}\n'
PIPELINE = """\
pipeline: copying
version: "1.0"
stages:
  copy:
    per: [exposure]
    keep_on_failure: true
    inputs: {frame: {type: raw_science}}
    steps:
      - name: copy
        argv: [cp, "{inputs.frame}", "{outputs.copy}"]
        inputs: [frame]
        outputs: {copy: {type: copied}}
      - name: look
        argv: [sh, "{pipeline_dir}/look.sh", "{inputs.frame}"]
        inputs: [frame]
"""
LOOK = 'case "$1" in *0003*) echo "no stars"; exit 1;; esac\n'


def make(folder: Path, url: str = "", *, frames: int = 3, begin: bool = True) -> Path:
    """Make a site with some frames, and carry out a campaign of which one job fails, or only submit it."""
    types = folder / "types.yaml"
    folder.mkdir()
    types.write_text(TYPES)
    site = folder / "site"
    make_site(site, file_types=types).close()
    if url:
        config = site / "nightmill.yaml"
        text = config.read_text().replace("url: stores/backbone", f'url: "{url}"').replace("verify: size", "#")
        config.write_text(text)
        make_site(site).close()
    deliver(folder / "night", frames)
    (folder / "pipeline").mkdir()
    (folder / "pipeline" / "pipeline.yaml").write_text(PIPELINE)
    (folder / "pipeline" / "look.sh").write_text(LOOK)
    (folder / "first.yaml").write_text("campaign: first\npipeline: pipeline/pipeline.yaml\n")
    with open_site(site) as opened:
        taken = ingest(opened, [folder / "night"], type="raw_science", origin=Origin.RAW, mode=Mode.MOVE)
        assert (len(taken.registered), taken.left, list((folder / "night").iterdir())) == (frames, [], [])
        submit(opened, load_campaign(folder / "first.yaml"))
        if begin:
            carry_out(opened)
    return site


def carry_out(site: Site) -> None:
    with SliceWork(site, "first", "copy", 0) as work:
        while orders := work.issue(10):
            work.record(list(work.worker.run(orders)))


def recorded(folder: Path) -> dict[str, Any]:
    with open_site(folder) as site, site.database.reading() as session:
        return results(session)


def client_of(site: Site) -> Any:
    stager = site.stagers["backbone"]
    assert isinstance(stager, ObjectStager)
    return stager.endpoint.client


def contents(site: Site) -> dict[str, bytes]:
    """Return all objects of a site's backbone."""
    client = client_of(site)
    keys = [found["path"] for batch in obstore.list(client) for found in batch]
    return {key: bytes(obstore.get(client, key).bytes()) for key in keys}


@pytest.fixture
def far(tmp_path: Path, seaweed: SeaweedServer, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a site whose backbone is a bucket."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return make(tmp_path / "far", seaweed.url_with_keys())


def test_a_bucket_gives_the_record_that_a_folder_gives(tmp_path: Path, far: Path, nightmill: Nightmill) -> None:
    near = make(tmp_path / "near")
    assert recorded(far) == recorded(near)
    with open_site(far) as site, open_site(near) as local:
        stager = site.stagers["backbone"]
        assert isinstance(stager, ObjectStager)
        assert site.config.stores["backbone"].verify == "checksum"
        assert local.config.stores["backbone"].verify == "size"
        assert list(stager.uploads()) == []
        assert sorted(path for path, _size in stager.list()) == sorted(
            path for path, _size in local.stagers["backbone"].list()
        )
    found = nightmill("doctor", "--deep", "--checksums", "--flight", "--site", far, "--json")
    wrong = [finding for finding in found.json if not finding["well"]]
    assert wrong == []
    [answers] = [finding["seen"] for finding in found.json if finding["what"] == "store backbone"]
    assert "secret_access_key=${S3_SECRET} answers" in answers
    assert SECRET not in found.out


def test_what_is_kept_in_a_bucket_is_read_shown_and_removed(tmp_path: Path, far: Path, nightmill: Nightmill) -> None:
    assert "no stars" in nightmill("logs", "first/copy/exposure=3", "--site", far).out
    folder = tmp_path / "capsule"
    told = nightmill("capsule", "first/copy/exposure=1", folder, "--link", "--site", far)
    assert (told.code, "  1 input, 0 of them linked\n" in told.out) == (0, True), "a bucket has nothing to link to"
    done = subprocess.run([folder / "run"], capture_output=True, text=True, check=False)
    assert "copy_0001_c0001a01.fits (8640 bytes)" in done.stdout + done.stderr
    with open_site(far) as site:
        held = [path for path, _size in site.stagers["backbone"].list() if "copy_0003" in path]
        assert len(held) == 1
        assert retain(site, now=utc_now() + timedelta(days=40)).held == 1
        assert [path for path, _size in site.stagers["backbone"].list() if "copy_0003" in path] == []


def test_doctor_says_that_a_bucket_lets_nobody_in(
    far: Path, nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_SECRET", "wrong")
    found = nightmill("doctor", "--site", far, "--json")
    [store] = [finding for finding in found.json if finding["what"] == "store backbone"]
    assert not store["well"]
    assert "it is not allowed: 403 Forbidden; see which keys" in store["seen"]


def test_a_bucket_that_vanishes_halts_a_campaign_and_nothing_is_lost(
    tmp_path: Path, seaweed: SeaweedServer, nightmill: Nightmill, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    seaweed.make_bucket("brief")
    folder = make(tmp_path / "far", seaweed.url_with_keys("brief"), frames=8, begin=False)
    with open_site(folder) as site, SliceWork(site, "first", "copy", 0) as work:
        work.record(list(work.worker.run(work.issue(2))))
        held = contents(site)
        seaweed.remove_bucket("brief")
        while orders := work.issue(1):
            for report in work.worker.run(orders):
                work.heed(report)
                work.record([report])
        assert "3 jobs in a row ended with store_error on host" in work.halted
        assert "the bucket does not exist; make it, or correct the url" in work.halted
        assert work.jobs().counts == {"done": 2, "failed": 3, "planned": 3}
    why = "the bucket does not exist; make it, or correct the url of the store; nightmill makes no buckets"
    assert nightmill("status", "first", "--site", folder).out.count(why) == 3
    found = nightmill("doctor", "--deep", "--site", folder)
    assert (found.code, found.out.count(why)) == (1, 2), "and none of its files is called lost"
    seaweed.make_bucket("brief")
    with open_site(folder) as site:
        for key, data in held.items():
            obstore.put(client_of(site), key, data)
        carry_out(site)
        assert list(site.stagers["backbone"].uploads()) == []
    assert recorded(folder) == recorded(make(tmp_path / "near", frames=8))
    assert nightmill("doctor", "--deep", "--checksums", "--site", folder).code == 0


def test_a_server_that_would_overwrite_is_given_no_file(tmp_path: Path, nightmill: Nightmill) -> None:
    types = tmp_path / "types.yaml"
    types.write_text(FILE_TYPES)
    site = tmp_path / "site"
    make_site(site, file_types=types).close()
    deliver(tmp_path / "night", 2)
    with serving(Careless) as place:
        config = site / "nightmill.yaml"
        url = f"s3://survey/p?endpoint={place}&skip_signature=true"
        config.write_text(config.read_text().replace("url: stores/backbone", f'url: "{url}"'))
        what = ("--type", "raw_science", "--origin", "raw", "--mode", "move")
        told = nightmill("ingest", tmp_path / "night", *what, "--site", site)
    assert told.code == 3
    assert "its endpoint ignores the header If-None-Match, and nightmill writes nothing there" in told.err
    assert len(list((tmp_path / "night").iterdir())) == 2, "they are where they were"


def test_two_who_bring_the_same_bundle_at_once_both_have_it(far: Path) -> None:
    """The second waits for what comes of the first's claim, and finds the bundle there."""
    pipeline = far.parent / "pipeline" / "look.sh"
    for number in range(3):
        pipeline.write_text(f"exit {number}\n")
        names = [f"both{number}{letter}" for letter in "ab"]
        for name in names:
            (far.parent / f"{name}.yaml").write_text(f"campaign: {name}\npipeline: pipeline/pipeline.yaml\n")
        start = threading.Barrier(2)

        def bring(name: str, start: threading.Barrier = start) -> None:
            with open_site(far) as site:
                start.wait()
                submit(site, load_campaign(far.parent / f"{name}.yaml"))

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(bring, names))
    with open_site(far) as site:
        assert len([path for path, _size in site.stagers["backbone"].list("bundles")]) == 4
        assert list(site.stagers["backbone"].uploads()) == []


def test_what_lies_in_the_bucket_already_is_registered_by_local_copies(far: Path, nightmill: Nightmill) -> None:
    copies = deliver(far.parent / "more", 2, CCDNUM=2)
    renamed = [path.rename(path.with_name(f"delivered_{number}.fits")) for number, path in enumerate(copies)]
    with open_site(far) as site:
        stager = site.stagers["backbone"]
        assert isinstance(stager, ObjectStager)
        for path, data in zip(renamed, [renamed[0].read_bytes(), b"other bytes"], strict=True):
            obstore.put(stager.endpoint.client, f"deliveries/{path.name}", data)
    what = ("--type", "raw_science", "--origin", "raw", "--folder", "deliveries")
    told = nightmill("ingest", far.parent / "more", *what, "--site", far)
    assert (told.code, "1 registered, 0 there already, 1 refused" in told.out) == (1, True)
    assert "store 'backbone' holds other bytes as 'deliveries/delivered_1.fits'" in told.err
    shown = nightmill("show", "delivered_0.fits", "--site", far).out
    assert "backbone: deliveries/delivered_0.fits (present)" in shown
    with open_site(far) as site:
        assert site.stagers["backbone"].size("deliveries/delivered_1.fits") == len(b"other bytes")
        assert list(site.stagers["backbone"].uploads()) == []


def test_what_needs_a_folder_says_so(far: Path, nightmill: Nightmill) -> None:
    deliver(far.parent / "more", 1)
    for mode, why in (("link", ", and no hard link leads there; use"), ("in-place", "; name files as they lie there:")):
        what = ("--type", "raw_science", "--origin", "raw", "--mode", mode)
        told = nightmill("ingest", far.parent / "more", *what, "--site", far)
        assert (told.code, f"store 'backbone' is not a local folder{why}" in told.err) == (2, True)


def test_nothing_but_the_probe_is_left_beside_the_files(far: Path) -> None:
    with open_site(far) as site:
        stager = site.stagers["backbone"]
        assert isinstance(stager, ObjectStager)
        batches = obstore.list(stager.endpoint.client, prefix=".nightmill")
        assert [found["path"] for batch in batches for found in batch] == [PROBE]
