"""Stores on other machines, as who types ``nightmill`` meets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.config.campaign import load_campaign
from nightmill.operations.site import open_site
from nightmill.operations.submit import submit
from tests.cli.conftest import Nightmill, take_in
from tests.cli.test_bad_input import CAMPAIGN, PIPELINE, RAW, TYPES
from tests.examples.campaigns import conduct
from tests.support.observatory import deliver
from tests.support.sshd import Sshd
from tests.support.web import Web


def prepare(folder: Path, *, backbone: str = "stores/backbone", more: str = "") -> None:
    """Write a site with a store elsewhere, and a campaign that counts what its frames hold."""
    text = (folder / "nightmill.yaml").read_text()
    (folder / "nightmill.yaml").write_text(text.replace("url: stores/backbone", f'url: "{backbone}"{more}'))
    (folder / "file_types.yaml").write_text((folder / "file_types.yaml").read_text() + TYPES)
    (folder / "pipeline.yaml").write_text(PIPELINE)
    (folder / "first.yaml").write_text(CAMPAIGN)


@pytest.mark.req("X29")
def test_a_campaign_whose_files_are_on_another_machine(
    folder: Path, nightmill: Nightmill, tmp_path: Path, sshd: Sshd
) -> None:
    far = tmp_path / "far"
    far.mkdir()
    prepare(folder, backbone=sshd.url(far))
    told = [nightmill("init", folder), nightmill("doctor", "--flight")]
    deliver(tmp_path / "night", 1)
    told.append(nightmill("ingest", tmp_path / "night", *RAW))
    with open_site(folder) as site:
        submit(site, load_campaign(folder / "first.yaml"), who="tester")
        conduct(site, "first")
    told += [nightmill("status", "first"), nightmill("doctor", "--deep", "--checksums")]
    assert all(called.code == 0 for called in told), told
    assert "well  flight store backbone: 65536 bytes were written, a second write was refused" in told[1].out
    names = sorted(path.name for path in far.rglob("*") if path.is_file())
    assert "cam_0001.fits" in names
    assert len(names) == 4, names  # and what the campaign made: its bundle, a count, a log
    assert not list(far.rglob("*.part"))
    told[-1] = nightmill("show", "first/count/exposure=1", "--order")
    assert str(far) in told[-1].out


def test_files_that_a_web_server_offers_are_inputs(
    folder: Path, nightmill: Nightmill, tmp_path: Path, web: Web
) -> None:
    """A local copy of a file that lies there tells what it is; its bytes are compared, and come from there."""
    prepare(folder, more=f'\n  archive:\n    url: "{web.url}/data"')
    [path] = deliver(tmp_path / "night", 1)[:1]
    assert nightmill("init", folder).code == 0
    into = ("--store", "archive", *RAW)
    refused = nightmill("ingest", path, *into)
    assert refused.code != 0
    assert "a store over HTTP is read-only" in refused.out + refused.err
    web.files["/data/raw/20260110/cam_0001.fits"] = path.read_bytes()[:-1] + b"x"
    other = nightmill("ingest", path, *into)
    assert other.code == 1
    assert "store 'archive' holds other bytes as 'raw/20260110/cam_0001.fits'" in other.out + other.err
    web.files["/data/raw/20260110/cam_0001.fits"] = path.read_bytes()
    assert nightmill("ingest", path, *into).out.startswith("1 registered")
    path.unlink()
    web.seen.clear()
    with open_site(folder) as site:
        submit(site, load_campaign(folder / "first.yaml"), who="tester")
        conduct(site, "first")
    assert ("GET", "/data/raw/20260110/cam_0001.fits", "") in web.seen
    assert nightmill("status", "first").code == 0
    flown = nightmill("doctor", "--flight")
    assert flown.code == 0, flown
    assert "well  flight store archive: it answers; it can be read and not written" in flown.out
    assert "nightmill-flight-" in "".join(path for method, path, _range in web.seen if method == "HEAD")
    assert nightmill("doctor", "--deep", "--checksums").code == 0
    web.files["/data/raw/20260110/cam_0001.fits"] += b"more"
    deep = nightmill("doctor", "--deep")
    assert deep.code == 1
    assert "archive:raw/20260110/cam_0001.fits" in deep.out
    web.files.clear()
    assert "is not there, and was when it was seen last" in nightmill("doctor", "--deep").out


def test_files_of_an_archive_with_folders_and_names_of_its_own(
    folder: Path, nightmill: Nightmill, tmp_path: Path, web: Web
) -> None:
    prepare(folder, more=f'\n  archive:\n    url: "{web.url}/data"')
    [path] = deliver(tmp_path / "night", 1)
    path = path.rename(path.with_name("frame 1 (best).fits"))
    web.files["/data/2026/jan 10/frame 1 (best).fits"] = path.read_bytes()
    assert nightmill("init", folder).code == 0
    into = ("--store", "archive", "--folder", "2026/jan 10/")
    why = ("--origin", "manual", "--provenance", "from the archive")
    assert nightmill("ingest", path, *into, "--type", "raw_science", *why).out.startswith("1 registered")
    assert "2026/jan 10/frame 1 (best).fits" in nightmill("sql", "SELECT path FROM file_location").out


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--folder", "../else"), "--folder '../else' is not a path inside of store 'backbone'"),
        (("--folder", "/else"), "--folder '/else' is not a path inside of store 'backbone'"),
        (("--folder", "a", "--mode", "in-place"), "registered in place goes to no folder; leave --folder away"),
    ],
)
def test_a_folder_that_cannot_be_meant(
    folder: Path, nightmill: Nightmill, tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    deliver(tmp_path / "night", 1)
    called = nightmill("ingest", tmp_path / "night", *RAW, *options)
    assert (called.code, told in called.err) == (2, True), called
    assert nightmill("ingest", tmp_path / "night", *RAW, "--folder", "mine").code == 0
    assert (folder / "stores/backbone/mine/cam_0001.fits").is_file()


def test_nothing_is_planned_to_go_to_a_store_that_is_read_only(
    folder: Path, nightmill: Nightmill, tmp_path: Path, web: Web
) -> None:
    prepare(folder, more=f'\n  archive:\n    url: "{web.url}/data"')
    text = (folder / "pipeline.yaml").read_text()
    assert "count: {type: count}" in text
    (folder / "pipeline.yaml").write_text(text.replace("{type: count}", "{type: count, to: archive}"))
    assert nightmill("init", folder).code == 0
    take_in(nightmill, tmp_path / "night", 1)
    planned = nightmill("plan", folder / "first.yaml")
    assert planned.code == 2
    assert "it goes to store 'archive', which is read-only; send it to another" in planned.err
